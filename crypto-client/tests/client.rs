//! The client against the running service, over real mTLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{path::Path, sync::Arc, time::Duration};

use crypto_client::{CryptoClient, LocalEncryption};
use mesh::{Call, Clock, ManualClock, Reason, Running, testing::Harness, testing::call_of};
use money::{TenantId, Timestamp};
use paymesh_proto::crypto::v1::{
    Algorithm, ComputeMacRequest, CreateKeyRequest, DecryptRequest, DisableKeyRequest, EncryptRequest,
    ListAuditRecordsRequest, VerifyMacRequest, audit_service_client::AuditServiceClient,
    key_service_client::KeyServiceClient,
};
use svc_crypto::{Crypto, config::Config};
use tokio::task::JoinSet;

/// 2026-11-22T00:00:00Z.
const NOW: Timestamp = Timestamp::from_seconds(1_795_305_600);

struct World {
    harness: Harness,
    service: Running,
}

impl World {
    async fn start(dir: &Path, config: Config) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let mut harness = Harness::with_clock(dir, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let service = harness.start::<Crypto>(config).await.unwrap();
        Self { harness, service }
    }

    fn client(&self) -> CryptoClient {
        CryptoClient::new(self.harness.upstream("svc-payments", &self.service).unwrap())
    }

    fn keys(&self) -> KeyServiceClient<mesh::Upstream> {
        KeyServiceClient::new(self.harness.upstream("operator", &self.service).unwrap())
    }

    async fn make_key(&self, tenant: &str, name: &str, algorithm: Algorithm) {
        let request =
            CreateKeyRequest { name: name.into(), algorithm: algorithm.into(), rotation_period: None };
        self.keys().create_key(call_of(tenant).request(request)).await.unwrap();
    }

    /// How often the audit log says that a verb was carried out.
    async fn count_of(&self, verb: &str) -> u32 {
        let mut audit = AuditServiceClient::new(self.harness.upstream("operator", &self.service).unwrap());
        let mut request = ListAuditRecordsRequest { verb: verb.into(), ..Default::default() };
        let mut count = 0;
        loop {
            let page = audit.list_audit_records(call_of("acme").request(request.clone())).await.unwrap();
            let page = page.into_inner();
            count += page.records.iter().filter(|r| r.reason.is_empty()).map(|r| r.count).sum::<u32>();
            if page.next_page_token.is_empty() {
                return count;
            }
            request.page_token = page.next_page_token;
        }
    }
}

fn acme() -> (Call, TenantId) {
    (call_of("acme"), "acme".parse().unwrap())
}

fn encrypt(key_name: &str, plaintext: Vec<u8>) -> EncryptRequest {
    EncryptRequest {
        key_name: key_name.into(),
        plaintext: plaintext.into(),
        aad: "aad".into(),
        key_version: 0,
    }
}

fn decrypt(key_name: &str, ciphertext: &[u8]) -> DecryptRequest {
    DecryptRequest { key_name: key_name.into(), ciphertext: ciphertext.to_vec().into(), aad: "aad".into() }
}

#[tokio::test]
async fn what_is_asked_at_once_is_answered_each_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Config::default()).await;
    for tenant in ["acme", "other"] {
        world.make_key(tenant, "payments.notes", Algorithm::Aes256Gcm).await;
    }
    let client = world.client();
    let mut asked = JoinSet::new();
    for n in 0..500_usize {
        let client = client.clone();
        asked.spawn(async move {
            let name = if n % 2 == 0 { "acme" } else { "other" };
            let (call, tenant) = (call_of(name), name.parse().unwrap());
            let sealed = client
                .encrypt(&call, &tenant, encrypt("payments.notes", n.to_string().into()))
                .await
                .unwrap();
            let opened =
                client.decrypt(&call, &tenant, decrypt("payments.notes", &sealed.ciphertext)).await.unwrap();
            assert_eq!(&opened.plaintext[..], n.to_string().as_bytes());
            let stranger: TenantId = if n % 2 == 0 { "other" } else { "acme" }.parse().unwrap();
            let refused = client
                .decrypt(&call, &stranger, decrypt("payments.notes", &sealed.ciphertext))
                .await
                .unwrap_err();
            assert_eq!(refused.reason(), Reason::DecryptionFailed);
        });
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }
    world.service.stop().await;
}

#[tokio::test]
async fn more_bytes_at_once_than_one_call_takes_are_all_answered() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Config::default()).await;
    world.make_key("acme", "payments.notes", Algorithm::Aes256Gcm).await;
    let client = world.client();
    let mut asked = JoinSet::new();
    for n in 0..12_u8 {
        let client = client.clone();
        asked.spawn(async move {
            let (call, tenant) = acme();
            let plaintext = vec![n; 1 << 20];
            let sealed =
                client.encrypt(&call, &tenant, encrypt("payments.notes", plaintext.clone())).await.unwrap();
            let opened =
                client.decrypt(&call, &tenant, decrypt("payments.notes", &sealed.ciphertext)).await.unwrap();
            assert!(opened.plaintext == plaintext);
            let refused =
                client.encrypt(&call, &tenant, encrypt("payments.notes", vec![n; (1 << 20) + 1])).await;
            let refused = refused.unwrap_err();
            assert_eq!(refused.reason(), Reason::InvalidRequest);
            assert_eq!(refused.violations()[0].field, "plaintext");
        });
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }
    world.service.stop().await;
}

