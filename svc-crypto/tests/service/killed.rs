//! The service as a process of its own, killed in the midst of making, rotating and destroying keys: what it
//! acknowledged is there afterwards, and nothing that is half made serves.
//!
//! `SVC_CRYPTO_KILLS` says how often (6 for each store).

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use mesh::{Harness, SpiffeId, Upstream, tls::Identity};
use money::Timestamp;
use paymesh_proto::crypto::v1::{
    Algorithm, CancelKeyDestructionRequest, CreateKeyRequest, EncryptRequest, Key, ListKeysRequest,
    RotateKeyRequest, ScheduleKeyDestructionRequest, audit_service_client::AuditServiceClient,
    crypto_service_client::CryptoServiceClient, key::State, key_service_client::KeyServiceClient,
};
use svc_crypto::config::Config;
use tonic::Status;

use crate::{
    common::{NOW, World, call, verified},
    crypto::{decrypt, encrypt},
    postgres::Database,
};

const DIRECTORY: &str = "SVC_CRYPTO_TEST_SERVICE_DIRECTORY";
const CONFIG: &str = "SVC_CRYPTO_TEST_SERVICE_CONFIG";
const DAYS: &str = "SVC_CRYPTO_TEST_SERVICE_DAYS";
const READY: &str = "listening ";

const CALLERS: u64 = 6;
/// Keys that are given up, and destroyed in the end.
const GIVEN_UP: usize = 60;
/// After the waiting period.
const LATER: i64 = 40;
const PATIENCE: Duration = Duration::from_secs(60);

/// Not a test by itself: what the others start and kill. Says on its output where it listens.
#[test]
fn the_service_that_is_killed() {
    let Some(dir) = env::var_os(DIRECTORY) else { return };
    let config: Config = toml::from_str(&env::var(CONFIG).unwrap()).unwrap();
    let days: i64 = env::var(DAYS).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let now = Timestamp::from_nanos(NOW.as_nanos() + days * 86_400 * 1_000_000_000);
        let world = World::begin(Path::new(&dir), config, now).await;
        // A line of its own, also where the harness has begun one.
        let line = format!("\n{READY}{}\n", world.service.address);
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        std::future::pending::<()>().await;
    });
}

/// One life of the service. Killed when dropped.
struct Life {
    child: Child,
    keys: KeyServiceClient<Upstream>,
    crypto: CryptoServiceClient<Upstream>,
    audit: AuditServiceClient<Upstream>,
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A deterministic generator (SplitMix64): a run's choices, not secrets.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A key's name, what was encrypted, and what it became.
type Sealed = (String, Vec<u8>, Vec<u8>);

/// What was acknowledged.
#[derive(Default)]
struct Record {
    /// The newest version of each key.
    versions: Mutex<BTreeMap<String, u32>>,
    sealed: Mutex<Vec<Sealed>>,
    answers: AtomicU64,
    names: AtomicU64,
}

impl Record {
    fn acknowledged(&self, key: &Key) {
        let mut versions = self.versions.lock().unwrap();
        let known = versions.entry(key.name.clone()).or_default();
        *known = (*known).max(key.newest_version);
        self.answers.fetch_add(1, Ordering::SeqCst);
    }

    fn some_name(&self, rng: &mut Rng) -> Option<String> {
        let versions = self.versions.lock().unwrap();
        let count = u64::try_from(versions.len()).unwrap();
        versions.keys().nth(usize::try_from(rng.below(count.max(1))).unwrap()).cloned()
    }
}

struct Run {
    dir: tempfile::TempDir,
    harness: Harness,
    config: String,
    record: Arc<Record>,
    rng: Rng,
}

impl Run {
    fn new(config: &Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let harness = Harness::new(dir.path()).unwrap();
        let config = toml::to_string(config).unwrap();
        Self { dir, harness, config, record: Arc::default(), rng: Rng(17) }
    }

