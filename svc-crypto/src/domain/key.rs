//! The life of a named key: made, rotated, taken out of use, destroyed. Every change is a function of the key,
//! the command and the time; what comes out is the key's next revision, or why there is none.
//!
//! Knows neither how keys are kept nor what they do.

use std::time::Duration;

use money::{TenantId, Timestamp};

use super::{
    algorithm::{Algorithm, Verb},
    envelope::KeyRef,
    keys::{KeyName, Slot, WrappedKey},
};

/// The shortest time after which a key is rotated by itself, as in other key services.
pub const ROTATION_PERIOD_MIN: Duration = Duration::from_secs(60 * 60);
/// The longest: ten years.
pub const ROTATION_PERIOD_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// The shortest time between the word and the destruction.
pub const WAITING_PERIOD_MIN: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest.
pub const WAITING_PERIOD_MAX: Duration = Duration::from_secs(120 * 24 * 60 * 60);
/// Where none is asked for.
pub const WAITING_PERIOD_DEFAULT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The most versions of one key: daily for a century, and a bound on what one key costs in memory.
pub const VERSIONS_MAX: usize = 36_500;

/// Whether a key can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It can.
    Enabled,
    /// Not until it is enabled.
    Disabled,
    /// Not any more, unless the destruction is cancelled in time.
    PendingDestruction {
        /// When it will be destroyed.
        at: Timestamp,
    },
    /// Never again: its versions are gone.
    Destroyed {
        /// When they went.
        at: Timestamp,
    },
}

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Counted from 1.
    pub version: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// It was brought by a caller.
    pub imported: bool,
    /// The envelope around it. Empty once it is destroyed.
    pub wrapped: Vec<u8>,
    /// Of a signing key: what others check signatures with, SubjectPublicKeyInfo in DER. Else empty.
    pub public_key: Vec<u8>,
}

/// A version that was made and wrapped, but belongs to no key yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The number that it was wrapped for.
    pub version: u32,
    /// It was brought by a caller.
    pub imported: bool,
    /// The envelope.
    pub wrapped: Vec<u8>,
    /// Of a signing key.
    pub public_key: Vec<u8>,
}

/// A named key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Whose it is.
    pub tenant: TenantId,
    /// What the tenant calls it.
    pub name: KeyName,
    /// The id in every envelope that it seals.
    pub id: uuid::Uuid,
    /// What it is made with.
    pub algorithm: Algorithm,
    /// Whether it can be used.
    pub state: State,
    /// Older versions open nothing any more.
    pub min_decrypt_version: u32,
    /// How old a version gets before there is a new one.
    pub rotation_period: Option<Duration>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Oldest first; never empty.
    pub versions: Vec<Version>,
    /// Counts the changes: a change is kept only if nobody else's came first.
    pub revision: u64,
}

/// Why a key was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is a key of this name, of another algorithm.
    #[error("there is a key of this name with another algorithm")]
    OtherAlgorithm,
    /// The new version was made for a place that is taken: somebody else rotated first.
    #[error("the key was rotated by somebody else at the same time")]
    Overtaken,
    /// It was rotated since the caller looked.
    #[error("the newest version is {newest}")]
    NotExpected {
        /// The newest version.
        newest: u32,
    },
    /// A period out of bounds.
    #[error("must be from {} to {} seconds", min.as_secs(), max.as_secs())]
    Period {
        /// The field.
        field: &'static str,
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// A version that is not there, or lower than before.
    #[error("must be from {min} to {max}")]
    MinDecryptVersion {
        /// What it is now.
        min: u32,
        /// The newest.
        max: u32,
    },
    /// The state forbids it.
    #[error("the key is {0}")]
    State(&'static str),
    /// It has [`VERSIONS_MAX`] versions.
    #[error("the key has {VERSIONS_MAX} versions, the most that there can be")]
    TooManyVersions,
}

/// Why a key does not do what it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UseError {
    /// It is not for this.
    #[error("the key is for another use")]
    Purpose,
    /// It is taken out of use.
    #[error("the key is not enabled")]
    NotEnabled,
    /// It has no such version.
    #[error("the key has no such version")]
    NoVersion,
    /// The version is below the least that may be used.
    #[error("the version is below the key's least")]
    TooOld,
}

