//! What the dispatcher needs of a store.
//!
//! A delivery is taken with a *lease*: until it ends, nobody else is given the delivery. Who crashes between sending
//! and [`Deliveries::record`] leaves a lease that ends by itself, and the delivery is sent again with the same
//! `webhook-id`: at least once, never not at all.

use std::{collections::HashMap, future::Future};

use bytes::Bytes;
use mesh::StoreError;
use money::{Timestamp, WebhookDeliveryId, WebhookEndpointId};
use uuid::Uuid;

use crate::{
    domain::{
        delivery::{Delivery, Report},
        endpoint::{DisabledReason, Endpoint},
    },
    sealing::Sealed,
};

/// A delivery to attempt now.
#[derive(Debug, Clone)]
pub struct Job {
    /// The delivery, which is pending.
    pub delivery: Delivery,
    /// Where it goes, which is enabled.
    pub endpoint: Endpoint<Sealed>,
    /// The body, to be signed and sent as it is.
    pub body: Bytes,
    /// By which it is held.
    pub lease: Lease,
}

/// The right to attempt a delivery, until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Of this delivery.
    pub delivery: WebhookDeliveryId,
    /// Different for each lease.
    pub token: Uuid,
}

/// What may be taken.
#[derive(Debug, Clone)]
pub struct Room {
    /// The most in all.
    pub most: usize,
    /// The most of one endpoint, unless it is in `left`.
    pub per_endpoint: usize,
    /// The most of these endpoints, which have some under way: may be 0.
    pub left: HashMap<WebhookEndpointId, usize>,
}

impl Room {
    /// The most of this endpoint.
    pub fn of(&self, endpoint: WebhookEndpointId) -> usize {
        self.left.get(&endpoint).copied().unwrap_or(self.per_endpoint)
    }
}

/// What was taken.
#[derive(Debug, Default)]
pub struct Taken {
    /// To be attempted now.
    pub jobs: Vec<Job>,
    /// When there is more to take, as far as is known: the earliest time at which another delivery is due or another
    /// lease ends, of endpoints that had room. It may be too early, and must not be too late.
    pub next_at: Option<Timestamp>,
}

/// What has become of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// The attempt is in the log.
    Yes {
        /// The endpoint was disabled by it.
        disabled: Option<DisabledReason>,
    },
    /// The lease had ended and somebody else has the delivery, or the delivery had ended or is no more: nothing was
    /// changed.
    Late,
}

/// The deliveries of a store.
pub trait Deliveries: Send + Sync + 'static {
    /// Takes deliveries that are PENDING, due at `now` at the latest and under no lease that ends after `now`, the
    /// longest due first, each under a lease until `until`: no more than there is room for. A delivery whose endpoint
    /// is disabled or gone is not taken: it is canceled ([`Delivery::stop`]).
    ///
    /// Two callers, in whatever processes, are never given the same delivery.
    fn take(
        &self,
        room: &Room,
        now: Timestamp,
        until: Timestamp,
    ) -> impl Future<Output = Result<Taken, StoreError>> + Send;

    /// Records an attempt and ends the lease. In one commit, under the delivery's and its endpoint's lock or version:
    /// [`Delivery::settle`]; the delivery, the attempt (of which the newest
    /// [`ATTEMPTS_KEPT`](crate::domain::attempt::ATTEMPTS_KEPT) stay) and the endpoint are written; and if that
    /// disabled the endpoint, all of its pending deliveries are canceled ([`Delivery::stop`]).
    ///
    /// A lease that has ended still counts as long as nobody else has taken the delivery.
    fn record(
        &self,
        lease: Lease,
        report: &Report,
        disable_after_s: u32,
    ) -> impl Future<Output = Result<Recorded, StoreError>> + Send;

    /// Ends the lease without an attempt: the delivery is due again at `due_at`, and stays where it is in the schedule.
    /// Nothing if the lease is not the delivery's any more.
    fn put_back(
        &self,
        lease: Lease,
        due_at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
