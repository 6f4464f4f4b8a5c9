//! Roots of trust of the running service: away at the start, lost later, replaced, and put together from shares.

mod adopting;
mod double;
mod every_rpc;
mod kill;

use std::{fs, path::Path};

use mesh::{Fault, Reason};
use paymesh_proto::crypto::v1::{
    GetRootStatusRequest, RootStatus, RotateRootRequest, RotateRootResponse, UnsealRequest,
    root_service_client::RootServiceClient,
};
use svc_crypto::{
    audit::verify_stopped,
    config::Config,
    domain::{keys, secret::KeyBytes, shares},
    root::{RootConfig, SharesConfig},
};
use tonic::Status;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use self::double::{Double, Mode};
use crate::common::{World, call, card, detokenize, reason};

const VISA: &str = "4242424242424242";
/// What is served once the root has answered.
const SEALED: [&str; 4] = [
    "paymesh.crypto.v1.VaultService",
    "paymesh.crypto.v1.CryptoService",
    "paymesh.crypto.v1.KeyService",
    "paymesh.crypto.v1.AuditService",
];

impl World {
    fn root(&self, caller: &str) -> RootServiceClient<mesh::Upstream> {
        RootServiceClient::new(self.harness.upstream(caller, &self.service).unwrap())
    }

    async fn root_status(&self) -> RootStatus {
        let asked = self.root("operator").get_root_status(call("acme", GetRootStatusRequest {})).await;
        asked.unwrap().into_inner()
    }

    async fn rotate_root(&self) -> Result<RotateRootResponse, Status> {
        let asked = self.root("operator").rotate_root(call("acme", RotateRootRequest {})).await;
        let mut said = asked?.into_inner();
        loop {
            let report = said.message().await?.unwrap();
            if report.done {
                return Ok(report);
            }
        }
    }

    async fn unseal(&self, share: &str) -> Result<(u32, u32, bool), Status> {
        let request = UnsealRequest { share: share.into() };
        let said = self.root("operator").unseal(call("acme", request)).await?.into_inner();
        Ok((said.given, said.needed, said.unsealed))
    }

    async fn health(&self, service: &str) -> ServingStatus {
        let mut client = HealthClient::new(self.harness.upstream("operator", &self.service).unwrap());
        let request = HealthCheckRequest { service: service.into() };
        client.check(call("acme", request)).await.unwrap().into_inner().status()
    }

    async fn is_ready(&self) -> bool {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.service.admin_address).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said.starts_with("HTTP/1.1 200")
    }

    /// The token of a card of this tenant.
    async fn token(&self, tenant: &str) -> String {
        self.tokenize(tenant, card(VISA)).await.unwrap().into_inner().id
    }

    async fn number(&self, tenant: &str, token: &str) -> Result<String, Status> {
        let opened = self.vault("svc-payments").detokenize(call(tenant, detokenize(token, ""))).await?;
        Ok(opened.into_inner().number)
    }
}

fn under(root: RootConfig) -> Config {
    Config { root, ..Config::default() }
}

async fn refused(dir: &Path, config: Config) -> String {
    let mut harness = mesh::Harness::new(dir).unwrap();
    harness.start::<svc_crypto::Crypto>(config).await.err().unwrap().to_string()
}

#[tokio::test]
async fn a_vault_whose_root_is_away_is_sealed_until_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(dir.path()).await;
    double.becomes(Mode::Sealed);
    let world = World::start_with(dir.path(), under(double.root("paymesh"))).await;
    for service in ["", "paymesh.crypto.v1.VaultService", "paymesh.crypto.v1.AuditService"] {
        assert_eq!(world.health(service).await, ServingStatus::NotServing, "{service}");
    }
    assert_eq!(world.health("paymesh.crypto.v1.RootService").await, ServingStatus::Serving);
    assert!(!world.is_ready().await);
    let sealed = every_rpc::are_sealed(&world, &SEALED).await;
    assert!(sealed > 20, "{sealed}");
    let status = world.tokenize("acme", card(VISA)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let fault = Fault::from_status(&status);
    assert_eq!((fault.reason(), fault.retry_after()), (Reason::VaultSealed, Some(5)));
    assert!(fault.message().contains("sealed"), "{fault}");
    assert_eq!(reason(world.rotate_root().await), Reason::VaultSealed);
    let status = world.root_status().await;
    assert!(status.sealed && !status.answers && status.wrapped.is_empty());
    assert_eq!(status.current, "transit:transit/paymesh");

    // Refusing is as being away: a policy may be mended without a restart.
    double.becomes(Mode::Forbidden);
    let asked = double.asked();
    world.until(async || double.asked() > asked).await;
    assert!(world.root_status().await.sealed);

    double.becomes(Mode::Serving);
    world.until(async || world.health("").await == ServingStatus::Serving).await;
    assert!(world.is_ready().await && !world.root_status().await.sealed);
    let token = world.token("acme").await;
    assert_eq!(world.number("acme", &token).await.unwrap(), VISA);
    let begun = std::time::Instant::now();
    world.service.stop().await;
    assert!(begun.elapsed().as_secs() < 4, "it waits for nothing: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_sealed_service_stops_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(dir.path()).await;
    double.becomes(Mode::Sealed);
    let world = World::start_with(dir.path(), under(double.root("paymesh"))).await;
    assert!(world.root_status().await.sealed);
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(20), world.service.stop());
    stopped.await.expect("it does not wait for the root");
}

