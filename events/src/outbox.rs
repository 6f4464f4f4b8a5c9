//! What the relay needs of a service's store.

use std::{future::Future, sync::Arc};

use mesh::StoreError;
use money::Timestamp;
use tokio::sync::Notify;

use crate::event::Event;

/// Where an event is in its outbox: later ones are greater. Never 0.
pub type Position = u64;

/// An event that waits to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Where it is.
    pub position: Position,
    /// The event.
    pub event: Event,
}

/// What waits in an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// How many events.
    pub events: u64,
    /// When the oldest of them happened.
    pub oldest: Option<Timestamp>,
}

/// The events that a service's store keeps until they are published.
///
/// An event is written in the same commit as the state that it tells of, and a subject's events have ascending
/// positions in the order of their sequence: whoever writes one of a subject must not be able to overtake another
/// that does. One relay at a time reads an outbox: of several replicas the one that has the lease, while the others'
/// outboxes show nothing.
pub trait Outbox: Send + Sync + 'static {
    /// The events that are not marked as published and come after this position, those with the smallest positions,
    /// ascending, at most `limit` of them. Empty: there are no more.
    fn unpublished(
        &self,
        after: Position,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Pending>, StoreError>> + Send;

    /// Marks these as published, all or none, durably: they are never shown again. Those that are marked already,
    /// or are not there, are no error.
    fn mark_published(&self, positions: &[Position]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What is not marked as published.
    fn backlog(&self) -> impl Future<Output = Result<Backlog, StoreError>> + Send;
}

/// Tells the relay that something was written. Cheap to clone; all clones wake the same relay.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Nothing was written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// After a commit with events. It is remembered until the relay looks, and told often is as good as once.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}
