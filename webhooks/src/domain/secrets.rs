//! The secrets of one endpoint. A new one signs at once; the one before signs along until it expires, so that a
//! receiver can change over without losing a webhook.

use money::Timestamp;
use serde::{Deserialize, Serialize};

/// The most secrets that sign at the same time.
pub const SECRETS_MAX: usize = 3;
/// The longest that a replaced secret may sign along, in seconds: 30 days.
pub const OVERLAP_S_MAX: u32 = 30 * 86_400;

/// One secret, in whatever form it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dated<S> {
    /// The secret.
    pub secret: S,
    /// Since when it signs.
    pub created_at: Timestamp,
    /// Until when, once it has been replaced.
    pub expires_at: Option<Timestamp>,
}

/// The secrets of an endpoint, the newest first. The newest does not expire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Dated<S>>", bound(deserialize = "S: Deserialize<'de>"))]
pub struct Secrets<S>(Vec<Dated<S>>);

/// Why a secret was not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// Too many sign.
    #[error(
        "has {SECRETS_MAX} secrets already: wait until one expires, or end the others at once with an overlap of 0"
    )]
    TooMany,
    /// The old one would sign for too long.
    #[error("must be at most {OVERLAP_S_MAX} seconds")]
    Overlap,
}

/// What was kept is not what this module makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {SECRETS_MAX} secrets, of which the first alone does not expire")]
pub struct SecretsError;

impl<S> TryFrom<Vec<Dated<S>>> for Secrets<S> {
    type Error = SecretsError;

    /// As they were kept, the newest first.
    fn try_from(all: Vec<Dated<S>>) -> Result<Self, SecretsError> {
        let expires = |dated: &Dated<S>| dated.expires_at.is_some();
        let legal = all.len() <= SECRETS_MAX
            && all.first().is_some_and(|newest| !expires(newest))
            && all.iter().skip(1).all(expires);
        if legal { Ok(Self(all)) } else { Err(SecretsError) }
    }
}

impl<S> Secrets<S> {
    /// One secret, which signs from now on.
    pub fn new(secret: S, now: Timestamp) -> Self {
        Self(vec![Dated { secret, created_at: now, expires_at: None }])
    }

    /// All of them, the newest first, also those that have expired since the last change.
    pub fn all(&self) -> &[Dated<S>] {
        &self.0
    }

    /// Those that sign, the newest first.
    pub fn signing(&self, now: Timestamp) -> impl Iterator<Item = &S> {
        let signs = move |dated: &&Dated<S>| dated.expires_at.is_none_or(|end| now < end);
        self.0.iter().filter(signs).map(|dated| &dated.secret)
    }

    /// Signs with this one from now on, and with the one before for `overlap_s` seconds more. With 0 that one and all
    /// others end at once: for a secret that somebody else has got hold of.
    pub fn rotate(&mut self, secret: S, now: Timestamp, overlap_s: u32) -> Result<(), RotationError> {
        if overlap_s > OVERLAP_S_MAX {
            return Err(RotationError::Overlap);
        }
        let signing = self.0.iter().filter(|dated| dated.expires_at.is_none_or(|end| now < end)).count();
        if overlap_s > 0 && signing >= SECRETS_MAX {
            return Err(RotationError::TooMany);
        }
        let end = now.checked_add_seconds(overlap_s.into()).unwrap_or(now);
        for dated in &mut self.0 {
            // One that was to end earlier still does.
            dated.expires_at = Some(dated.expires_at.map_or(end, |earlier| earlier.min(end)));
        }
        self.0.retain(|dated| dated.expires_at.is_some_and(|end| now < end));
        self.0.insert(0, Dated { secret, created_at: now, expires_at: None });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    fn signing(secrets: &Secrets<char>, second: i64) -> String {
        secrets.signing(at(second)).collect()
    }

    #[test]
    fn the_new_one_signs_at_once_and_the_old_one_until_it_expires() {
        let mut secrets = Secrets::new('a', at(0));
        assert_eq!(signing(&secrets, 1_000_000), "a");
        secrets.rotate('b', at(100), 50).unwrap();
        assert_eq!((signing(&secrets, 100), signing(&secrets, 149)), ("ba".into(), "ba".into()));
        assert_eq!(signing(&secrets, 150), "b");
        secrets.rotate('c', at(120), 100).unwrap();
        assert_eq!(signing(&secrets, 120), "cba");
        assert_eq!(signing(&secrets, 150), "cb", "a still ends when it was to");
        assert_eq!(secrets.rotate('d', at(149), 1), Err(RotationError::TooMany));
        assert_eq!(signing(&secrets, 149), "cba", "a refusal changes nothing");
        secrets.rotate('d', at(150), 10).unwrap();
        assert_eq!(
            (signing(&secrets, 150), secrets.all().len()),
            ("dcb".into(), 3),
            "what expired is forgotten"
        );
    }

    #[test]
    fn without_overlap_all_others_end_at_once() {
        let mut secrets = Secrets::new('a', at(0));
        secrets.rotate('b', at(1), 100).unwrap();
        secrets.rotate('c', at(2), 100).unwrap();
        secrets.rotate('d', at(3), 0).unwrap();
        assert_eq!((signing(&secrets, 3), secrets.all().len()), ("d".into(), 1));
        assert_eq!(secrets.rotate('e', at(3), OVERLAP_S_MAX + 1), Err(RotationError::Overlap));
    }

    #[test]
    fn what_was_kept_is_checked() {
        let dated = |expires| Dated { secret: 'a', created_at: at(0), expires_at: expires };
        let (end, none) = (Some(at(9)), None);
        let restore = |ends: &[Option<Timestamp>]| {
            let all: Vec<_> = ends.iter().map(|&end| dated(end)).collect();
            let read = serde_json::from_value::<Secrets<char>>(serde_json::to_value(&all).unwrap()).ok();
            assert_eq!(read, Secrets::try_from(all).ok());
            read
        };
        assert!(restore(&[none]).is_some() && restore(&[none, end, end]).is_some());
        for wrong in [&[][..], &[end], &[none, none], &[end, none], &[none, end, end, end]] {
            assert!(restore(wrong).is_none(), "{wrong:?}");
        }
    }
}
