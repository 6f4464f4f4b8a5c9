//! Encryption on the spot: data keys from the service, kept and used within its limits.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crypto_envelope::{
    envelope::EnvelopeError,
    local::{DATA_KEY_AAD, NONCE_BYTES, Nonce, wrapped_of},
    secret::SecretBytes,
};
use mesh::{Cache, Call, Fault, Origin, Reason};
use money::TenantId;
use paymesh_proto::crypto::v1::{DataKey, DecryptDataKeyRequest, GenerateDataKeyRequest};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    sync::OnceCell,
    time::{Instant, MissedTickBehavior},
};

use crate::{CryptoClient, data_key::HeldDataKey};

/// How many tenants' data keys are kept for sealing.
const SEALING_MAX: usize = 4_096;
/// How many data keys are kept for opening.
const OPENING_MAX: usize = 16_384;
/// How often a message is given to a data key before it is given up: each time others have used one up first.
const ATTEMPTS_MAX: usize = 16;
/// How long a data key stays in memory after its time, at most.
const SWEPT_EVERY: Duration = Duration::from_secs(1);

/// Who has it first fetches it. All others wait for that, and share what comes of it.
type Fetched = Arc<OnceCell<Result<HeldDataKey, Fault>>>;

/// Seals and opens here, under data keys that a named key of each tenant wraps.
///
/// What is sealed has the form of suite 4 (`docs/crypto-formats.md`). It opens for every client that may unwrap data
/// keys of that name. A data key is kept as long as the service says (`data_key_ttl_s`), and seals as many messages and
/// bytes as it says: so long a key that was disabled may still be used here.
pub struct LocalEncryption {
    client: CryptoClient,
    key_name: Arc<str>,
    random: SystemRandom,
    kept: Arc<Kept>,
}

struct Kept {
    sealing: Cache<TenantId, Fetched>,
    opening: Cache<(TenantId, Box<[u8]>), Fetched>,
}

impl LocalEncryption {
    /// Under the key of this name, of whichever tenant. Must be called within a runtime.
    pub fn new(client: CryptoClient, key_name: &str) -> Self {
        let kept = Kept { sealing: Cache::new(SEALING_MAX), opening: Cache::new(OPENING_MAX) };
        let kept = Arc::new(kept);
        tokio::spawn(sweep(Arc::downgrade(&kept)));
        Self { client, key_name: key_name.into(), random: SystemRandom::new(), kept }
    }

    /// Seals. The same `context` must be given to open; it is not stored.
    ///
    /// # Errors
    /// The service gave no data key, by its reason; or the plaintext is longer than any data key may seal.
    pub async fn seal(
        &self,
        call: &Call,
        tenant: &TenantId,
        context: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let length = plaintext.len() as u64; // a usize has at most 64 bits
        for _ in 0..ATTEMPTS_MAX {
            let now = Instant::now();
            let good = |kept: &Fetched| is_awaited_or(kept, |key| key.seals(now));
            let kept = self.kept.sealing.get_or_insert_with(tenant, good, Fetched::default);
            let held = in_time(call, kept.get_or_init(|| self.generate(call, tenant))).await?;
            let held = held.as_ref().map_err(Fault::clone)?;
            if held.never_seals(length) {
                return Err(Fault::invalid("plaintext", "must not be longer than a data key may seal"));
            }
            if held.take(length, Instant::now()) {
                let nonce = Nonce::new(self.nonce()?);
                return held.key.seal(nonce, context, plaintext).map_err(|EnvelopeError| unusable());
            }
        }
        Err(used_up())
    }

    /// Opens what [`Self::seal`] made for the same tenant with the same context.
    ///
    /// # Errors
    /// One and the same for whatever is wrong with the envelope, the tenant and the context; else the service's.
    pub async fn open(
        &self,
        call: &Call,
        tenant: &TenantId,
        context: &[u8],
        envelope: &[u8],
    ) -> Result<SecretBytes, Fault> {
        let wrapped = wrapped_of(envelope).ok_or_else(does_not_open)?;
        let name = (tenant.clone(), wrapped.into());
        for _ in 0..ATTEMPTS_MAX {
            let now = Instant::now();
            let good = |kept: &Fetched| is_awaited_or(kept, |key| key.opens(now));
            let kept = self.kept.opening.get_or_insert_with(&name, good, Fetched::default);
            let held = in_time(call, kept.get_or_init(|| self.unwrap(call, tenant, wrapped))).await?;
            // What is wrong is not kept: it would take the place of what is right.
            let held = held.as_ref().map_err(|fault| {
                self.kept.opening.remove_if(&name, |other| Arc::ptr_eq(other, &kept));
                fault.clone()
            })?;
            if held.opens(Instant::now()) {
                return held.key.open(envelope, context).map_err(|EnvelopeError| does_not_open());
            }
        }
        Err(used_up())
    }

    async fn generate(&self, call: &Call, tenant: &TenantId) -> Result<HeldDataKey, Fault> {
        let request =
            GenerateDataKeyRequest { key_name: self.key_name.as_ref().into(), aad: DATA_KEY_AAD.into() };
        let asked_at = Instant::now();
        held(&self.client.generate_data_key(&for_all(call), tenant, request).await?, asked_at)
    }