    fn spawn(&self, days: i64) -> Child {
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "killed::the_service_that_is_killed", "--nocapture"])
            .env(DIRECTORY, self.dir.path())
            .env(CONFIG, &self.config)
            .env(DAYS, days.to_string())
            .stdout(Stdio::piped())
            .stderr(File::create(self.said()).unwrap())
            .spawn()
            .unwrap()
    }

    /// Where it is kept what the service says of its faults.
    fn said(&self) -> PathBuf {
        self.dir.path().join("said")
    }

    /// A life of the service, so many days after the first.
    fn start(&self, days: i64) -> Life {
        let mut child = self.spawn(days);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (tell, told) = mpsc::channel();
        // A thread: the output of a process cannot be read with a deadline. It ends with that process.
        std::thread::spawn(move || {
            for line in lines {
                if let Some(address) = line.strip_prefix(READY) {
                    let _ = tell.send(address.to_owned());
                }
            }
        });
        let address = told.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = child.kill();
            let said = std::fs::read_to_string(self.said()).unwrap_or_default();
            panic!("the service does not start: {said}")
        });
        let upstream = |caller: &str| {
            let identity = Identity::load(&self.harness.certificate(caller).unwrap()).unwrap();
            Upstream::new(&identity, &SpiffeId::of("svc-crypto").unwrap(), &address).unwrap()
        };
        let (keys, crypto) = (upstream("operator"), upstream("svc-payments"));
        let audit = AuditServiceClient::new(keys.clone());
        Life { child, keys: KeyServiceClient::new(keys), crypto: CryptoServiceClient::new(crypto), audit }
    }

    /// Under load until so many answers came, then killed.
    async fn load(&mut self, mut life: Life, answers: u64) {
        let until = self.record.answers.load(Ordering::SeqCst) + answers;
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            let (keys, crypto) = (life.keys.clone(), life.crypto.clone());
            let (record, rng) = (Arc::clone(&self.record), Rng(self.rng.below(u64::MAX)));
            callers.spawn(caller(keys, crypto, record, rng));
        }
        let reached = async {
            while self.record.answers.load(Ordering::SeqCst) < until {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(reached, "the service goes on answering").await;
        life.child.kill().unwrap();
        life.child.wait().unwrap();
        while callers.join_next().await.is_some() {}
    }

    /// Everything that was acknowledged is there, and whatever is there is whole.
    async fn check(&self, life: &mut Life) {
        let found = listed(life).await;
        let acknowledged = self.record.versions.lock().unwrap().clone();
        for (name, version) in &acknowledged {
            let key = found.get(name).unwrap_or_else(|| panic!("{name} is lost"));
            assert!(key.newest_version >= *version, "{name} lost version {version}");
        }
        for (name, key) in &found {
            let numbers: Vec<u32> = key.versions.iter().map(|version| version.version).collect();
            assert_eq!(numbers, (1..=key.newest_version).collect::<Vec<_>>(), "{name}");
            if key.state() != State::Enabled {
                continue;
            }
            assert_eq!(key.revision, u64::from(key.newest_version), "{name} was only rotated");
            for key_version in numbers {
                let request = EncryptRequest { key_version, ..encrypt(name, b"text", b"") };
                let sealed = life.crypto.encrypt(call("acme", request)).await.unwrap().into_inner();
                open(life, name, &sealed.ciphertext, b"text").await;
            }
        }
        let sealed = self.record.sealed.lock().unwrap().clone();
        for (name, text, ciphertext) in &sealed {
            if found[name].state() == State::Enabled {
                open(life, name, ciphertext, text).await;
            }
        }
        // What was cut short is no break in the log.
        verified(life.audit.clone()).await;
    }
}

/// Waits for what should come.
async fn within(coming: impl Future<Output = ()>, what: &str) {
    assert!(tokio::time::timeout(PATIENCE, coming).await.is_ok(), "{what}");
}

