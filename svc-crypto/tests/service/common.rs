//! What the tests of the running service share: a harness, callers, and shorthand.

use std::{path::Path, sync::Arc, time::Duration};

use mesh::{Clock, Fault, ManualClock, Reason, Running, testing::Harness, testing::call_of};
use money::Timestamp;
use paymesh_proto::crypto::v1::{
    Algorithm, CardInput, CreateKeyRequest, DetokenizeRequest, Key, Token, TokenizeRequest,
    VerifyAuditLogRequest, audit_service_client::AuditServiceClient,
    crypto_service_client::CryptoServiceClient, key_service_client::KeyServiceClient, token::Format,
    vault_service_client::VaultServiceClient,
};
use svc_crypto::{Crypto, config::Config};
use tonic::{Request, Response, Status};

/// 2026-11-21T00:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_795_219_200);

/// A running service, and the clock that it goes by.
pub(crate) struct World {
    pub(crate) harness: Harness,
    pub(crate) service: Running,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    /// Starts the service on what `dir` holds.
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, Config::default()).await
    }

    /// The same at another time.
    pub(crate) async fn start_at(dir: &Path, now: Timestamp) -> Self {
        Self::begin(dir, Config::default(), now).await
    }

    /// The same with settings.
    pub(crate) async fn start_with(dir: &Path, config: Config) -> Self {
        Self::begin(dir, config, NOW).await
    }

    /// The same with both.
    pub(crate) async fn begin(dir: &Path, config: Config, now: Timestamp) -> Self {
        let clock = Arc::new(ManualClock::new(now));
        let mut harness = Harness::with_clock(dir, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let service = harness.start::<Crypto>(config).await.unwrap();
        Self { harness, service, clock }
    }

    /// VaultService as this workload sees it.
    pub(crate) fn vault(&self, caller: &str) -> VaultServiceClient<mesh::Upstream> {
        VaultServiceClient::new(self.harness.upstream(caller, &self.service).unwrap())
    }

    /// AuditService as this workload sees it.
    pub(crate) fn audit(&self, caller: &str) -> AuditServiceClient<mesh::Upstream> {
        AuditServiceClient::new(self.harness.upstream(caller, &self.service).unwrap())
    }

    /// CryptoService as this workload sees it.
    pub(crate) fn crypto(&self, caller: &str) -> CryptoServiceClient<mesh::Upstream> {
        CryptoServiceClient::new(self.harness.upstream(caller, &self.service).unwrap())
    }

    /// KeyService as this workload sees it.
    pub(crate) fn keys(&self, caller: &str) -> KeyServiceClient<mesh::Upstream> {
        KeyServiceClient::new(self.harness.upstream(caller, &self.service).unwrap())
    }

    /// Waits until something is so, half a minute at most.
    pub(crate) async fn until(&self, is_so: impl AsyncFn() -> bool) {
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        while !is_so().await {
            assert!(tokio::time::Instant::now() < until, "it did not become so");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes a key of a tenant, as an operator does.
    pub(crate) async fn make_key(&self, tenant: &str, name: &str, algorithm: Algorithm) -> Key {
        let request =
            CreateKeyRequest { name: name.into(), algorithm: algorithm.into(), rotation_period: None };
        self.keys("operator").create_key(call(tenant, request)).await.unwrap().into_inner()
    }

    /// Tokenizes for a tenant, as the edge does.
    pub(crate) async fn tokenize(&self, tenant: &str, card: CardInput) -> Result<Response<Token>, Status> {
        self.vault("edge-gateway").tokenize(call(tenant, opaque(card))).await
    }
}

/// A request of a tenant.
pub(crate) fn call<T>(tenant: &str, message: T) -> Request<T> {
    call_of(tenant).request(message)
}

/// A request for the token that every card has.
pub(crate) fn opaque(card: CardInput) -> TokenizeRequest {
    TokenizeRequest { card: Some(card), ..Default::default() }
}

/// A request for a token in the form of a card number.
pub(crate) fn digits(card: CardInput) -> TokenizeRequest {
    TokenizeRequest { card: Some(card), token_format: Format::Digits.into() }
}

/// A question for a card.
pub(crate) fn detokenize(token: &str, tenant: &str) -> DetokenizeRequest {
    DetokenizeRequest { token: token.into(), tenant: tenant.into(), for_authorization: false }
}

/// A question for a card that is to be charged now.
pub(crate) fn authorize(token: &str) -> DetokenizeRequest {
    DetokenizeRequest { for_authorization: true, ..detokenize(token, "") }
}

/// A card that can be stored.
pub(crate) fn card(number: &str) -> CardInput {
    CardInput {
        number: number.into(),
        exp_month: 12,
        exp_year: 2030,
        cvc: String::new(),
        holder_name: "Ada Payer".into(),
    }
}

/// Why a call was refused.
pub(crate) fn reason<T>(result: Result<T, Status>) -> Reason {
    match result {
        Ok(_) => panic!("must be refused"),
        Err(status) => Fault::from_status(&status).reason(),
    }
}

/// Has the audit log verified, which must be whole.
pub(crate) async fn verified(mut audit: AuditServiceClient<mesh::Upstream>) {
    let verify = call("acme", VerifyAuditLogRequest::default());
    let mut said = audit.verify_audit_log(verify).await.unwrap().into_inner();
    loop {
        let said = said.message().await.unwrap().unwrap();
        if said.done {
            return assert_eq!(said.offence, "");
        }
    }
}
