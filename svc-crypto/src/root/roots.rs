//! The roots that are configured: the one that wraps, and one from before that still unwraps.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mesh::{Drain, Fault, Reason};
use uuid::Uuid;

use tokio::sync::Notify;

use super::{Failure, Given, RootOfTrust, SplitRoot};
use crate::domain::{
    envelope::KeyRef,
    keys::{Purpose, Slot, WrappedKey},
    rooted::{self, RootName},
    secret::KeyBytes,
    shares::{Share, ShareError},
};

/// How often it is looked for shares that were held for too long.
const SHARES_LOOK_EVERY: Duration = Duration::from_secs(60);

/// Why a key could not be wrapped or unwrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// The root did not do it.
    #[error("the root of trust {root}: {failure}")]
    Failed {
        /// Which.
        root: RootName,
        /// Why.
        failure: Failure,
    },
    /// Another root wrapped it.
    #[error("a key is wrapped under the root of trust {0}, which is not configured")]
    NotConfigured(RootName),
    /// Another root took its place.
    #[error(
        "the root of trust {0} is not on the store's record any more: another took its place, and must be configured"
    )]
    NotOnRecord(RootName),
    /// What it wrapped just now it unwraps to something else.
    #[error("the root of trust {0} does not give back what it wrapped")]
    Garbled(RootName),
    /// It unwraps for another place than it was told when it wrapped.
    #[error(
        "the root of trust {0} does not bind what it wraps to its place: its key must be of a type that takes \
         associated data"
    )]
    NotBound(RootName),
    /// Nothing that a root wraps looks like this.
    #[error("a key on record is nothing that a root of trust wrapped")]
    Unreadable,
}

impl RootError {
    /// Whether the same may do later, with nothing on record changed.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Failed { failure: Failure::Unreachable(_) | Failure::Refused(_), .. })
    }

    /// Whether it is what is on record, and not a root.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Unreadable | Self::Failed { failure: Failure::Tampered, .. })
    }

    /// Whether it only does not answer.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Failed { failure: Failure::Unreachable(_), .. })
    }
}

impl From<RootError> for Fault {
    fn from(error: RootError) -> Self {
        if error.may_pass() {
            Self::new(Reason::Unavailable, "The root of trust does not unwrap the keys now; try again.")
                .retry_after_s(5)
        } else if matches!(error, RootError::NotOnRecord(_)) {
            tracing::error!(%error, "no key can be made here");
            Self::new(Reason::Unavailable, "This replica cannot make keys; try again at another.")
                .retry_after_s(5)
        } else {
            tracing::error!(%error, "a key is not to be had");
            Self::new(Reason::Internal, "The service could not use its keys.")
        }
    }
}

struct Known {
    root: Arc<dyn RootOfTrust>,
    /// Whether it answered when it was last asked. What changes is logged, and not every call.
    answers: AtomicBool,
}

/// The roots that are configured. Cheap to clone.
#[derive(Clone)]
pub struct Roots {
    current: Arc<Known>,
    previous: Option<Arc<Known>>,
    /// Those of them that are put together from shares.
    split: Vec<Arc<SplitRoot>>,
    /// Rings when one of those was.
    unsealed: Arc<Notify>,
    timeout: Duration,
}

impl Roots {
    /// `current` wraps and unwraps, `previous` only unwraps. No call takes longer than `timeout`.
    pub fn new(
        current: Arc<dyn RootOfTrust>,
        previous: Option<Arc<dyn RootOfTrust>>,
        timeout: Duration,
    ) -> Self {
        let known = |root| Arc::new(Known { root, answers: AtomicBool::new(true) });
        let (split, unsealed) = (Vec::new(), Arc::default());
        Self { current: known(current), previous: previous.map(known), split, unsealed, timeout }
    }

    /// Says which of them wait for shares.
    #[must_use]
    pub fn with_split(mut self, split: Vec<Arc<SplitRoot>>) -> Self {
        self.split = split;
        self
    }

    /// Takes a share of one of the roots that wait for them.
    pub fn give(&self, share: Share) -> Result<Given, ShareError> {
        let root = self.split.iter().find(|root| root.id() == share.root()).ok_or(ShareError::OtherRoot)?;
        let given = root.give(share)?;
        if given.unsealed {
            self.unsealed.notify_one();
        }
        Ok(given)
    }

