//! Replicas that change the same at once.

use std::time::Duration;

use money::{TokenId, TokenRef};
use uuid::Uuid;

use super::{client, config, open};
use crate::{
    domain::{
        algorithm::Algorithm,
        card::{Brand, Month},
        key::{Key, NewKey, NewVersion},
        keys::KeyName,
        token::Shown,
    },
    store::{Deletion, Kept, Put, PutCard, Store},
};

fn at(seconds: i64) -> money::Timestamp {
    money::Timestamp::from_seconds(seconds)
}

fn card(tag: u8, id: u128, digits: &'static [&'static str]) -> PutCard {
    let mut draws = digits.iter().cycle();
    PutCard {
        tenant: "acme".parse().unwrap(),
        index_tag: [tag; 32],
        new_id: TokenId::new(Uuid::from_u128(id)),
        shown: Shown {
            brand: Brand::Visa,
            bin: "424242".into(),
            last4: "4242".into(),
            expiry: Month { year: 2030, month: 3 },
            fingerprint: "00ff".into(),
        },
        seal: Box::new(|id| Ok(id.uuid().as_bytes().to_vec())),
        digits: (!digits.is_empty())
            .then(|| Box::new(move || Ok(draws.next().and_then(|draw| draw.parse().ok()))) as _),
        now: at(1),
        idempotency: None,
    }
}

async fn stored(store: &impl Store, put: PutCard) -> crate::domain::token::Token {
    match store.put_card(put).await.unwrap() {
        Put::Stored(token) => token,
        Put::Replayed(_) => panic!("no key was given"),
    }
}

#[tokio::test]
async fn cards_that_draw_the_same_token_of_digits_at_once_get_different_ones() {
    const DIGITS: &[&str] = &["0111111111114242", "0222222222224242"];
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (open(dir.path()), open(dir.path()));
    for round in 0..20_u8 {
        let (of_a, of_b) = (u128::from(round) * 2 + 1, u128::from(round) * 2 + 2);
        let tenant = |put: PutCard| PutCard { tenant: format!("t{round}").parse().unwrap(), ..put };
        let (mine, theirs) = tokio::join!(
            stored(&a, tenant(card(1, of_a, DIGITS))),
            stored(&b, tenant(card(2, of_b, DIGITS)))
        );
        assert_ne!(mine.digits.unwrap(), theirs.digits.unwrap());
    }
}

#[tokio::test]
async fn a_card_that_is_put_and_deleted_at_once_is_whole_or_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (open(dir.path()), open(dir.path()));
    let acme = |token: TokenId| vec![("acme".parse().unwrap(), TokenRef::Opaque(token))];
    let mut last = stored(&a, card(1, 1, &[])).await.id;
    for n in 2..60_u128 {
        let (put, deleted) = tokio::join!(stored(&a, card(1, n, &[])), b.delete_cards(acme(last), at(2)));
        assert_eq!(deleted.unwrap(), [Deletion::Done(last)]);
        let found = a.cards(acme(put.id)).await.unwrap().remove(0);
        if put.id == last {
            // It came first, and went with the card.
            assert_eq!(found, None);
            last = stored(&a, card(1, n, &[])).await.id;
            assert_eq!(last, TokenId::new(Uuid::from_u128(n)));
        } else {
            assert_eq!(found.unwrap().sealed, put.id.uuid().as_bytes());
            last = put.id;
        }
    }
}

#[tokio::test]
async fn batches_that_delete_the_same_cards_in_opposite_order_do_not_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (open(dir.path()), open(dir.path()));
    for round in 0..10_u128 {
        let mut names = Vec::new();
        for n in 1..=20_u8 {
            let id = stored(&a, card(n, round * 100 + u128::from(n), &[])).await.id;
            names.push(("acme".parse().unwrap(), TokenRef::Opaque(id)));
        }
        let opposite = names.iter().rev().cloned().collect();
        let both = async { tokio::join!(a.delete_cards(names, at(2)), b.delete_cards(opposite, at(2))) };
        let (one, other) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        let done = [one.unwrap(), other.unwrap()].concat();
        let done = done.into_iter().filter(|deletion| matches!(deletion, Deletion::Done(_))).count();
        assert_eq!(done, 20, "each once");
    }
}

pub(super) fn key(name: &str) -> Key {
    let (tenant, name, id) = ("acme".parse().unwrap(), KeyName::parse(name).unwrap(), Uuid::nil());
    let algorithm = Algorithm::Aes256Gcm;
    let first =
        NewVersion { version: 1, imported: false, wrapped: b"wrapped".to_vec(), public_key: Vec::new() };
    Key::create(NewKey { tenant, name, id, algorithm, rotation_period: None, first }, at(1)).unwrap()
}

#[tokio::test]
async fn a_change_that_is_not_committed_yet_holds_up_those_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.keep_key(key("a")).await.unwrap();
    let mut session = client(&config(dir.path())).await;
    let slow = session.transaction().await.unwrap();
    slow.batch_execute("UPDATE last_change SET number = number + 1").await.unwrap();
    slow.batch_execute("UPDATE named_key SET change = 2, revision = 2 WHERE name = 'a'").await.unwrap();
    let other = store.clone();
    let later = tokio::spawn(async move { other.keep_key(key("b")).await.unwrap() });
    let waiting = client(&config(dir.path())).await;
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = $1";
    let name = format!("paymesh-crypto {}", config(dir.path()).schema);
    while waiting.query_one(blocked, &[&name]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(store.last_change().await.unwrap(), 1, "the later one does not overtake");
    slow.commit().await.unwrap();
    assert_eq!(later.await.unwrap(), Kept::Done);
    let changes = store.changes(1, 10).await.unwrap();
    assert_eq!(changes.iter().map(|change| change.number).collect::<Vec<_>>(), [2, 3]);
}