#[tokio::test]
async fn each_verb_has_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Config::default()).await;
    world.make_key("acme", "payments.tags", Algorithm::HmacSha256).await;
    let (client, (call, tenant)) = (world.client(), acme());
    let request =
        ComputeMacRequest { key_name: "payments.tags".into(), data: "data".into(), ..Default::default() };
    let tag = client.compute_mac(&call, &tenant, request).await.unwrap();
    let request = |data: &str| VerifyMacRequest {
        key_name: "payments.tags".into(),
        data: data.to_owned().into(),
        mac: tag.mac.clone(),
        key_version: tag.key_version,
        ..Default::default()
    };
    assert!(client.verify_mac(&call, &tenant, request("data")).await.unwrap().valid);
    assert!(!client.verify_mac(&call, &tenant, request("other")).await.unwrap().valid);
    let refused = client.encrypt(&call, &tenant, encrypt("payments.tags", b"x".to_vec())).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::KeyPurposeMismatch);
    let refused =
        client.encrypt(&call, &tenant, encrypt("payments.absent", b"x".to_vec())).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::KeyNotFound);
    world.service.stop().await;
}

#[tokio::test]
async fn one_data_key_serves_all_who_ask_at_once_and_another_client_opens() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Config::default()).await;
    for tenant in ["acme", "other"] {
        world.make_key(tenant, "payments.documents", Algorithm::Aes256Gcm).await;
    }
    let sealer = Arc::new(LocalEncryption::new(world.client(), "payments.documents"));
    let opener = LocalEncryption::new(world.client(), "payments.documents");
    let mut asked = JoinSet::new();
    for n in 0..100_u8 {
        let sealer = Arc::clone(&sealer);
        asked.spawn(async move {
            let (call, tenant) = acme();
            (n, sealer.seal(&call, &tenant, &[n], &[n; 1_000]).await.unwrap())
        });
    }
    let (call, tenant) = acme();
    while let Some(done) = asked.join_next().await {
        let (n, envelope) = done.unwrap();
        assert_eq!(opener.open(&call, &tenant, &[n], &envelope).await.unwrap().expose(), [n; 1_000]);
        let stranger: TenantId = "other".parse().unwrap();
        for (tenant, context) in [(&tenant, [n.wrapping_add(1)]), (&stranger, [n])] {
            let refused = opener.open(&call, tenant, &context, &envelope).await.unwrap_err();
            assert_eq!(refused.reason(), Reason::DecryptionFailed);
        }
    }
    assert_eq!(world.count_of("generate_data_key").await, 1);
    world.service.stop().await;
}

#[tokio::test]
async fn a_data_key_is_replaced_when_its_messages_are_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { data_key_messages_max: 10, ..Config::default() };
    let world = World::start(dir.path(), config).await;
    world.make_key("acme", "payments.documents", Algorithm::Aes256Gcm).await;
    let local = LocalEncryption::new(world.client(), "payments.documents");
    let (call, tenant) = acme();
    let mut sealed = Vec::new();
    for n in 0..25_u8 {
        sealed.push(local.seal(&call, &tenant, b"", &[n]).await.unwrap());
    }
    assert_eq!(world.count_of("generate_data_key").await, 3);
    for (n, envelope) in sealed.iter().enumerate() {
        let opened = local.open(&call, &tenant, b"", envelope).await.unwrap();
        assert_eq!(usize::from(opened.expose()[0]), n);
    }
    assert_eq!(world.count_of("decrypt_data_key").await, 3);

    world.service.stop().await;
}

#[tokio::test]
async fn a_disabled_key_is_used_no_longer_than_its_data_keys_live() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Config { data_key_ttl_s: 1, ..Config::default() }).await;
    world.make_key("acme", "payments.documents", Algorithm::Aes256Gcm).await;
    let local = LocalEncryption::new(world.client(), "payments.documents");
    let (call, tenant) = acme();
    let sealed = local.seal(&call, &tenant, b"", b"plaintext").await.unwrap();
    let request = DisableKeyRequest { name: "payments.documents".into() };
    world.keys().disable_key(call_of("acme").request(request)).await.unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    let refused = loop {
        match local.seal(&call, &tenant, b"", b"plaintext").await {
            Ok(_) => {
                assert!(tokio::time::Instant::now() < until, "it is used for ever");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(fault) => break fault,
        }
    };
    assert_eq!(refused.reason(), Reason::KeyNotEnabled);
    let refused = local.open(&call, &tenant, b"", &sealed).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::KeyNotEnabled);
    world.service.stop().await;
}

#[tokio::test]
async fn what_is_no_envelope_is_refused_without_asking() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Config::default()).await;
    world.make_key("acme", "payments.documents", Algorithm::Aes256Gcm).await;
    let (client, (call, tenant)) = (world.client(), acme());
    let local = LocalEncryption::new(client.clone(), "payments.documents");
    let by_the_service =
        client.encrypt(&call, &tenant, encrypt("payments.documents", b"x".to_vec())).await.unwrap();
    for wrong in [&b""[..], b"PME1", &by_the_service.ciphertext] {
        let refused = local.open(&call, &tenant, b"", wrong).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::DecryptionFailed);
    }
    assert_eq!(world.count_of("decrypt_data_key").await, 0);
    let sealed = local.seal(&call, &tenant, b"", b"plaintext").await.unwrap();
    let refused = client.decrypt(&call, &tenant, decrypt("payments.documents", &sealed)).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::DecryptionFailed, "the service opens what it made itself");
    world.service.stop().await;
}
