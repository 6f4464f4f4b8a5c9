//! What every store must do. An engine stamps the suite with [`suite!`] and a function that opens it
//! on a directory: opening the same directory again is a restart.

use mesh::idempotency::{Fingerprint, Reuse, Scope};
use money::{TenantId, Timestamp, TokenId};
use uuid::Uuid;

use super::{Idempotency, Put, PutCard, PutError, Store};
use crate::domain::{
    card::{Brand, Month},
    envelope::{EnvelopeError, KeyRef},
    keys::{Purpose, Slot, WrappedKey},
    rooted::{self, RootName, Stamp},
    token::{Shown, Token},
};

/// One test per promise.
macro_rules! suite {
    ($open:expr) => {
        $crate::store::contract::suite!($open;
            a_root_is_adopted_and_another_beside_it_until_it_is_settled,
            what_a_root_wraps_is_listed_once_and_in_order,
            what_a_root_wraps_is_kept_under_one_that_is_on_record_only,
            a_key_is_wrapped_anew_only_where_nobody_else_did,
            of_keys_made_at_once_one_wins,
            the_services_own_keys_are_apart_by_tenant_and_purpose,
            a_card_has_one_token_and_keeps_its_latest_expiry,
            cards_of_another_tenant_are_not_found,
            a_key_replays_its_answer_and_refuses_another_request,
            what_fails_leaves_nothing,
            concurrent_puts_of_one_card_agree,
            a_card_has_at_most_one_token_of_digits_and_is_found_by_it,
            a_token_of_digits_stands_for_one_card_and_never_for_another,
            a_card_without_a_token_of_digits_is_not_kept_at_all,
            a_deleted_card_is_gone_under_both_names_and_comes_back_as_another,
            deleting_again_says_so_and_touches_nobody_elses,
            deletions_answer_in_the_order_asked,
            a_named_key_reads_back_whatever_becomes_of_it,
            of_changes_of_one_key_at_once_one_is_kept,
            named_keys_are_listed_by_name_and_tenant,
            what_is_due_is_found_the_longest_due_first,
            every_change_is_told_once_with_its_newest_number,
        );
    };
    (audit: $open:expr) => {
        $crate::store::contract::suite!($open;
            what_is_appended_is_one_chain,
            an_append_that_does_not_find_what_was_kept_is_refused,
            what_is_done_with_a_key_is_counted_with_its_record,
            records_are_found_by_number_and_time,
            appends_at_once_make_one_chain,
        );
    };
    ($open:expr; $($name:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let dir = tempfile::tempdir().unwrap();
            $crate::store::contract::$name(|| $open(dir.path())).await;
        }
    )+};
}
pub(crate) use suite;

mod audit;
mod cards;
mod named;
mod root;
pub(crate) use audit::*;
pub(crate) use cards::*;
pub(crate) use named::*;
pub(crate) use root::*;

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn token(n: u128) -> TokenId {
    TokenId::new(Uuid::from_u128(n))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn shown(exp_year: i32) -> Shown {
    Shown {
        brand: Brand::Visa,
        bin: "424242".into(),
        last4: "4242".into(),
        expiry: Month { year: exp_year, month: 3 },
        fingerprint: "00ff".into(),
    }
}

fn put(tag: u8, new_id: TokenId, exp_year: i32, now: i64) -> PutCard {
    PutCard {
        tenant: tenant("acme"),
        index_tag: [tag; 32],
        new_id,
        shown: shown(exp_year),
        seal: Box::new(move |id| Ok([id.uuid().as_bytes().as_slice(), &exp_year.to_be_bytes()].concat())),
        digits: None,
        now: at(now),
        idempotency: None,
    }
}

fn scope(key: &str) -> Scope {
    Scope { tenant: tenant("acme"), rpc: "Tokenize", key: key.parse().unwrap() }
}

fn with_key(put: PutCard, key: &str, fingerprint: Fingerprint) -> PutCard {
    let answer = |token: &Token| format!("{} {}", token.id, token.shown.expiry.year).into_bytes();
    PutCard { idempotency: Some(Idempotency { scope: scope(key), fingerprint, answer }), ..put }
}

fn key(n: u8, version: u32) -> WrappedKey {
    WrappedKey { reference: KeyRef { id: Uuid::from_u128(n.into()), version }, wrapped: vec![n; 40] }
}

fn root(name: &str) -> RootName {
    RootName::parse(name).unwrap()
}

/// As a root keeps it.
fn wrapped_by(root: &RootName, n: u8) -> WrappedKey {
    let stamp = Stamp::new(root.clone(), "1").unwrap();
    WrappedKey { wrapped: rooted::encode(&stamp, &[n; 40]), ..key(n, 1) }
}

pub(crate) async fn of_keys_made_at_once_one_wins<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let slot = Slot::own(tenant("acme"), Purpose::Card);
    let (a, b) = tokio::join!(
        store.make_key(slot.clone(), key(1, 1), at(1)),
        store.make_key(slot.clone(), key(2, 1), at(1)),
    );
    let winner = a.unwrap();
    assert_eq!(winner.len(), 1);
    assert_eq!(b.unwrap(), winner);
    drop(store);
    assert_eq!(open().key(slot).await.unwrap(), winner);
}