    /// Lets go of shares that nobody adds to, until the drain begins.
    pub async fn keep_shares(self, drain: Drain) {
        while drain.unless_started(tokio::time::sleep(SHARES_LOOK_EVERY)).await.is_some() {
            self.split.iter().for_each(|root| root.forget_old());
        }
    }

    /// Waits until a root was put together from its shares.
    pub async fn unsealed(&self) {
        self.unsealed.notified().await;
    }

    /// The name of the one that wraps.
    pub fn current(&self) -> &RootName {
        self.current.root.name()
    }

    /// The name of the one from before.
    pub fn previous(&self) -> Option<&RootName> {
        self.previous.as_ref().map(|known| known.root.name())
    }

    /// Whether the one that wraps answered when it was last asked.
    pub fn answers(&self) -> bool {
        self.current.answers.load(Ordering::Relaxed)
    }

    /// The one of this id, where it is configured.
    pub fn find(&self, id: Uuid) -> Option<&dyn RootOfTrust> {
        self.all().find(|known| known.root.name().id() == id).map(|known| &*known.root)
    }

    /// Wraps a key for its place.
    pub async fn wrap(
        &self,
        slot: &Slot,
        reference: KeyRef,
        key: &KeyBytes,
    ) -> Result<WrappedKey, RootError> {
        let context = slot.context(reference);
        let wrapped = self.ask(&self.current, self.current.root.wrap(&context, key)).await?;
        Ok(WrappedKey { reference, wrapped })
    }

    /// Wraps a key for its place, and sees that it unwraps: nothing that does not is worth keeping.
    pub async fn wrap_to_keep(
        &self,
        slot: &Slot,
        reference: KeyRef,
        key: &KeyBytes,
    ) -> Result<WrappedKey, RootError> {
        let wrapped = self.wrap(slot, reference, key).await?;
        if self.unwrap(slot, &wrapped).await?.expose() != key.expose() {
            return Err(RootError::Garbled(self.current().clone()));
        }
        Ok(wrapped)
    }