async fn open(life: &mut Life, name: &str, ciphertext: &[u8], text: &[u8]) {
    let opened = life.crypto.decrypt(call("acme", decrypt(name, ciphertext, b""))).await;
    assert_eq!(opened.unwrap_or_else(|status| panic!("{name}: {status:?}")).into_inner().plaintext, text);
}

async fn listed(life: &mut Life) -> BTreeMap<String, Key> {
    let (mut found, mut page_token) = (BTreeMap::new(), String::new());
    loop {
        let request = ListKeysRequest { page_token, ..Default::default() };
        let page = life.keys.list_keys(call("acme", request)).await.unwrap().into_inner();
        found.extend(page.keys.into_iter().map(|key| (key.name.clone(), key)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

/// Makes and rotates keys and encrypts, until the service is gone.
async fn caller(
    mut keys: KeyServiceClient<Upstream>,
    mut crypto: CryptoServiceClient<Upstream>,
    record: Arc<Record>,
    mut rng: Rng,
) {
    loop {
        let name = record.some_name(&mut rng);
        let done: Result<(), Status> = match (rng.below(4), name) {
            (0, _) | (_, None) => {
                let name = format!("payments.k{}", record.names.fetch_add(1, Ordering::SeqCst));
                let request =
                    CreateKeyRequest { name, algorithm: Algorithm::Aes256Gcm.into(), rotation_period: None };
                let made = keys.create_key(call("acme", request)).await;
                made.map(|key| record.acknowledged(key.get_ref()))
            }
            (1, Some(name)) => {
                let request = RotateKeyRequest { name, expected_version: 0 };
                let rotated = keys.rotate_key(call("acme", request)).await;
                rotated.map(|key| record.acknowledged(key.get_ref()))
            }
            (_, Some(name)) => {
                let text = rng.below(u64::MAX).to_be_bytes();
                let sealed = crypto.encrypt(call("acme", encrypt(&name, &text, b""))).await;
                sealed.map(|sealed| {
                    let ciphertext = sealed.into_inner().ciphertext.to_vec();
                    record.sealed.lock().unwrap().push((name, text.to_vec(), ciphertext));
                })
            }
        };
        if done.is_err() {
            return;
        }
    }
}

fn kills() -> u64 {
    env::var("SVC_CRYPTO_KILLS").map_or(6, |text| text.parse().unwrap())
}

async fn made_and_rotated(config: &Config) {
    let mut run = Run::new(config);
    for _ in 0..kills() {
        let mut life = run.start(0);
        run.check(&mut life).await;
        let answers = 1 + run.rng.below(40);
        run.load(life, answers).await;
    }
    let mut life = run.start(0);
    run.check(&mut life).await;
    let (keys, sealed) = (run.record.versions.lock().unwrap().len(), run.record.sealed.lock().unwrap().len());
    println!("{} kills, {keys} keys and {sealed} ciphertexts acknowledged", kills());
    assert!(keys > 0 && sealed > 0);
}

/// Keys by name, with whether they are destroyed, and how many of their versions are empty and how many are not.
type AtRest = Vec<(String, bool, i64, i64)>;

const AT_REST: &str = "SELECT n.name, n.state = 4, count(*) FILTER (WHERE length(k.wrapped) = 0),
    count(*) FILTER (WHERE length(k.wrapped) > 0)
    FROM named_key n JOIN key k ON k.tenant = n.tenant AND k.name = n.name AND k.purpose = n.purpose
    GROUP BY n.name, n.state";

async fn destroyed(config: &Config, at_rest: impl AsyncFn(&Path) -> AtRest) {
    let mut run = Run::new(config);
    let mut life = run.start(0);
    let mut given_up = Vec::new();
    for n in 0..GIVEN_UP + 2 {
        let name = format!("payments.k{n}");
        let (algorithm, rotation_period) = (Algorithm::Aes256Gcm.into(), None);
        let request = CreateKeyRequest { name: name.clone(), algorithm, rotation_period };
        life.keys.create_key(call("acme", request)).await.unwrap();
        let rotate = RotateKeyRequest { name: name.clone(), expected_version: 1 };
        let key = life.keys.rotate_key(call("acme", rotate)).await.unwrap().into_inner();
        run.record.acknowledged(&key);
        let sealed =
            life.crypto.encrypt(call("acme", encrypt(&name, b"text", b""))).await.unwrap().into_inner();
        let sealed = (name.clone(), b"text".to_vec(), sealed.ciphertext.to_vec());
        run.record.sealed.lock().unwrap().push(sealed);
        if n < GIVEN_UP {
            given_up.push(name);
        }
    }
    let kept = format!("payments.k{GIVEN_UP}");
    for name in given_up.iter().chain([&kept]) {
        let request = ScheduleKeyDestructionRequest { name: name.clone(), waiting_period: None };
        life.keys.schedule_key_destruction(call("acme", request)).await.unwrap();
    }
    let cancel = CancelKeyDestructionRequest { name: kept.clone() };
    life.keys.cancel_key_destruction(call("acme", cancel)).await.unwrap();
    drop(life);

    let whole = async |run: &Run| {
        let found = at_rest(run.dir.path()).await;
        assert_eq!(found.len(), GIVEN_UP + 2);
        let mut gone = 0;
        for (name, destroyed, empty, full) in found {
            let expected = if destroyed { (2, 0) } else { (0, 2) };
            assert_eq!((empty, full), expected, "{name} is half destroyed");
            assert!(!destroyed || given_up.contains(&name), "{name} was not given up");
            gone += usize::from(destroyed);
        }
        gone
    };
    let (mut cut_short, mut gone) = (0, 0);
    for _ in 0..kills() {
        // It destroys what is due as soon as it runs; it is killed some keys later.
        let mut child = run.spawn(LATER);
        let until = (gone + 1 + usize::try_from(run.rng.below(5)).unwrap()).min(GIVEN_UP);
        let reached = async {
            while whole(&run).await < until {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(reached, "what is due is destroyed").await;
        child.kill().unwrap();
        child.wait().unwrap();
        gone = whole(&run).await;
        cut_short += u64::from(gone < GIVEN_UP);
    }
    assert!(cut_short > 0, "no kill came amid the destructions");
    let mut life = run.start(LATER);
    let done = async {
        while whole(&run).await < GIVEN_UP {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(done, "what is due is destroyed").await;
    println!("{} kills, {cut_short} amid {GIVEN_UP} destructions", kills());
    run.check(&mut life).await;
    let found = listed(&mut life).await;
    assert!(given_up.iter().all(|name| found[name].state() == State::Destroyed));
    assert_eq!(found[&kept].state(), State::Disabled);
    let sealed = run.record.sealed.lock().unwrap().clone();
    for (name, _, ciphertext) in sealed {
        let opened = life.crypto.decrypt(call("acme", decrypt(&name, &ciphertext, b""))).await;
        assert_eq!(opened.is_ok(), found[&name].state() == State::Enabled, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_were_acknowledged_outlive_kills() {
    made_and_rotated(&Config::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_were_acknowledged_outlive_kills_in_postgres() {
    made_and_rotated(&Database::new().config()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destruction_that_is_killed_is_whole_or_has_not_begun() {
    let at_rest = async |dir: &Path| {
        let Ok(file) = rusqlite::Connection::open(dir.join("svc-crypto/crypto.db")) else {
            return Vec::new();
        };
        let mut select = file.prepare(AT_REST).unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
        rows.unwrap().map(Result::unwrap).collect()
    };
    destroyed(&Config::default(), at_rest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destruction_that_is_killed_in_postgres_is_whole_or_has_not_begun() {
    let database = Database::new();
    let client = database.schema.client().await;
    let at_rest = async |_: &Path| {
        let rows = client.query(AT_REST, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
    };
    destroyed(&database.config(), at_rest).await;
}
