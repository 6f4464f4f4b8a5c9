//! Two replicas on one database: what one does, the other knows.

use std::time::Duration;

use mesh::{
    Fault, Reason,
    testing::{Harness, way::Way},
};
use paymesh_proto::crypto::v1::{
    Algorithm, CardInput, DeleteTokenRequest, DisableKeyRequest, EnableKeyRequest, LargeRequest,
    ListAuditRecordsRequest, RotateKeyRequest, UpdateKeyRequest,
    large_request::{Begin, Part},
};
use svc_crypto::{Crypto, domain::prefix::PREFIX_BYTES};
use tokio::time::Instant;
use tonic::Status;

use crate::{
    common::{World, authorize, call, card, reason, verified},
    crypto::{decrypt, encrypt},
    postgres::Database,
    verbs::{large, pieces},
};

const KEY: &str = "payments.k";
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// A replica in a directory of its own.
pub(crate) struct Replica {
    pub(crate) world: World,
    _dir: tempfile::TempDir,
}

impl Replica {
    async fn start(config: svc_crypto::config::Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { world: World::start_with(dir.path(), config).await, _dir: dir }
    }

    async fn encrypt(&self) -> Result<Vec<u8>, Status> {
        let sealed =
            self.world.crypto("svc-payments").encrypt(call("acme", encrypt(KEY, b"text", b""))).await?;
        Ok(sealed.into_inner().ciphertext.to_vec())
    }

    async fn disable(&self) {
        let request = call("acme", DisableKeyRequest { name: KEY.into() });
        self.world.keys("operator").disable_key(request).await.unwrap();
    }
}