#[tokio::test]
async fn a_root_that_is_lost_later_disturbs_nobody_who_was_served_before() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(dir.path()).await;
    let config = under(double.root("paymesh"));
    let held_for = i64::try_from(config.tenant_keys_held_for_s).unwrap();
    let world = World::start_with(dir.path(), config).await;
    let token = world.token("acme").await;
    let asked = double.asked();
    for _ in 0..5 {
        world.number("acme", &token).await.unwrap();
    }
    assert_eq!(double.asked(), asked, "a key is unwrapped once");

    double.becomes(Mode::Sealed);
    world.clock.advance_seconds(held_for - 60);
    assert_eq!(world.number("acme", &token).await.unwrap(), VISA);
    assert_eq!(reason(world.tokenize("new", card(VISA)).await), Reason::Unavailable);
    world.clock.advance_seconds(120);
    assert_eq!(reason(world.number("acme", &token).await), Reason::Unavailable);
    assert_eq!(world.health("").await, ServingStatus::Serving, "what needs no key goes on");

    double.becomes(Mode::Serving);
    assert_eq!(world.number("acme", &token).await.unwrap(), VISA);
    world.token("new").await;
    world.service.stop().await;
}

#[tokio::test]
async fn keys_are_wrapped_under_another_root_and_the_old_one_is_not_needed_then() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(dir.path()).await;
    let data = dir.path().join("svc-crypto");
    let world = World::start(dir.path()).await;
    let mut tokens = Vec::new();
    for tenant in ["a", "b", "c"] {
        tokens.push((tenant, world.token(tenant).await));
    }
    let status = world.root_status().await;
    assert!(status.current.starts_with("file:") && !status.previous_needed, "{status:?}");
    assert_eq!(
        status.wrapped.iter().map(|wrapped| wrapped.keys).sum::<u64>(),
        4,
        "and that of the audit log"
    );
    world.service.stop().await;

    let alone = || under(double.root("paymesh"));
    let needed = refused(dir.path(), alone()).await;
    assert!(needed.contains("configure it too"), "{needed}");
    let own = data.join("root.key");
    let both = || Config { previous_root_key_file: Some(own.clone()), ..alone() };
    let world = World::start_with(dir.path(), both()).await;
    tokens.push(("d", world.token("d").await));
    let before = world.root_status().await;
    assert!(before.previous_needed && before.previous.starts_with("file:"));
    assert_eq!(before.wrapped.iter().map(|wrapped| wrapped.keys).collect::<Vec<_>>(), [4, 1]);
    world.service.stop().await;
    // Until it is done both are needed, whichever is left out.
    assert!(refused(dir.path(), alone()).await.contains("configure it too"));
    assert!(refused(dir.path(), Config::default()).await.contains("configure it too"));

    let world = World::start_with(dir.path(), both()).await;
    let done = world.rotate_root().await.unwrap();
    assert_eq!((done.keys, done.keys_total, done.rewrapped), (5, 5, 4));
    assert_eq!(done.under, "transit:transit/paymesh#1");
    assert_eq!(world.rotate_root().await.unwrap().rewrapped, 0, "again is nothing");
    let after = world.root_status().await;
    assert!(!after.previous_needed);
    assert_eq!(after.wrapped.len(), 1);
    assert_eq!(
        (&*after.wrapped[0].root, &*after.wrapped[0].version, after.wrapped[0].keys),
        ("transit:transit/paymesh", "1", 5)
    );
    for (tenant, token) in &tokens {
        assert_eq!(world.number(tenant, token).await.unwrap(), VISA);
    }
    // Another version of the same key.
    double.rotates();
    let done = world.rotate_root().await.unwrap();
    assert_eq!((done.rewrapped, &*done.under), (5, "transit:transit/paymesh#2"));
    world.service.stop().await;

    fs::remove_file(&own).unwrap();
    let world = World::start_with(dir.path(), alone()).await;
    for (tenant, token) in &tokens {
        assert_eq!(world.number(tenant, token).await.unwrap(), VISA);
    }
    for caller in ["edge-gateway", "svc-payments", "stranger"] {
        let asked = world.root(caller).get_root_status(call("a", GetRootStatusRequest {})).await;
        assert_eq!(reason(asked), Reason::PermissionDenied);
        let asked = world.root(caller).rotate_root(call("a", RotateRootRequest {})).await;
        assert_eq!(reason(asked), Reason::PermissionDenied);
        let asked = world.root(caller).unseal(call("a", UnsealRequest::default())).await;
        assert_eq!(reason(asked), Reason::PermissionDenied);
    }
    world.service.stop().await;
    let (_, offence) = verify_stopped(&data, &alone(), None, |_| true).await.unwrap();
    assert_eq!(offence, None, "the log is one chain across its key's rotation");
}

