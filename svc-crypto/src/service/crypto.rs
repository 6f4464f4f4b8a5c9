//! CryptoService: encryption under keys that tenants name.

use std::sync::Arc;

use mesh::{Call, Fault, Reason};
use money::TenantId;
use paymesh_proto::crypto::v1::{
    BatchDecryptRequest, BatchDecryptResponse, BatchEncryptRequest, BatchEncryptResponse, DecryptRequest,
    DecryptResponse, EncryptRequest, EncryptResponse, batch_decrypt_response, batch_encrypt_response,
    crypto_service_server::CryptoService,
};
use tonic::{Request, Response, Status};

use super::{check_count, reason_of};
use crate::{
    domain::{
        canonical,
        envelope::{OVERHEAD_BYTES, Salt},
        keys::KeyName,
    },
    keyring::{KeyError, Keyring, Missing},
    random::Random,
    store::Store,
};

/// The longest plaintext, in bytes: with its envelope and context it fits a message of 4 MiB.
const PLAINTEXT_BYTES_MAX: usize = 1024 * 1024;
/// The longest context, in bytes.
const AAD_BYTES_MAX: usize = 64 * 1024;
const CONTEXT_LABEL: &[u8] = b"paymesh data 1";

/// Answers CryptoService.
pub struct CryptoHandler<S> {
    keyring: Arc<Keyring<S>>,
    random: Random,
}

impl<S: Store> CryptoHandler<S> {
    /// Encrypts under the keys of this keyring.
    pub fn new(keyring: Arc<Keyring<S>>) -> Self {
        Self { keyring, random: Random::default() }
    }

    async fn encrypt_one(
        &self,
        tenant: &TenantId,
        request: EncryptRequest,
        salt: Salt,
    ) -> Result<EncryptResponse, Fault> {
        let name = key_name(&request.key_name)?;
        check_length("plaintext", request.plaintext.len(), PLAINTEXT_BYTES_MAX)?;
        check_length("aad", request.aad.len(), AAD_BYTES_MAX)?;
        let context = context(tenant, &name, &request.aad);
        let key = self.keyring.data(tenant, name, Missing::Make).await?.ok_or_else(internal)?;
        let (key_version, ciphertext) =
            key.seal(salt, &context, &request.plaintext).map_err(KeyError::from)?;
        Ok(EncryptResponse { ciphertext: ciphertext.into(), key_version })
    }

    async fn decrypt_one(
        &self,
        tenant: &TenantId,
        request: DecryptRequest,
    ) -> Result<DecryptResponse, Fault> {
        let name = key_name(&request.key_name)?;
        check_length("ciphertext", request.ciphertext.len(), PLAINTEXT_BYTES_MAX + OVERHEAD_BYTES)?;
        check_length("aad", request.aad.len(), AAD_BYTES_MAX)?;
        let context = context(tenant, &name, &request.aad);
        // A key that does not exist is a wrong key like any other.
        let key = self.keyring.data(tenant, name, Missing::Leave).await?.ok_or_else(does_not_open)?;
        let (key_version, plaintext) =
            key.open(&request.ciphertext, &context).map_err(|_| does_not_open())?;
        Ok(DecryptResponse { plaintext: plaintext.into_exposed().into(), key_version })
    }
}

#[tonic::async_trait]
impl<S: Store> CryptoService for CryptoHandler<S> {
    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let call = Call::of(&request)?;
        let salt = self.random.salt().map_err(random_fault)?;
        Ok(Response::new(self.encrypt_one(call.tenant()?, request.into_inner(), salt).await?))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.decrypt_one(call.tenant()?, request.into_inner()).await?))
    }

    async fn batch_encrypt(
        &self,
        request: Request<BatchEncryptRequest>,
    ) -> Result<Response<BatchEncryptResponse>, Status> {
        let call = Call::of(&request)?;
        let (tenant, requests) = (call.tenant()?, request.into_inner().items);
        check_count(requests.len())?;
        let salts = self.random.salts(requests.len()).map_err(random_fault)?;
        let mut items = Vec::with_capacity(requests.len());
        for (request, salt) in requests.into_iter().zip(salts) {
            let result = match self.encrypt_one(tenant, request, salt).await {
                Ok(encrypted) => batch_encrypt_response::item::Result::Encrypted(encrypted),
                Err(fault) => batch_encrypt_response::item::Result::Reason(reason_of(&fault)),
            };
            items.push(batch_encrypt_response::Item { result: Some(result) });
        }
        Ok(Response::new(BatchEncryptResponse { items }))
    }

    async fn batch_decrypt(
        &self,
        request: Request<BatchDecryptRequest>,
    ) -> Result<Response<BatchDecryptResponse>, Status> {
        let call = Call::of(&request)?;
        let (tenant, requests) = (call.tenant()?, request.into_inner().items);
        check_count(requests.len())?;
        let mut items = Vec::with_capacity(requests.len());
        for request in requests {
            let result = match self.decrypt_one(tenant, request).await {
                Ok(decrypted) => batch_decrypt_response::item::Result::Decrypted(decrypted),
                Err(fault) => batch_decrypt_response::item::Result::Reason(reason_of(&fault)),
            };
            items.push(batch_decrypt_response::Item { result: Some(result) });
        }
        Ok(Response::new(BatchDecryptResponse { items }))
    }
}

fn key_name(text: &str) -> Result<KeyName, Fault> {
    KeyName::parse(text).map_err(|error| Fault::invalid("key_name", error.to_string()))
}

fn check_length(field: &str, bytes: usize, bytes_max: usize) -> Result<(), Fault> {
    if bytes <= bytes_max {
        Ok(())
    } else {
        Err(Fault::invalid(field, format!("must have at most {bytes_max} bytes")))
    }
}

/// What a ciphertext is bound to, beside its key: its tenant, its key's name, and what the caller gave.
fn context(tenant: &TenantId, name: &KeyName, aad: &[u8]) -> Vec<u8> {
    canonical::encode(&[CONTEXT_LABEL, tenant.as_str().as_bytes(), name.as_str().as_bytes(), aad])
}

/// One answer for every way in which a ciphertext can be wrong.
fn does_not_open() -> Fault {
    Fault::new(Reason::DecryptionFailed, "The ciphertext does not open with this key and context.")
}

fn random_fault(error: crate::random::RandomError) -> Fault {
    KeyError::from(error).into()
}

fn internal() -> Fault {
    Fault::new(Reason::Internal, "The service could not use its keys.")
}