fn within(field: &'static str, period: Duration, min: Duration, max: Duration) -> Result<(), ChangeError> {
    if (min..=max).contains(&period) { Ok(()) } else { Err(ChangeError::Period { field, min, max }) }
}

fn check_rotation(period: Option<Duration>) -> Result<(), ChangeError> {
    period
        .map_or(Ok(()), |period| within("rotation_period", period, ROTATION_PERIOD_MIN, ROTATION_PERIOD_MAX))
}

/// The time after a duration. Durations here are bounded to years.
fn after(at: Timestamp, duration: Duration) -> Timestamp {
    let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(at.as_nanos().saturating_add(nanos))
}

/// What a key is made of.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose it is to be.
    pub tenant: TenantId,
    /// Its name.
    pub name: KeyName,
    /// Its id.
    pub id: uuid::Uuid,
    /// What it is made with.
    pub algorithm: Algorithm,
    /// How old a version gets.
    pub rotation_period: Option<Duration>,
    /// Its first version.
    pub first: NewVersion,
}

impl Key {
    /// A key's first revision.
    ///
    /// # Errors
    /// [`ChangeError::Period`], and [`ChangeError::Overtaken`] for a version that was not wrapped as the first.
    pub fn create(new: NewKey, now: Timestamp) -> Result<Self, ChangeError> {
        check_rotation(new.rotation_period)?;
        let first = placed(new.first, 1, now)?;
        Ok(Self {
            tenant: new.tenant,
            name: new.name,
            id: new.id,
            algorithm: new.algorithm,
            state: State::Enabled,
            min_decrypt_version: 1,
            rotation_period: new.rotation_period,
            created_at: now,
            versions: vec![first],
            revision: 1,
        })
    }

    /// Where its versions are wrapped for.
    pub fn slot(&self) -> Slot {
        Slot::named(self.tenant.clone(), self.algorithm.purpose(), self.name.clone())
    }

    /// A version as it is unwrapped.
    pub fn wrapped(&self, version: &Version) -> WrappedKey {
        let reference = KeyRef { id: self.id, version: version.version };
        WrappedKey { reference, wrapped: version.wrapped.clone() }
    }

    /// The number of the newest version.
    pub fn newest_version(&self) -> u32 {
        self.versions.last().map_or(0, |newest| newest.version)
    }

    /// When it is rotated by itself next.
    pub fn next_rotation_at(&self) -> Option<Timestamp> {
        let newest = self.versions.last()?;
        match self.state {
            State::Enabled => self.rotation_period.map(|period| after(newest.created_at, period)),
            _ => None,
        }
    }

    /// When something happens to it by itself next: a rotation or its destruction.
    pub fn due_at(&self) -> Option<Timestamp> {
        match self.state {
            State::PendingDestruction { at } => Some(at),
            _ => self.next_rotation_at(),
        }
    }

    fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next.revision += 1;
        next
    }

    /// Adds a version, which is the newest from then on. `expected`: only if that is the newest now.
    pub fn rotate(
        &self,
        expected: Option<u32>,
        version: NewVersion,
        now: Timestamp,
    ) -> Result<Self, ChangeError> {
        let newest = self.newest_version();
        if expected.is_some_and(|expected| expected != newest) {
            return Err(ChangeError::NotExpected { newest });
        }
        self.refuse_ended()?;
        if self.versions.len() >= VERSIONS_MAX {
            return Err(ChangeError::TooManyVersions);
        }
        let version = placed(version, newest + 1, now)?;
        Ok(self.changed(|next| next.versions.push(version)))
    }

    /// The same at the key's own time; `None` if that is not yet.
    pub fn rotate_if_due(&self, version: NewVersion, now: Timestamp) -> Option<Result<Self, ChangeError>> {
        self.next_rotation_at().is_some_and(|at| at <= now).then(|| self.rotate(None, version, now))
    }

    /// Raises the least version that opens anything.
    pub fn set_min_decrypt_version(&self, version: u32) -> Result<Self, ChangeError> {
        let (min, max) = (self.min_decrypt_version, self.newest_version());
        if !(min..=max).contains(&version) {
            return Err(ChangeError::MinDecryptVersion { min, max });
        }
        self.refuse_ended()?;
        Ok(self.changed(|next| next.min_decrypt_version = version))
    }

    /// Sets how old a version gets, or that it is rotated by hand only.
    pub fn set_rotation_period(&self, period: Option<Duration>) -> Result<Self, ChangeError> {
        check_rotation(period)?;
        self.refuse_ended()?;
        Ok(self.changed(|next| next.rotation_period = period))
    }

    /// Takes it out of use. One that is already is left as it is.
    pub fn disable(&self) -> Result<Self, ChangeError> {
        self.refuse_ended()?;
        Ok(if self.state == State::Disabled {
            self.clone()
        } else {
            self.changed(|next| next.state = State::Disabled)
        })
    }

    /// Puts it back into use.
    pub fn enable(&self) -> Result<Self, ChangeError> {
        self.refuse_ended()?;
        Ok(if self.state == State::Enabled {
            self.clone()
        } else {
            self.changed(|next| next.state = State::Enabled)
        })
    }

    /// Takes it out of use and says when it will be destroyed. Said again, the first time holds.
    pub fn schedule_destruction(
        &self,
        waiting: Option<Duration>,
        now: Timestamp,
    ) -> Result<Self, ChangeError> {
        let waiting = waiting.unwrap_or(WAITING_PERIOD_DEFAULT);
        within("waiting_period", waiting, WAITING_PERIOD_MIN, WAITING_PERIOD_MAX)?;
        match self.state {
            State::PendingDestruction { .. } => Ok(self.clone()),
            State::Destroyed { .. } => Err(ChangeError::State("destroyed")),
            State::Enabled | State::Disabled => {
                let at = after(now, waiting);
                Ok(self.changed(|next| next.state = State::PendingDestruction { at }))
            }
        }
    }

    /// Keeps it after all, out of use. One that is not to be destroyed is left as it is.
    pub fn cancel_destruction(&self) -> Result<Self, ChangeError> {
        match self.state {
            State::PendingDestruction { .. } => Ok(self.changed(|next| next.state = State::Disabled)),
            State::Destroyed { .. } => Err(ChangeError::State("destroyed")),
            State::Enabled | State::Disabled => Ok(self.clone()),
        }
    }

    /// Takes its versions away, once its time has come; `None` before, and for a key that nobody gave up.
    pub fn destroy_if_due(&self, now: Timestamp) -> Option<Self> {
        let State::PendingDestruction { at } = self.state else { return None };
        (at <= now).then(|| {
            self.changed(|next| {
                next.state = State::Destroyed { at: now };
                next.versions.iter_mut().for_each(|version| version.wrapped.clear());
            })
        })
    }

    fn refuse_ended(&self) -> Result<(), ChangeError> {
        match self.state {
            State::Enabled | State::Disabled => Ok(()),
            State::PendingDestruction { .. } => Err(ChangeError::State("to be destroyed")),
            State::Destroyed { .. } => Err(ChangeError::State("destroyed")),
        }
    }

    /// Whether a verb may use the key now.
    pub fn usable(&self, verb: Verb) -> Result<(), UseError> {
        if verb.usage().is_some_and(|usage| usage != self.algorithm.usage()) {
            return Err(UseError::Purpose);
        }
        if self.state == State::Enabled { Ok(()) } else { Err(UseError::NotEnabled) }
    }

    /// The version that something is made with: the one asked for, or the newest for 0.
    pub fn making(&self, asked: u32) -> Result<u32, UseError> {
        match asked {
            0 => Ok(self.newest_version()),
            asked => self.undoing(asked),
        }
    }

    /// Whether a version may undo or check what it made.
    pub fn undoing(&self, version: u32) -> Result<u32, UseError> {
        if version > self.newest_version() || version == 0 {
            Err(UseError::NoVersion)
        } else if version < self.min_decrypt_version {
            Err(UseError::TooOld)
        } else {
            Ok(version)
        }
    }
}

fn placed(new: NewVersion, place: u32, now: Timestamp) -> Result<Version, ChangeError> {
    let NewVersion { version, imported, wrapped, public_key } = new;
    if version != place {
        return Err(ChangeError::Overtaken);
    }
    Ok(Version { version, created_at: now, imported, wrapped, public_key })
}

#[cfg(test)]
mod tests;
