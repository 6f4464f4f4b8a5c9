//! A key's life, from the file's side and from the edge's.

use super::*;
use crate::auth::keys::{
    KeyFileError, KeyState, NewKey, SignatureRecord, Time,
    file::{FreshKey, KeyFile},
};

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(NOW + seconds)
}

fn pepper() -> Pepper {
    Pepper::new(&[1; 32])
}

fn new(name: &str) -> NewKey {
    NewKey {
        tenant: "acme".parse().unwrap(),
        name: name.into(),
        scopes: vec!["payments:*".parse().unwrap()],
        not_before: None,
        expires: None,
        signature: None,
    }
}

fn create(file: &mut KeyFile, change: impl FnOnce(&mut NewKey)) -> FreshKey {
    let mut key = new("app");
    change(&mut key);
    file.create(key, &pepper(), at(0)).unwrap()
}

/// What the edge says, after the file was written and read.
fn found(file: &KeyFile, key: &str, seconds: i64) -> Result<String, Refused> {
    let file = KeyFile::parse(&file.to_text().unwrap()).unwrap();
    let ring = KeyRing::new(&file, pepper()).unwrap();
    ring.find(key, at(seconds)).map(|found| found.key.tenant.to_string())
}

#[test]
fn a_key_is_known_by_its_secret_and_nothing_of_it_is_in_the_file() {
    let mut file = KeyFile::default();
    let (one, two) = (create(&mut file, |_| {}), create(&mut file, |_| {}));
    assert_eq!(found(&file, &one.key, 0), Ok("acme".into()));
    let text = file.to_text().unwrap();
    let secret = &one.key[text::PREFIX.len() + 17..];
    assert!(!text.contains(secret) && !format!("{file:?}").contains(secret));
    // The id of one and the secret of the other, with the right checksum.
    let id: KeyId = two.record.id.parse().unwrap();
    let other = text::fresh_key(id).unwrap();
    assert_eq!(found(&file, &other, 0), Err(Refused::Unknown(id)));
    let nobody = text::fresh_key(text::fresh_id().unwrap()).unwrap();
    assert!(matches!(found(&file, &nobody, 0), Err(Refused::Unknown(_))));
    assert_eq!(found(&file, "sk_test", 0), Err(Refused::Malformed));
    let ring = KeyRing::new(&file, Pepper::new(&[2; 32])).unwrap();
    assert!(ring.find(&one.key, at(0)).is_err(), "another pepper");
}

#[test]
fn a_key_is_valid_from_its_beginning_until_its_end() {
    let mut file = KeyFile::default();
    let time = |seconds| Some(Time::of(at(seconds)));
    let fresh = create(&mut file, |key| (key.not_before, key.expires) = (time(10), time(20)));
    let at = |seconds| found(&file, &fresh.key, seconds);
    assert_eq!(at(9), Err(Refused::NotYetValid));
    assert_eq!(at(10), Ok("acme".into()));
    assert_eq!(at(19), Ok("acme".into()));
    assert_eq!(at(20), Err(Refused::Expired));
}

#[test]
fn a_rotated_key_has_two_secrets_for_a_while() {
    let mut file = KeyFile::default();
    let old = create(&mut file, |_| {});
    let id = old.record.id.clone();
    let young = file.rotate(&id, 100, &pepper(), at(5)).unwrap();
    assert_eq!(young.record.id, id);
    assert_eq!(young.record.overlap_until(at(6)), Some(Time::of(at(105))));
    for (seconds, key, expected) in [
        (6, &old.key, Ok("acme".into())),
        (6, &young.key, Ok("acme".into())),
        (104, &old.key, Ok("acme".into())),
        (105, &old.key, Err(Refused::Rotated)),
        (105, &young.key, Ok("acme".into())),
    ] {
        assert_eq!(found(&file, key, seconds), expected, "{seconds}");
    }
    // A later rotation does not prolong an earlier one, and may end it.
    let youngest = file.rotate(&id, 1_000, &pepper(), at(50)).unwrap();
    assert_eq!(found(&file, &old.key, 105), Err(Refused::Rotated));
    assert_eq!(found(&file, &young.key, 1_049), Ok("acme".into()));
    file.rotate(&id, 0, &pepper(), at(60)).unwrap();
    for key in [&old.key, &young.key, &youngest.key] {
        assert!(matches!(found(&file, key, 60), Err(Refused::Unknown(_))));
    }
    for _ in 0..3 {
        file.rotate(&id, 1_000, &pepper(), at(61)).unwrap();
    }
    assert!(matches!(file.rotate(&id, 1_000, &pepper(), at(61)), Err(KeyFileError::Refused(_))), "bounded");
}

#[test]
fn a_revoked_key_is_over_for_good() {
    let mut file = KeyFile::default();
    let fresh = create(&mut file, |_| {});
    let id = fresh.record.id.clone();
    file.revoke(&id, at(3)).unwrap();
    let revoked = file.revoke(&id, at(9)).unwrap();
    assert_eq!((revoked.revoked, revoked.state(at(3))), (Some(Time::of(at(3))), KeyState::Revoked));
    assert_eq!(found(&file, &fresh.key, 3), Err(Refused::Revoked));
    assert!(matches!(file.rotate(&id, 0, &pepper(), at(4)), Err(KeyFileError::Refused(_))));
    assert!(matches!(file.revoke("aaaaaaaaaaaaaaaa", at(4)), Err(KeyFileError::Unknown(_))));
}

#[test]
fn a_signing_secret_is_the_secrets_own() {
    let hmac = SignatureRecord { algorithm: crate::auth::SignatureAlgorithm::HmacSha256, public_key: None };
    let mut file = KeyFile::default();
    let fresh = create(&mut file, |key| key.signature = Some(hmac));
    let young = file.rotate(&fresh.record.id, 10, &pepper(), at(0)).unwrap();
    let (one, two) = (fresh.signing_secret.unwrap(), young.signing_secret.unwrap());
    assert_ne!(*one, *two);
    assert!(!file.to_text().unwrap().contains(one.as_str()));
    let ring = KeyRing::new(&file, pepper()).unwrap();
    assert!(ring.find(&fresh.key, at(0)).unwrap().signing.is_some());
}

#[test]
fn files_that_cannot_be_are_refused_by_what_is_wrong_and_without_their_values() {
    let mut file = KeyFile::default();
    create(&mut file, |_| {});
    let text = file.to_text().unwrap();
    let hash = text.split("hash = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let id = file.keys()[0].id.clone();
    let twice = format!(
        "{text}{}",
        text.split_once("[[keys]]").map(|(_, rest)| format!("\n[[keys]]{rest}")).unwrap()
    );
    for wrong in [
        text.replace("version = 1", "version = 2"),
        text.replace("name = \"app\"", "name = \"\""),
        text.replace("name = \"app\"", "name = \"a\\nb\""),
        text.replace("payments:*", "payments"),
        text.replace("\"payments:*\"", ""),
        text.replace(&hash, "12"),
        text.replace(&id, "short"),
        text.replace("name =", "nam ="),
        twice,
    ] {
        assert_ne!(wrong, text);
        let error = KeyFile::parse(&wrong).unwrap_err().to_string();
        assert!(!error.contains(&hash), "{error}");
    }
    let error = |new: NewKey| KeyFile::default().create(new, &pepper(), at(0)).is_err();
    assert!(error(NewKey { scopes: Vec::new(), ..new("app") }));
    assert!(error(NewKey { expires: Some(Time::of(at(0))), ..new("app") }));
    assert!(error(new(&"x".repeat(101))));
}
