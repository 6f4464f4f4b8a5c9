//! Deliveries in memory: the contract in as few lines as it takes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use mesh::StoreError;
use money::{Timestamp, WebhookDeliveryId, WebhookEndpointId};
use uuid::Uuid;

use super::Fixture;
use crate::{
    deliveries::{Deliveries, Job, Lease, Recorded, Room, Taken},
    domain::{
        attempt::{ATTEMPTS_KEPT, Attempt},
        delivery::{Delivery, Report, State},
        endpoint::{Change, Endpoint},
    },
    sealing::Sealed,
};

/// Deliveries in memory.
#[derive(Debug, Default)]
pub struct MemoryDeliveries {
    tables: Mutex<Tables>,
    leases: AtomicU64,
    /// Refuses so many reports.
    fail_records: AtomicU64,
    /// How often it was asked for what is due.
    takes: AtomicU64,
}

#[derive(Debug, Default)]
struct Tables {
    endpoints: BTreeMap<WebhookEndpointId, Endpoint<Sealed>>,
    deliveries: BTreeMap<WebhookDeliveryId, Row>,
}

#[derive(Debug)]
struct Row {
    delivery: Delivery,
    body: Bytes,
    lease: Option<(Uuid, Timestamp)>,
    attempts: Vec<Attempt>,
}

impl MemoryDeliveries {
    /// Refuses the next reports.
    pub fn fail_records(&self, count: u64) {
        self.fail_records.store(count, Ordering::SeqCst);
    }

    /// How often it was asked for what is due.
    pub fn takes(&self) -> u64 {
        self.takes.load(Ordering::SeqCst)
    }
}

impl Tables {
    fn cancel_all(&mut self, endpoint: WebhookEndpointId) {
        for row in self.deliveries.values_mut() {
            if row.delivery.endpoint == endpoint && row.delivery.state == State::Pending {
                row.delivery.stop();
            }
        }
    }
}

impl Deliveries for MemoryDeliveries {
    async fn take(&self, room: &Room, now: Timestamp, until: Timestamp) -> Result<Taken, StoreError> {
        self.takes.fetch_add(1, Ordering::SeqCst);
        let mut tables = self.tables.lock().unwrap();
        let Tables { endpoints, deliveries } = &mut *tables;
        let (mut taken, mut counts) = (Taken::default(), HashMap::<WebhookEndpointId, usize>::new());
        let mut rows: Vec<&mut Row> =
            deliveries.values_mut().filter(|row| row.delivery.state == State::Pending).collect();
        rows.sort_by_key(|row| (row.delivery.due_at, row.delivery.id));
        for row in rows {
            let id = row.delivery.endpoint;
            let Some(endpoint) = endpoints.get(&id).filter(|endpoint| endpoint.disabled.is_none()) else {
                row.delivery.stop();
                continue;
            };
            let free_at = row.delivery.due_at.unwrap().max(row.lease.map_or(now, |(_, end)| end));
            let count = counts.entry(id).or_default();
            if free_at > now {
                taken.next_at = Some(taken.next_at.map_or(free_at, |next| next.min(free_at)));
            } else if *count < room.of(id) && taken.jobs.len() < room.most {
                *count += 1;
                let token = Uuid::from_u128(self.leases.fetch_add(1, Ordering::SeqCst).into());
                row.lease = Some((token, until));
                taken.jobs.push(Job {
                    delivery: row.delivery.clone(),
                    endpoint: endpoint.clone(),
                    body: row.body.clone(),
                    lease: Lease { delivery: row.delivery.id, token },
                });
            }
        }
        Ok(taken)
    }

    async fn record(
        &self,
        lease: Lease,
        report: &Report,
        disable_after_s: u32,
    ) -> Result<Recorded, StoreError> {
        let refuse = |left: u64| left.checked_sub(1);
        if self.fail_records.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse).is_ok() {
            return Err(StoreError::Server("told to fail".into()));
        }
        let mut tables = self.tables.lock().unwrap();
        let Tables { endpoints, deliveries } = &mut *tables;
        let row = deliveries.get_mut(&lease.delivery);
        let Some(row) = row.filter(|row| row.lease.is_some_and(|(token, _)| token == lease.token)) else {
            return Ok(Recorded::Late);
        };
        row.lease = None;
        let id = row.delivery.endpoint;
        let Some(settled) = row.delivery.settle(endpoints.get_mut(&id), report, disable_after_s) else {
            return Ok(Recorded::Late);
        };
        row.attempts.push(settled.attempt);
        let too_many = row.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        row.attempts.drain(..too_many);
        if let Change::Disabled(reason) = settled.endpoint {
            tables.cancel_all(id);
            return Ok(Recorded::Yes { disabled: Some(reason) });
        }
        Ok(Recorded::Yes { disabled: None })
    }

    async fn put_back(&self, lease: Lease, due_at: Timestamp) -> Result<(), StoreError> {
        let mut tables = self.tables.lock().unwrap();
        let row = tables.deliveries.get_mut(&lease.delivery);
        if let Some(row) = row.filter(|row| row.lease.is_some_and(|(token, _)| token == lease.token)) {
            row.lease = None;
            if row.delivery.state == State::Pending {
                row.delivery.due_at = Some(due_at);
            }
        }
        Ok(())
    }
}

impl Fixture for MemoryDeliveries {
    async fn put_endpoint(&self, endpoint: Endpoint<Sealed>) {
        self.tables.lock().unwrap().endpoints.insert(endpoint.id, endpoint);
    }

    async fn remove_endpoint(&self, id: WebhookEndpointId) {
        self.tables.lock().unwrap().endpoints.remove(&id);
    }

    async fn put_delivery(&self, delivery: Delivery, body: Bytes) {
        let mut tables = self.tables.lock().unwrap();
        if let Some(row) = tables.deliveries.get_mut(&delivery.id) {
            row.delivery = delivery;
        } else {
            tables.deliveries.insert(delivery.id, Row { delivery, body, lease: None, attempts: Vec::new() });
        }
    }

    async fn endpoint(&self, id: WebhookEndpointId) -> Endpoint<Sealed> {
        self.tables.lock().unwrap().endpoints.get(&id).unwrap().clone()
    }

    async fn delivery(&self, id: WebhookDeliveryId) -> (Delivery, Vec<Attempt>) {
        let tables = self.tables.lock().unwrap();
        let row = tables.deliveries.get(&id).unwrap();
        (row.delivery.clone(), row.attempts.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryDeliveries;
    use crate::testing::contract;

    macro_rules! contract {
        ($($name:ident),* $(,)?) => {$(
            #[tokio::test]
            async fn $name() {
                contract::$name(MemoryDeliveries::default()).await;
            }
        )*};
    }

    contract!(
        takes_what_is_due_once,
        keeps_to_the_room,
        a_lease_ends,
        a_failure_is_tried_again,
        gone_cancels_what_is_pending,
        a_disabled_endpoint_gets_nothing,
        what_is_put_back_is_not_counted,
        takers_get_different_deliveries,
    );
}
