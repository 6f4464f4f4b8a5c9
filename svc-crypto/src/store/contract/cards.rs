//! What every store promises of tokens of digits and of cards that are deleted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use money::{DigitToken, TokenRef};

use super::{at, put, shown, tenant, token, with_key};
use crate::{
    domain::token::Token,
    store::{Deletion, Put, PutCard, PutError, Store, StoredCard},
};

fn digits(text: &str) -> DigitToken {
    text.parse().unwrap()
}

/// The same card, asked for with a token of digits; these are drawn in turn, `""` for a draw that makes none. The
/// last comes again and again. Counts the draws.
fn drawing(put: PutCard, draws: &'static [&'static str]) -> (PutCard, Arc<AtomicUsize>) {
    let drawn = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&drawn);
    let draw = move || {
        let n = count.fetch_add(1, Ordering::SeqCst).min(draws.len() - 1);
        Ok(draws[n].parse().ok())
    };
    (PutCard { digits: Some(Box::new(draw)), ..put }, drawn)
}

async fn stored<S: Store>(store: &S, put: PutCard) -> Token {
    match store.put_card(put).await.unwrap() {
        Put::Stored(token) => token,
        Put::Replayed(_) => panic!("no key was given"),
    }
}

async fn find<S: Store>(store: &S, of: &str, token: impl Into<TokenRef>) -> Option<StoredCard> {
    store.cards(vec![(tenant(of), token.into())]).await.unwrap().remove(0)
}

async fn delete<S: Store>(store: &S, of: &str, token: impl Into<TokenRef>) -> Deletion {
    store.delete_cards(vec![(tenant(of), token.into())], at(9)).await.unwrap().remove(0)
}

const FIRST: &str = "0111111111114242";
const SECOND: &str = "0222222222224242";

pub(crate) async fn a_card_has_at_most_one_token_of_digits_and_is_found_by_it<S: Store>(
    open: impl Fn() -> S,
) {
    let store = open();
    let opaque = stored(&store, put(7, token(1), 2030, 1)).await;
    assert_eq!(opaque.digits, None);
    let (with_digits, _) = drawing(put(7, token(2), 2031, 2), &[FIRST]);
    let both = stored(&store, with_digits).await;
    assert_eq!((both.id, both.digits, both.created_at), (token(1), Some(digits(FIRST)), at(1)));
    // From then on it has both, whichever is asked for.
    let (again, drawn) = drawing(put(7, token(3), 2031, 3), &[SECOND]);
    assert_eq!(stored(&store, again).await, both);
    assert_eq!(drawn.load(Ordering::SeqCst), 0);
    assert_eq!(stored(&store, put(7, token(4), 2031, 4)).await, both);
    drop(store);

    let store = open();
    let found = find(&store, "acme", TokenRef::Digits(digits(FIRST))).await.unwrap();
    assert_eq!(found.token, both);
    assert_eq!(Some(found), find(&store, "acme", token(1)).await);
    assert_eq!(find(&store, "acme", TokenRef::Digits(digits(SECOND))).await, None);
    assert_eq!(find(&store, "other", TokenRef::Digits(digits(FIRST))).await, None);
}

pub(crate) async fn a_token_of_digits_stands_for_one_card_and_never_for_another<S: Store>(
    open: impl Fn() -> S,
) {
    let store = open();
    let (first, _) = drawing(put(7, token(1), 2030, 1), &[FIRST]);
    stored(&store, first).await;
    let (second, drawn) = drawing(put(8, token(2), 2030, 1), &[FIRST, "", FIRST, SECOND]);
    assert_eq!(stored(&store, second).await.digits, Some(digits(SECOND)));
    assert_eq!(drawn.load(Ordering::SeqCst), 4);
    // Another tenant's are none of ours.
    let (theirs, _) = drawing(PutCard { tenant: tenant("other"), ..put(7, token(3), 2030, 1) }, &[FIRST]);
    assert_eq!(stored(&store, theirs).await.digits, Some(digits(FIRST)));
    // What a deleted card had stays its own.
    assert_eq!(delete(&store, "acme", token(1)).await, Deletion::Done(token(1)));
    drop(store);
    let store = open();
    let (third, _) = drawing(put(9, token(4), 2030, 1), &[FIRST, "0333333333334242"]);
    assert_eq!(stored(&store, third).await.digits, Some(digits("0333333333334242")));
}