    async fn unwrap(&self, call: &Call, tenant: &TenantId, wrapped: &[u8]) -> Result<HeldDataKey, Fault> {
        let request = DecryptDataKeyRequest {
            key_name: self.key_name.as_ref().into(),
            wrapped: wrapped.to_vec().into(),
            aad: DATA_KEY_AAD.into(),
        };
        let asked_at = Instant::now();
        let mut given = self.client.decrypt_data_key(&for_all(call), tenant, request).await?;
        // What was asked for, whatever the service gives back with it.
        given.wrapped = wrapped.to_vec().into();
        held(&given, asked_at)
    }

    fn nonce(&self) -> Result<[u8; NONCE_BYTES], Fault> {
        let mut nonce = [0; NONCE_BYTES];
        let filled = self.random.fill(&mut nonce);
        filled.map_err(|ring::error::Unspecified| {
            Fault::new(Reason::Internal, "The operating system gives no random numbers.")
        })?;
        Ok(nonce)
    }
}

/// Lets go of what may no longer be in memory, until nobody seals or opens any more.
async fn sweep(kept: Weak<Kept>) {
    let mut ticks = tokio::time::interval(SWEPT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(kept) = kept.upgrade() else { return };
        let now = Instant::now();
        let good = |kept: &Fetched| is_awaited_or(kept, |key| key.opens(now));
        kept.sealing.retain(good);
        kept.opening.retain(good);
    }
}

/// Whether a data key is still on its way, or is there and good.
fn is_awaited_or(kept: &Fetched, is_good: impl FnOnce(&HeldDataKey) -> bool) -> bool {
    kept.get().is_none_or(|fetched| fetched.as_ref().is_ok_and(is_good))
}

/// What a data key is fetched on behalf of serves others too, so the first caller's deadline is not its own: only
/// that of a single call to the service is.
fn for_all(call: &Call) -> Call {
    Call::start(Origin {
        peer: call.peer().clone(),
        tenant: call.tenant().ok().cloned(),
        request_id: Arc::clone(call.request_id()),
        trace: call.trace(),
        deadline: None,
        idempotency_key: None,
    })
}

/// Waits no longer than the caller does.
async fn in_time<T>(call: &Call, waiting: impl Future<Output = T>) -> Result<T, Fault> {
    let Some(deadline) = call.deadline() else { return Ok(waiting.await) };
    tokio::time::timeout_at(deadline.into(), waiting).await.map_err(|_| {
        Fault::new(Reason::DeadlineExceeded, "The call's time was over before there was a data key.")
    })
}

fn held(given: &DataKey, asked_at: Instant) -> Result<HeldDataKey, Fault> {
    HeldDataKey::new(given, asked_at).ok_or_else(crate::batches::nonsense)
}

fn does_not_open() -> Fault {
    Fault::new(Reason::DecryptionFailed, "The envelope does not open with this key and context.")
}

fn used_up() -> Fault {
    Fault::new(Reason::Overloaded, "Data keys are used up faster than they come; try again.").retry_after_s(1)
}

fn unusable() -> Fault {
    Fault::new(Reason::Internal, "The data key could not be used.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether any data key is in memory.
    fn is_empty(kept: &Kept, tenant: &TenantId) -> bool {
        kept.sealing.get(tenant).is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn a_data_key_leaves_memory_when_its_time_is_over_though_nobody_asks() {
        let kept = Kept { sealing: Cache::new(4), opening: Cache::new(4) };
        let kept = Arc::new(kept);
        let sweeping = tokio::spawn(sweep(Arc::downgrade(&kept)));
        let tenant: TenantId = "acme".parse().unwrap();
        let cell = Fetched::default();
        assert!(cell.set(Ok(crate::data_key::tests::held(9, 9, Instant::now()))).is_ok());
        kept.sealing.insert(tenant.clone(), cell);
        tokio::time::sleep(crate::data_key::tests::TTL / 2).await;
        assert!(!is_empty(&kept, &tenant));
        tokio::time::sleep(crate::data_key::tests::TTL / 2 + SWEPT_EVERY).await;
        assert!(is_empty(&kept, &tenant));
        drop(kept);
        tokio::time::timeout(SWEPT_EVERY * 2, sweeping).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_its_own_deadline_and_a_failure_is_for_all_who_waited() {
        let cell = Fetched::default();
        let slow = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Err(unusable())
        };
        let first = cell.get_or_init(|| slow);
        let origin = |deadline| Origin {
            peer: mesh::SpiffeId::of("svc-payments").unwrap(),
            tenant: None,
            request_id: "request".into(),
            trace: mesh::testing::call_of("acme").trace(),
            deadline: Some(deadline),
            idempotency_key: None,
        };
        let soon = std::time::Instant::now() + Duration::from_millis(300);
        let hasty = Call::start(origin(soon));
        let never = || async { Err(used_up()) };
        let (first, hasty) = tokio::join!(first, in_time(&hasty, cell.get_or_init(never)));
        assert_eq!(hasty.err().map(|fault| fault.reason()), Some(Reason::DeadlineExceeded));
        assert_eq!(first.as_ref().err().map(Fault::reason), Some(Reason::Internal));
        let shared = cell.get_or_init(never).await;
        assert_eq!(shared.as_ref().err().map(Fault::reason), Some(Reason::Internal));
        assert!(!is_awaited_or(&cell, |_| true), "the next one asks again");
    }
}