#[tokio::test]
async fn a_rotation_that_is_broken_off_anywhere_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(dir.path()).await;
    let world = World::start(dir.path()).await;
    let tenants = ["a", "b", "c", "d"];
    let mut tokens = Vec::new();
    for tenant in tenants {
        tokens.push(world.token(tenant).await);
    }
    world.service.stop().await;
    let config = || Config {
        previous_root_key_file: Some(dir.path().join("svc-crypto/root.key")),
        ..under(double.root("paymesh"))
    };
    let (mut broken, mut times) = (0, 0);
    loop {
        double.becomes(Mode::Serving);
        let world = World::start_with(dir.path(), config()).await;
        double.becomes(Mode::ServingTimes(times));
        let done = world.rotate_root().await;
        double.becomes(Mode::Serving);
        for (tenant, token) in tenants.iter().zip(&tokens) {
            assert_eq!(world.number(tenant, token).await.unwrap(), VISA, "after {times} answers");
        }
        let needed = world.root_status().await.previous_needed;
        world.service.stop().await;
        match done {
            Ok(_) => {
                assert!(!needed);
                break;
            }
            Err(status) => {
                assert_eq!(reason(Err::<(), _>(status)), Reason::Unavailable);
                assert!(needed);
                broken += 1;
                times = broken % 5;
            }
        }
    }
    assert!(broken >= 4, "it was broken off {broken} times");
}

#[tokio::test]
async fn a_vault_whose_root_is_in_shares_opens_once_there_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let token = world.token("acme").await;
    world.service.stop().await;
    // The root key that there was, split; its file goes.
    let own = dir.path().join("svc-crypto/root.key");
    let key = KeyBytes::from_slice(&fs::read(&own).unwrap()).unwrap();
    let random = |bytes: &mut [u8]| {
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), bytes).unwrap();
        Ok::<(), shares::SplitError>(())
    };
    let shares = shares::split(&key, 3, 5, random).unwrap();
    let texts: Vec<String> = shares.iter().map(|share| share.to_text().to_string()).collect();
    fs::remove_file(&own).unwrap();
    let root_id = keys::root(&key).id.to_string();
    let config = under(RootConfig { shares: Some(SharesConfig { root_id }), ..RootConfig::default() });

    let world = World::start_with(dir.path(), config).await;
    assert_eq!(reason(world.number("acme", &token).await), Reason::VaultSealed);
    assert_eq!(world.unseal(&texts[4]).await.unwrap(), (1, 3, false));
    assert_eq!(world.unseal(&texts[4]).await.unwrap(), (1, 3, false));
    let wrong = world.unseal("pms1-00").await.unwrap_err();
    let fault = Fault::from_status(&wrong);
    assert_eq!((fault.reason(), &*fault.violations()[0].field), (Reason::InvalidRequest, "share"));
    assert_eq!(world.unseal(&texts[0]).await.unwrap(), (2, 3, false));
    assert!(world.root_status().await.sealed);
    assert_eq!(world.unseal(&texts[2]).await.unwrap(), (3, 3, true));
    world.until(async || world.health("").await == ServingStatus::Serving).await;
    assert_eq!(world.number("acme", &token).await.unwrap(), VISA);
    let request =
        paymesh_proto::crypto::v1::ListAuditRecordsRequest { verb: "unseal".into(), ..Default::default() };
    let records =
        world.audit("operator").list_audit_records(call("acme", request)).await.unwrap().into_inner().records;
    let told: Vec<_> =
        records.iter().map(|record| (&*record.workload, &*record.reason, record.count)).collect();
    assert_eq!(
        told,
        [("operator", "", 4), ("operator", "INVALID_REQUEST", 1)],
        "also what came while it was sealed"
    );
    world.service.stop().await;
    assert!(!own.exists());
    for entry in fs::read_dir(dir.path().join("svc-crypto")).unwrap() {
        // A file that SQLite takes away meanwhile holds nothing.
        let bytes = fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(32).any(|window| window == key.expose()), "the key lies nowhere");
    }
}