    /// Has the one that wraps wrap a key that is thrown away. Whether it does what a root must: it gives it back, and
    /// in its place alone.
    pub async fn probe(&self, key: &KeyBytes) -> Result<(), RootError> {
        let slot = Slot::of_service(Purpose::AuditChain);
        let place = |version| KeyRef { id: Uuid::nil(), version };
        let wrapped = self.wrap_to_keep(&slot, place(0), key).await?;
        match self.unwrap(&slot, &WrappedKey { reference: place(u32::MAX), ..wrapped }).await {
            Ok(_) => Err(RootError::NotBound(self.current().clone())),
            Err(RootError::Failed { failure: Failure::Tampered | Failure::Refused(_), .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Unwraps a key, by the root that wrapped it. Fails if it was wrapped for another place.
    pub async fn unwrap(&self, slot: &Slot, key: &WrappedKey) -> Result<KeyBytes, RootError> {
        let (stamp, _) = rooted::read(&key.wrapped).ok_or(RootError::Unreadable)?;
        let known = self.all().find(|known| *known.root.name() == stamp.root);
        let Some(known) = known else { return Err(RootError::NotConfigured(stamp.root)) };
        self.ask(known, known.root.unwrap(&slot.context(key.reference), &key.wrapped)).await
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Known>> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    async fn ask<T>(
        &self,
        known: &Known,
        asked: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, RootError> {
        let answered = tokio::time::timeout(self.timeout, asked).await;
        let answered = answered.unwrap_or_else(|_| {
            Err(Failure::Unreachable(format!("not within {} ms", self.timeout.as_millis()).into()))
        });
        let root = known.root.name();
        let answers = !matches!(answered, Err(Failure::Unreachable(_) | Failure::Refused(_)));
        if known.answers.swap(answers, Ordering::Relaxed) != answers {
            match &answered {
                Err(failure) if !answers => tracing::error!(%root, %failure, "the root of trust is lost"),
                _ => tracing::info!(%root, "the root of trust answers"),
            }
        }
        answered.map_err(|failure| RootError::Failed { root: root.clone(), failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::{FileRoot, RootOfTrust};

    /// One that never answers.
    struct Silent(RootName);

    #[tonic::async_trait]
    impl RootOfTrust for Silent {
        fn name(&self) -> &RootName {
            &self.0
        }

        async fn wrap(&self, _: &[u8], _: &KeyBytes) -> Result<Vec<u8>, Failure> {
            std::future::pending().await
        }

        async fn unwrap(&self, _: &[u8], _: &[u8]) -> Result<KeyBytes, Failure> {
            std::future::pending().await
        }
    }

    /// One that pays no heed to places, or gives back another key.
    struct Careless(FileRoot, Option<KeyBytes>);

    #[tonic::async_trait]
    impl RootOfTrust for Careless {
        fn name(&self) -> &RootName {
            self.0.name()
        }

        async fn wrap(&self, _: &[u8], key: &KeyBytes) -> Result<Vec<u8>, Failure> {
            self.0.wrap(b"", key).await
        }

        async fn unwrap(&self, _: &[u8], wrapped: &[u8]) -> Result<KeyBytes, Failure> {
            let key = self.0.unwrap(b"", wrapped).await?;
            Ok(self.1.clone().unwrap_or(key))
        }
    }

    #[tokio::test]
    async fn a_root_that_does_not_do_what_a_root_must_is_found_out() {
        Roots::new(file(1), None, TIMEOUT).probe(&key()).await.unwrap();
        for other in [None, Some(KeyBytes::take(&mut [8; 32]))] {
            let garbles = other.is_some();
            let root = Careless(FileRoot::new(&KeyBytes::take(&mut [1; 32])), other);
            let name = root.name().clone();
            let found = Roots::new(Arc::new(root), None, TIMEOUT).probe(&key()).await.unwrap_err();
            let expected = if garbles { RootError::Garbled(name) } else { RootError::NotBound(name) };
            assert_eq!(found, expected);
            assert!(!found.may_pass(), "it is not waited for to pass");
        }
    }

    fn file(byte: u8) -> Arc<dyn RootOfTrust> {
        Arc::new(FileRoot::new(&KeyBytes::take(&mut [byte; 32])))
    }

    fn key() -> KeyBytes {
        KeyBytes::take(&mut [7; 32])
    }

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn the_one_that_wrapped_a_key_unwraps_it_in_its_place_only() {
        let (slot, reference) =
            (Slot::of_service(Purpose::AuditChain), KeyRef { id: Uuid::from_u128(1), version: 1 });
        let before = Roots::new(file(1), None, TIMEOUT).wrap(&slot, reference, &key()).await.unwrap();
        let roots = Roots::new(file(2), Some(file(1)), TIMEOUT);
        let now = roots.wrap(&slot, reference, &key()).await.unwrap();
        for wrapped in [&before, &now] {
            assert_eq!(roots.unwrap(&slot, wrapped).await.unwrap().expose(), key().expose());
            let elsewhere = Slot::own("acme".parse().unwrap(), Purpose::TenantKek);
            let moved = roots.unwrap(&elsewhere, wrapped).await.unwrap_err();
            assert!(matches!(moved, RootError::Failed { failure: Failure::Tampered, .. }), "{moved}");
        }
        assert_eq!(rooted::read(&now.wrapped).unwrap().0.root, *roots.current());
        let alone = Roots::new(file(2), None, TIMEOUT);
        let unknown = alone.unwrap(&slot, &before).await.unwrap_err();
        assert_eq!(unknown, RootError::NotConfigured(file(1).name().clone()));
        assert_eq!(Fault::from(unknown).reason(), Reason::Internal);
        let none = WrappedKey { wrapped: b"none".to_vec(), ..now };
        assert_eq!(alone.unwrap(&slot, &none).await.unwrap_err(), RootError::Unreadable);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_answer_is_given_up_in_time() {
        let roots = Roots::new(Arc::new(Silent(RootName::parse("silent").unwrap())), Some(file(1)), TIMEOUT);
        let (slot, reference) =
            (Slot::of_service(Purpose::AuditChain), KeyRef { id: Uuid::from_u128(1), version: 1 });
        let begun = tokio::time::Instant::now();
        let failed = roots.wrap(&slot, reference, &key()).await.unwrap_err();
        assert_eq!(begun.elapsed(), TIMEOUT);
        assert!(failed.is_away() && failed.may_pass() && !roots.answers());
        assert_eq!(failed.to_string(), "the root of trust silent: it does not answer: not within 5000 ms");
        assert_eq!(Fault::from(failed).reason(), Reason::Unavailable);
    }
}