pub(crate) async fn the_services_own_keys_are_apart_by_tenant_and_purpose<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let slots = [
        Slot::own(tenant("acme"), Purpose::Card),
        Slot::own(tenant("acme"), Purpose::CardIndex),
        Slot::own(tenant("other"), Purpose::Card),
        Slot::own(tenant("other"), Purpose::CardIndex),
    ];
    for (n, slot) in (1..).zip(&slots) {
        assert_eq!(store.key(slot.clone()).await.unwrap(), []);
        store.make_key(slot.clone(), key(n, 1), at(1)).await.unwrap();
    }
    for (n, slot) in (1..).zip(&slots) {
        assert_eq!(store.key(slot.clone()).await.unwrap(), [key(n, 1)]);
    }
}

pub(crate) async fn a_card_has_one_token_and_keeps_its_latest_expiry<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let first = Token { id: token(1), digits: None, shown: shown(2030), created_at: at(1) };
    assert_eq!(store.put_card(put(7, token(1), 2030, 1)).await.unwrap(), Put::Stored(first));
    let again = Token { id: token(1), digits: None, shown: shown(2031), created_at: at(1) };
    assert_eq!(store.put_card(put(7, token(2), 2031, 2)).await.unwrap(), Put::Stored(again.clone()));
    let other = store.put_card(put(8, token(3), 2030, 3)).await.unwrap();
    assert_eq!(
        other,
        Put::Stored(Token { id: token(3), digits: None, shown: shown(2030), created_at: at(3) })
    );

    drop(store);
    let ids = [3, 2, 1, 1].map(|n| (tenant("acme"), token(n).into())).to_vec();
    let found = open().cards(ids).await.unwrap();
    let tokens: Vec<_> = found.iter().map(|card| card.as_ref().map(|card| card.token.id)).collect();
    assert_eq!(tokens, [Some(token(3)), None, Some(token(1)), Some(token(1))]);
    let kept = found.into_iter().nth(2).flatten().unwrap();
    assert_eq!(kept.token, again);
    assert_eq!(kept.sealed, [token(1).uuid().as_bytes().as_slice(), &2031i32.to_be_bytes()].concat());
}

pub(crate) async fn cards_of_another_tenant_are_not_found<S: Store>(open: impl Fn() -> S) {
    let store = open();
    store.put_card(put(7, token(1), 2030, 1)).await.unwrap();
    assert_eq!(store.cards(vec![(tenant("other"), token(1).into())]).await.unwrap(), [None]);
    let theirs = PutCard { tenant: tenant("other"), ..put(7, token(2), 2030, 2) };
    let Put::Stored(stored) = store.put_card(theirs).await.unwrap() else { panic!("no key was given") };
    assert_eq!(stored.id, token(2), "the same card of another tenant is another card");
    assert_eq!(store.cards(Vec::new()).await.unwrap(), []);
}

pub(crate) async fn a_key_replays_its_answer_and_refuses_another_request<S: Store>(open: impl Fn() -> S) {
    let store = open();
    assert_eq!(store.replay(scope("k"), [1; 32]).await.unwrap(), None);
    let first = store.put_card(with_key(put(7, token(1), 2030, 1), "k", [1; 32])).await.unwrap();
    assert!(matches!(first, Put::Stored(_)));
    // Meanwhile the card changes: the answer of then is given all the same.
    store.put_card(put(7, token(2), 2035, 2)).await.unwrap();
    drop(store);

    let store = open();
    let answer = format!("{} 2030", token(1)).into_bytes();
    let again = store.put_card(with_key(put(7, token(3), 2030, 3), "k", [1; 32])).await.unwrap();
    assert_eq!(again, Put::Replayed(answer.clone()));
    assert_eq!(store.replay(scope("k"), [1; 32]).await.unwrap(), Some(answer));
    let other = store.put_card(with_key(put(8, token(4), 2030, 4), "k", [2; 32])).await;
    assert!(matches!(other, Err(PutError::Reuse(Reuse::OtherRequest))));
    assert!(matches!(store.replay(scope("k"), [2; 32]).await, Err(Reuse::OtherRequest)));

    let kept = store.cards([1, 4].map(|n| (tenant("acme"), token(n).into())).to_vec()).await.unwrap();
    assert_eq!(kept[0].as_ref().unwrap().token.shown.expiry.year, 2035, "a replay changes nothing");
    assert_eq!(kept[1], None);
}

pub(crate) async fn what_fails_leaves_nothing<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let failing = PutCard { seal: Box::new(|_| Err(EnvelopeError)), ..put(7, token(1), 2030, 1) };
    let failed = store.put_card(with_key(failing, "k", [1; 32])).await;
    assert!(matches!(failed, Err(PutError::Seal(EnvelopeError))));
    assert_eq!(store.cards(vec![(tenant("acme"), token(1).into())]).await.unwrap(), [None]);
    // Neither the index nor the key remembers it.
    let stored = store.put_card(with_key(put(7, token(2), 2030, 1), "k", [9; 32])).await.unwrap();
    assert_eq!(
        stored,
        Put::Stored(Token { id: token(2), digits: None, shown: shown(2030), created_at: at(1) })
    );
}

pub(crate) async fn concurrent_puts_of_one_card_agree<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let puts = (1..=32).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.put_card(put(7, token(n), 2030, 1)).await.unwrap() })
    });
    let mut ids = Vec::new();
    for put in puts.collect::<Vec<_>>() {
        let Put::Stored(stored) = put.await.unwrap() else { panic!("no key was given") };
        ids.push(stored.id);
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}
