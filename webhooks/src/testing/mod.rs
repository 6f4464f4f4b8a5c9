//! For tests of this crate and of services that use it: deliveries in memory, a sealer that hides nothing, and the
//! suite that every store of deliveries passes.
// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

pub mod contract;
mod memory;

use money::Timestamp;

pub use self::memory::MemoryDeliveries;
use crate::{
    WebhookSecret,
    domain::{attempt::Attempt, delivery::Delivery, endpoint::Endpoint},
    sealing::{SealError, Sealed, SealedFor, Sealer},
};

/// Keeps secrets as they are, with the endpoint's name before them.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainSealer;

impl Sealer for PlainSealer {
    async fn seal(&self, whose: SealedFor<'_>, secret: &WebhookSecret) -> Result<Sealed, SealError> {
        Ok(Sealed([whose.endpoint.to_string().as_bytes(), secret.expose_bytes()].concat()))
    }

    async fn open(&self, whose: SealedFor<'_>, sealed: &Sealed) -> Result<WebhookSecret, SealError> {
        let bytes = sealed.0.strip_prefix(whose.endpoint.to_string().as_bytes());
        bytes.and_then(|bytes| WebhookSecret::of(bytes.to_vec())).ok_or(SealError::Invalid)
    }
}

/// What the tests put into a store and read from it, beside what the dispatcher does.
pub trait Fixture: crate::Deliveries {
    /// Keeps an endpoint, in the place of the one with the same id.
    fn put_endpoint(&self, endpoint: Endpoint<Sealed>) -> impl Future<Output = ()> + Send;
    /// Removes an endpoint; its deliveries stay.
    fn remove_endpoint(&self, id: money::WebhookEndpointId) -> impl Future<Output = ()> + Send;
    /// Keeps a delivery with its body, in the place of the one with the same id, whose lease stays.
    fn put_delivery(&self, delivery: Delivery, body: bytes::Bytes) -> impl Future<Output = ()> + Send;
    /// An endpoint.
    fn endpoint(&self, id: money::WebhookEndpointId) -> impl Future<Output = Endpoint<Sealed>> + Send;
    /// A delivery, with its attempts in order.
    fn delivery(&self, id: money::WebhookDeliveryId)
    -> impl Future<Output = (Delivery, Vec<Attempt>)> + Send;
}

/// Seconds since the epoch.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(second)
}