/// Two of them, and a key.
pub(crate) async fn two(database: &Database) -> (Replica, Replica) {
    let (a, b) = (Replica::start(database.config()).await, Replica::start(database.config()).await);
    a.world.make_key("acme", KEY, Algorithm::Aes256Gcm).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_one_disables_the_other_refuses_within_a_second() {
    let database = Database::new();
    let (a, b) = two(&database).await;
    for _ in 0..3 {
        b.encrypt().await.unwrap();
        a.disable().await;
        let disabled = Instant::now();
        let refused = loop {
            let began = Instant::now();
            match b.encrypt().await {
                Ok(_) => assert!(began - disabled < TRUSTED_FOR, "served after {:?}", began - disabled),
                Err(status) => break status,
            }
        };
        assert_eq!(reason::<()>(Err(refused)), Reason::KeyNotEnabled);
        let enable = call("acme", EnableKeyRequest { name: KEY.into() });
        a.world.keys("operator").enable_key(enable).await.unwrap();
        b.world.until(async || b.encrypt().await.is_ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_encrypts_with_a_new_version_the_other_opens_at_once() {
    let database = Database::new();
    let (a, b) = two(&database).await;
    for version in 2..12 {
        b.encrypt().await.unwrap();
        let rotate = RotateKeyRequest { name: KEY.into(), expected_version: version - 1 };
        a.world.keys("operator").rotate_key(call("acme", rotate)).await.unwrap();
        let sealed = a.encrypt().await.unwrap();
        let opened = b.world.crypto("svc-payments").decrypt(call("acme", decrypt(KEY, &sealed, b""))).await;
        assert_eq!(&opened.unwrap().into_inner().plaintext[..], b"text", "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_payload_under_a_new_version_the_other_opens_at_once() {
    let database = Database::new();
    let (a, b) = two(&database).await;
    b.encrypt().await.unwrap();
    let rotate = RotateKeyRequest { name: KEY.into(), expected_version: 1 };
    a.world.keys("operator").rotate_key(call("acme", rotate)).await.unwrap();
    let text = vec![7; 200_000];
    let messages = |bytes: &[u8]| {
        let begin = Begin { key_name: KEY.into(), ..Default::default() };
        [vec![LargeRequest { part: Some(Part::Begin(begin)) }], pieces(bytes, 50_000)].concat()
    };
    let sealed = large(&a.world, true, messages(&text)).await.unwrap();
    assert!(large(&b.world, false, messages(&sealed)).await.unwrap() == text);
    // A version that there is not yet is a wrong key.
    let mut forged = sealed;
    forged[PREFIX_BYTES - 1] = 9;
    assert_eq!(reason(large(&b.world, false, messages(&forged)).await), Reason::DecryptionFailed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minimum_waits_until_everybody_knows_its_version() {
    let database = Database::new();
    let (a, b) = two(&database).await;
    let rotate = RotateKeyRequest { name: KEY.into(), expected_version: 1 };
    a.world.keys("operator").rotate_key(call("acme", rotate)).await.unwrap();
    let raise = || UpdateKeyRequest {
        name: KEY.into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["min_decrypt_version".into()] }),
        min_decrypt_version: 2,
        ..Default::default()
    };
    let refused = b.world.keys("operator").update_key(call("acme", raise())).await;
    assert_eq!(reason(refused), Reason::Conflict);
    b.world.clock.advance_seconds(62);
    b.world.keys("operator").update_key(call("acme", raise())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_went_back_is_believed() {
    let database = Database::new();
    let (a, _b) = two(&database).await;
    a.disable().await;
    assert_eq!(reason(a.encrypt().await), Reason::KeyNotEnabled);
    // As after a failover to what had been before.
    let back = "UPDATE named_key SET state = 1, revision = 1, change = 1; UPDATE last_change SET number = 1";
    database.schema.client().await.batch_execute(back).await.unwrap();
    a.world.until(async || a.encrypt().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_does_not_go_on_with_what_it_knew() {
    let database = Database::new();
    // The audit log stays within reach: it is the keys that are not good any more.
    let way = Way::sparing(&database.schema.address(), b" audit").await.unwrap();
    let a = Replica::start(database.config()).await;
    let mut config = database.config_by(way.port());
    config.postgres.as_mut().unwrap().query_timeout_ms = 1_000;
    let b = Replica::start(config).await;
    a.world.make_key("acme", KEY, Algorithm::Aes256Gcm).await;
    b.encrypt().await.unwrap();
    way.close();
    a.disable().await;
    tokio::time::sleep_until(Instant::now() + TRUSTED_FOR).await;
    let refused = Fault::from_status(&b.encrypt().await.unwrap_err());
    assert_eq!(refused.reason(), Reason::Unavailable);
    assert!(refused.message().contains("its store"), "{refused:?}");
    way.open();
    let knows = |refused: &Status| Fault::from_status(refused).reason() == Reason::KeyNotEnabled;
    b.world.until(async || b.encrypt().await.is_err_and(|refused| knows(&refused))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_hears_of_nothing_does_not_go_on_with_what_it_knew() {
    let database = Database::new();
    let mut config = database.config();
    config.postgres.as_mut().unwrap().query_timeout_ms = 1_000;
    let replica = Replica::start(config).await;
    replica.world.make_key("acme", KEY, Algorithm::Aes256Gcm).await;
    replica.encrypt().await.unwrap();
    // Nobody can ask for keys or their changes; the audit log is none the worse for it.
    let mut client = database.schema.client().await;
    let holding = client.transaction().await.unwrap();
    holding.batch_execute("LOCK TABLE named_key IN ACCESS EXCLUSIVE MODE").await.unwrap();
    tokio::time::sleep_until(Instant::now() + TRUSTED_FOR).await;
    assert_eq!(reason(replica.encrypt().await), Reason::Unavailable);
    holding.rollback().await.unwrap();
    replica.world.until(async || replica.encrypt().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_every_session_is_connected_to_anew() {
    let database = Database::new();
    let (a, b) = two(&database).await;
    let client = database.schema.client().await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE $1";
    let sessions = format!("paymesh-crypto {}%", database.schema.name());
    let ending = async {
        let mut ended = 0;
        while ended < 12 {
            ended += client.query_one(end, &[&sessions]).await.unwrap().get::<_, i64>(0);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let using = |replica: &Replica| {
        let (mut crypto, mut keys) = (replica.world.crypto("svc-payments"), replica.world.keys("operator"));
        async move {
            let mut sealed = Vec::new();
            for n in 0..120 {
                match crypto.encrypt(call("acme", encrypt(KEY, b"text", b""))).await {
                    Ok(answer) => sealed.push(answer.into_inner().ciphertext),
                    Err(status) => assert_eq!(reason::<()>(Err(status)), Reason::Unavailable),
                }
                if n % 20 == 0 {
                    // Whether it was done is not known where it was cut short.
                    let rotate = RotateKeyRequest { name: KEY.into(), expected_version: 0 };
                    let _ = keys.rotate_key(call("acme", rotate)).await;
                }
            }
            sealed
        }
    };
    let ((), of_a, of_b) = tokio::join!(ending, using(&a), using(&b));
    assert!(of_a.len() + of_b.len() > 20);
    for (replica, sealed) in [(&b, of_a), (&a, of_b)] {
        replica.world.until(async || replica.encrypt().await.is_ok()).await;
        for sealed in sealed {
            let opened =
                replica.world.crypto("svc-payments").decrypt(call("acme", decrypt(KEY, &sealed, b""))).await;
            assert_eq!(&opened.unwrap().into_inner().plaintext[..], b"text");
        }
    }
    verified(a.world.audit("operator")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_leave_one_audit_log() {
    let database = Database::new();
    let (a, b) = two(&database).await;
    let encrypting = |replica: &Replica| {
        let mut crypto = replica.world.crypto("svc-payments");
        async move {
            for _ in 0..40 {
                crypto.encrypt(call("acme", encrypt(KEY, b"text", b""))).await.unwrap();
            }
        }
    };
    tokio::join!(encrypting(&a), encrypting(&b), encrypting(&a), encrypting(&b));
    for replica in [&a, &b] {
        verified(replica.world.audit("operator")).await;
        let mut audit = replica.world.audit("operator");
        let list = ListAuditRecordsRequest { verb: "encrypt".into(), page_size: 1_000, ..Default::default() };
        let listed = audit.list_audit_records(call("acme", list)).await.unwrap().into_inner().records;
        assert_eq!(listed.iter().map(|record| record.count).sum::<u32>(), 160);
    }
    // What is counted of a key is the sum of both.
    let get = paymesh_proto::crypto::v1::GetKeyRequest { name: KEY.into() };
    let key = b.world.keys("operator").get_key(call("acme", get)).await.unwrap().into_inner();
    assert_eq!(key.versions[0].messages, 160);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cards_are_shared_and_codes_are_not() {
    let database = Database::new();
    let (a, b) = two(&database).await;
    let with_code = CardInput { cvc: "123".into(), ..card("4242424242424242") };
    let token = a.world.tokenize("acme", with_code).await.unwrap().into_inner();
    let again = b.world.tokenize("acme", card("4242424242424242")).await.unwrap().into_inner();
    assert_eq!(again.id, token.id);
    let code = async |replica: &Replica| {
        let asked = replica.world.vault("svc-payments").detokenize(call("acme", authorize(&token.id))).await;
        asked.map(|card| card.into_inner().cvc)
    };
    assert_eq!(code(&b).await.unwrap(), "");
    assert_eq!(code(&a).await.unwrap(), "123");
    let delete = call("acme", DeleteTokenRequest { id: token.id.clone() });
    b.world.vault("edge-gateway").delete_token(delete).await.unwrap();
    assert_eq!(reason(code(&a).await), Reason::TokenNotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_another_root_key_does_not_start() {
    let database = Database::new();
    let (_a, _b) = two(&database).await;
    let dir = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(dir.path()).unwrap();
    let refused = harness.start::<Crypto>(database.config_of_another_root()).await.err().unwrap();
    assert!(refused.to_string().contains("the root of trust is not the one"), "{refused}");
}