pub(crate) async fn a_card_without_a_token_of_digits_is_not_kept_at_all<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let (first, _) = drawing(put(7, token(1), 2030, 1), &[FIRST]);
    stored(&store, first).await;
    let (second, drawn) = drawing(put(8, token(2), 2030, 1), &[FIRST]);
    let refused = store.put_card(with_key(second, "k", [1; 32])).await;
    assert!(matches!(refused, Err(PutError::DigitsTaken)));
    assert!(drawn.load(Ordering::SeqCst) > 50, "it is not given up at once");
    assert_eq!(find(&store, "acme", token(2)).await, None);
    // Neither the index nor the key remembers it.
    let kept = store.put_card(with_key(put(8, token(3), 2030, 1), "k", [2; 32])).await.unwrap();
    assert!(matches!(kept, Put::Stored(Token { id, .. }) if id == token(3)));
}

pub(crate) async fn a_deleted_card_is_gone_under_both_names_and_comes_back_as_another<S: Store>(
    open: impl Fn() -> S,
) {
    let both = [TokenRef::Opaque(token(1)), TokenRef::Digits(digits(FIRST))];
    for (owner, name) in ["a", "b"].into_iter().zip(both) {
        let store = open();
        let card = |n: u128| PutCard { tenant: tenant(owner), ..put(7, token(n), 2030, 1) };
        let (first, _) = drawing(card(1), &[FIRST]);
        stored(&store, first).await;
        assert_eq!(delete(&store, owner, name).await, Deletion::Done(token(1)));
        drop(store);

        let store = open();
        for gone in both {
            assert_eq!(find(&store, owner, gone).await, None);
            assert_eq!(delete(&store, owner, gone).await, Deletion::Before);
        }
        let anew = Token { id: token(2), digits: None, shown: shown(2030), created_at: at(1) };
        assert_eq!(stored(&store, card(2)).await, anew);
    }
}

pub(crate) async fn deleting_again_says_so_and_touches_nobody_elses<S: Store>(open: impl Fn() -> S) {
    let store = open();
    stored(&store, put(7, token(1), 2030, 1)).await;
    stored(&store, put(8, token(2), 2030, 1)).await;
    assert_eq!(delete(&store, "other", token(1)).await, Deletion::Unknown);
    assert_eq!(delete(&store, "acme", token(3)).await, Deletion::Unknown);
    assert!(find(&store, "acme", token(1)).await.is_some());
    assert_eq!(delete(&store, "acme", token(1)).await, Deletion::Done(token(1)));
    assert_eq!(delete(&store, "acme", token(1)).await, Deletion::Before);
    assert_eq!(delete(&store, "other", token(1)).await, Deletion::Unknown);
    assert!(find(&store, "acme", token(2)).await.is_some());
}

pub(crate) async fn deletions_answer_in_the_order_asked<S: Store>(open: impl Fn() -> S) {
    let store = open();
    stored(&store, put(7, token(1), 2030, 1)).await;
    let (second, _) = drawing(put(8, token(2), 2030, 1), &[SECOND]);
    stored(&store, second).await;
    let acme = |name: TokenRef| (tenant("acme"), name);
    let second = TokenRef::Digits(digits(SECOND));
    let asked =
        vec![acme(token(3).into()), acme(second), acme(token(1).into()), acme(token(1).into()), acme(second)];
    let deleted = store.delete_cards(asked, at(2)).await.unwrap();
    let (first, second) = (Deletion::Done(token(1)), Deletion::Done(token(2)));
    assert_eq!(deleted, [Deletion::Unknown, second, first, Deletion::Before, Deletion::Before]);
    assert_eq!(store.delete_cards(Vec::new(), at(2)).await.unwrap(), []);
}
