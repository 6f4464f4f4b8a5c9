//! Encryption on the spot: data keys from the service, kept and used within its limits.

use std::sync::Arc;

use crypto_envelope::{
    envelope::EnvelopeError,
    local::{DATA_KEY_AAD, NONCE_BYTES, Nonce, wrapped_of},
    secret::SecretBytes,
};
use mesh::{Cache, Call, Fault, Reason};
use money::TenantId;
use paymesh_proto::crypto::v1::{DataKey, DecryptDataKeyRequest, GenerateDataKeyRequest};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{sync::OnceCell, time::Instant};

use crate::{CryptoClient, data_key::HeldDataKey};

/// How many tenants' data keys are kept for sealing.
const SEALING_MAX: usize = 4_096;
/// How many data keys are kept for opening.
const OPENING_MAX: usize = 16_384;
/// How often a message is given to a data key before it is given up: each time others have used one up first.
const ATTEMPTS_MAX: usize = 16;

/// Who has it first fetches it; all others wait for that.
type Fetched = Arc<OnceCell<HeldDataKey>>;

/// Seals and opens here, under data keys that a named key of each tenant wraps.
///
/// What is sealed has the form of suite 4 (`docs/crypto-formats.md`). It opens for every client that may unwrap data
/// keys of that name. A data key is kept as long as the service says (`data_key_ttl_s`), and seals as many messages and
/// bytes as it says: so long a key that was disabled may still be used here.
pub struct LocalEncryption {
    client: CryptoClient,
    key_name: Arc<str>,
    random: SystemRandom,
    sealing: Cache<TenantId, Fetched>,
    opening: Cache<(TenantId, Box<[u8]>), Fetched>,
}

impl LocalEncryption {
    /// Under the key of this name, of whichever tenant.
    pub fn new(client: CryptoClient, key_name: &str) -> Self {
        Self {
            client,
            key_name: key_name.into(),
            random: SystemRandom::new(),
            sealing: Cache::new(SEALING_MAX),
            opening: Cache::new(OPENING_MAX),
        }
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
            let good = |kept: &Fetched| kept.get().is_none_or(|key| key.seals(now));
            let kept = self.sealing.get_or_insert_with(tenant, good, Fetched::default);
            let held = kept.get_or_try_init(|| self.generate(call, tenant)).await?;
            if held.never_seals(length) {
                return Err(Fault::invalid("plaintext", "must not be longer than a data key may seal"));
            }
            if held.take(length, now) {
                let nonce = Nonce::new(self.nonce()?);
                return held.key.seal(nonce, context, plaintext).map_err(|EnvelopeError| unusable());
            }
        }
        Err(Fault::new(Reason::Overloaded, "Data keys are used up faster than they come; try again.")
            .retry_after_s(1))
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
        let now = Instant::now();
        let good = |kept: &Fetched| kept.get().is_none_or(|key| key.opens(now));
        let name = (tenant.clone(), wrapped.into());
        let kept = self.opening.get_or_insert_with(&name, good, Fetched::default);
        let unwrapped = kept.get_or_try_init(|| self.unwrap(call, tenant, wrapped)).await;
        // What is wrong is not kept: a caller could fill the cache with it.
        let held = unwrapped.inspect_err(|_| self.opening.remove(&name))?;
        held.key.open(envelope, context).map_err(|EnvelopeError| does_not_open())
    }

    async fn generate(&self, call: &Call, tenant: &TenantId) -> Result<HeldDataKey, Fault> {
        let request =
            GenerateDataKeyRequest { key_name: self.key_name.as_ref().into(), aad: DATA_KEY_AAD.into() };
        let asked_at = Instant::now();
        held(self.client.generate_data_key(call, tenant, request).await?, asked_at)
    }

    async fn unwrap(&self, call: &Call, tenant: &TenantId, wrapped: &[u8]) -> Result<HeldDataKey, Fault> {
        let request = DecryptDataKeyRequest {
            key_name: self.key_name.as_ref().into(),
            wrapped: wrapped.to_vec().into(),
            aad: DATA_KEY_AAD.into(),
        };
        let asked_at = Instant::now();
        let mut given = self.client.decrypt_data_key(call, tenant, request).await?;
        // The service gives back what it unwrapped; it is what was asked for that seals and opens.
        given.wrapped = wrapped.to_vec().into();
        held(given, asked_at)
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

fn held(given: DataKey, asked_at: Instant) -> Result<HeldDataKey, Fault> {
    HeldDataKey::new(given, asked_at).ok_or_else(crate::batches::nonsense)
}

fn does_not_open() -> Fault {
    Fault::new(Reason::DecryptionFailed, "The envelope does not open with this key and context.")
}

fn unusable() -> Fault {
    Fault::new(Reason::Internal, "The data key could not be used.")
}
