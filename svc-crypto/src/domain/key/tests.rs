//! The life of a key, command by command, and under any sequence of commands.

use proptest::prelude::*;

use super::*;
use crate::domain::algorithm::Use;

const HOUR: Duration = Duration::from_secs(3600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn version(version: u32) -> NewVersion {
    NewVersion { version, imported: false, wrapped: vec![7; 3], public_key: Vec::new() }
}

fn new(rotation_period: Option<Duration>) -> NewKey {
    NewKey {
        tenant: "acme".parse().unwrap(),
        name: KeyName::parse("orders").unwrap(),
        id: uuid::Uuid::from_u128(1),
        algorithm: Algorithm::Aes256Gcm,
        rotation_period,
        first: version(1),
    }
}

fn key() -> Key {
    Key::create(new(None), at(0)).unwrap()
}

#[test]
fn a_rotation_adds_the_newest_and_keeps_the_others() {
    let rotated = key().rotate(Some(1), version(2), at(5)).unwrap();
    assert_eq!((rotated.newest_version(), rotated.versions.len(), rotated.revision), (2, 2, 2));
    assert_eq!(rotated.making(0), Ok(2));
    assert_eq!(rotated.making(1), Ok(1));
    assert_eq!(rotated.undoing(1), Ok(1));
    assert_eq!(rotated.undoing(3), Err(UseError::NoVersion));
    assert_eq!(rotated.undoing(0), Err(UseError::NoVersion));
}

#[test]
fn a_rotation_that_came_second_is_refused() {
    let rotated = key().rotate(None, version(2), at(5)).unwrap();
    assert_eq!(rotated.rotate(Some(1), version(3), at(6)), Err(ChangeError::NotExpected { newest: 2 }));
    assert_eq!(rotated.rotate(None, version(2), at(6)), Err(ChangeError::Overtaken));
}

#[test]
fn the_least_version_only_rises() {
    let key = key().rotate(None, version(2), at(1)).unwrap().rotate(None, version(3), at(2)).unwrap();
    let raised = key.set_min_decrypt_version(2).unwrap();
    assert_eq!(raised.undoing(1), Err(UseError::TooOld));
    assert_eq!(raised.making(1), Err(UseError::TooOld));
    assert_eq!(raised.undoing(2), Ok(2));
    for wrong in [0, 1, 4] {
        assert_eq!(
            raised.set_min_decrypt_version(wrong),
            Err(ChangeError::MinDecryptVersion { min: 2, max: 3 })
        );
    }
}

#[test]
fn what_is_out_of_use_does_nothing_until_it_is_enabled() {
    let disabled = key().disable().unwrap();
    assert_eq!(disabled.usable(Verb::Encrypt), Err(UseError::NotEnabled));
    assert_eq!(disabled.disable().unwrap(), disabled, "once is enough");
    let enabled = disabled.enable().unwrap();
    assert_eq!(enabled.usable(Verb::Encrypt), Ok(()));
    assert_eq!(enabled.revision, 3);
}

#[test]
fn a_key_serves_the_verbs_of_its_use_only() {
    for &verb in Verb::ALL {
        let serves = verb.usage().is_none_or(|usage| usage == Use::Encrypt);
        assert_eq!(key().usable(verb).is_ok(), serves, "{verb:?}");
    }
}

#[test]
fn destruction_waits_and_can_be_taken_back() {
    let given_up = key().schedule_destruction(None, at(0)).unwrap();
    let due = after(at(0), WAITING_PERIOD_DEFAULT);
    assert_eq!(given_up.state, State::PendingDestruction { at: due });
    assert_eq!(given_up.usable(Verb::Decrypt), Err(UseError::NotEnabled));
    assert_eq!(given_up.enable(), Err(ChangeError::State("to be destroyed")));
    assert_eq!(given_up.schedule_destruction(None, at(9)).unwrap(), given_up, "the first word holds");
    assert_eq!(given_up.destroy_if_due(Timestamp::from_nanos(due.as_nanos() - 1)), None);

    let kept = given_up.cancel_destruction().unwrap();
    assert_eq!(kept.state, State::Disabled);
    assert_eq!(kept.destroy_if_due(due), None);

    let destroyed = given_up.destroy_if_due(due).unwrap();
    assert!(destroyed.versions.iter().all(|version| version.wrapped.is_empty()));
    assert_eq!(destroyed.due_at(), None);
    for refused in
        [destroyed.enable(), destroyed.cancel_destruction(), destroyed.rotate(None, version(2), due)]
    {
        assert_eq!(refused, Err(ChangeError::State("destroyed")));
    }
}

#[test]
fn periods_have_bounds() {
    let wrong = [Duration::from_secs(3599), ROTATION_PERIOD_MAX + HOUR];
    for period in wrong {
        assert!(matches!(Key::create(new(Some(period)), at(0)), Err(ChangeError::Period { .. })));
        assert!(matches!(key().set_rotation_period(Some(period)), Err(ChangeError::Period { .. })));
    }
    for waiting in [HOUR, WAITING_PERIOD_MAX + HOUR] {
        let refused = key().schedule_destruction(Some(waiting), at(0));
        assert!(matches!(refused, Err(ChangeError::Period { field: "waiting_period", .. })));
    }
}

#[test]
fn a_key_is_rotated_when_its_newest_version_is_old() {
    let key = Key::create(new(Some(HOUR)), at(0)).unwrap();
    assert_eq!(key.due_at(), Some(at(3600)));
    assert_eq!(key.rotate_if_due(version(2), at(3599)), None);
    let rotated = key.rotate_if_due(version(2), at(3600)).unwrap().unwrap();
    assert_eq!(rotated.due_at(), Some(at(7200)));
    assert_eq!(rotated.disable().unwrap().due_at(), None, "what is not used is not rotated");
}

proptest! {
    /// Whatever is done to a key: its versions are 1, 2, 3 and so on, revisions rise by one or the key is the
    /// same, nothing leads out of destruction, and the least version is one that there is.
    #[test]
    fn no_command_breaks_a_key(commands in proptest::collection::vec((0u8..8, 0u32..5), 1..40)) {
        let mut key = Key::create(new(Some(HOUR)), at(0)).unwrap();
        for (step, (command, argument)) in commands.into_iter().enumerate() {
            let now = at(i64::try_from(step).unwrap() * 86_400);
            let next = match command {
                0 => key.rotate(None, version(key.newest_version() + 1), now),
                1 => key.rotate(Some(argument), version(key.newest_version() + 1), now),
                2 => key.set_min_decrypt_version(argument),
                3 => key.disable(),
                4 => key.enable(),
                5 => key.schedule_destruction(Some(WAITING_PERIOD_MIN), now),
                6 => key.cancel_destruction(),
                _ => Ok(key.destroy_if_due(now).unwrap_or_else(|| key.clone())),
            };
            let Ok(next) = next else { continue };
            prop_assert!(next == key || next.revision == key.revision + 1);
            let ended = matches!(key.state, State::Destroyed { .. });
            prop_assert!(!ended || next == key);
            let numbers: Vec<u32> = next.versions.iter().map(|version| version.version).collect();
            prop_assert_eq!(numbers, (1..=next.newest_version()).collect::<Vec<_>>());
            prop_assert!((1..=next.newest_version()).contains(&next.min_decrypt_version));
            prop_assert!(next.min_decrypt_version >= key.min_decrypt_version);
            key = next;
        }
    }
}
