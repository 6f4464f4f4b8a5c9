//! How what is stored is spelled, whatever the store.

use mesh::StoreError;
use money::TenantId;

use crate::domain::{
    payment::event_type,
    transition::{Event, Status},
};

pub(super) fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(body).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(super) fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn tenant(name: &str) -> Result<TenantId, StoreError> {
    name.parse().map_err(|_| StoreError::Corrupt("a row has a tenant that cannot be".into()))
}

pub(super) fn known_status(name: &str) -> Result<Status, StoreError> {
    let unknown = || StoreError::Corrupt(format!("a payment has the unknown status {name}"));
    Status::ALL.into_iter().find(|status| status.name() == name).ok_or_else(unknown)
}

pub(super) fn known_type(name: &str) -> Result<&'static str, StoreError> {
    let unknown = || StoreError::Corrupt(format!("an event has the unknown type {name}"));
    let known = Event::ALL.map(Event::name).into_iter().chain(event_type::ALL);
    known.into_iter().find(|known| *known == name).ok_or_else(unknown)
}
