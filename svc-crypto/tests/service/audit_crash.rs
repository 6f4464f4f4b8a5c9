//! The audit log of a process that is killed in mid-append.

use std::{
    collections::HashSet,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use mesh::{Metrics, SpiffeId, SystemClock};
use money::{TokenId, TokenRef};
use svc_crypto::{
    audit::{Recorder, verify},
    domain::{
        algorithm::Verb,
        audit::{Act, ChainKey, Entry, Link, Outcome, Subject},
        secret::KeyBytes,
    },
    store::{AuditLog as _, EmbeddedAuditLog},
};
use uuid::Uuid;

const DIRECTORY: &str = "SVC_CRYPTO_TEST_AUDIT_DIRECTORY";
const LIVES: u32 = 4;
/// So many acknowledgements later the process is killed.
const ACKNOWLEDGED: usize = 500;
const IN_FLIGHT: u128 = 32;

fn key() -> ChainKey {
    ChainKey::new(&KeyBytes::take(&mut [3; 32]))
}

fn open(dir: &Path) -> EmbeddedAuditLog {
    EmbeddedAuditLog::open(&dir.join("audit.db"), key()).unwrap()
}

/// Not a test by itself: what the other one starts and kills. Says on its output what was acknowledged.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = open(Path::new(&dir));
        let (deadline, metrics) = (Duration::from_secs(30), Metrics::new("svc-crypto"));
        let known = log.end(Link::START).await.unwrap();
        let (recorder, _end) =
            Recorder::start(log, known, Arc::new(SystemClock), deadline, &metrics).unwrap();
        let life = u128::from(std::process::id()) << 64;
        let callers = (0..IN_FLIGHT).map(|caller| {
            let recorder = recorder.clone();
            tokio::spawn(async move {
                for n in 0_u128.. {
                    let token = TokenId::new(Uuid::from_u128(life + n * IN_FLIGHT + caller));
                    let act = Act {
                        workload: SpiffeId::of("svc-payments").unwrap(),
                        tenant: "acme".parse().ok(),
                        subject: Subject::Token(TokenRef::Opaque(token)),
                        key: None,
                        verb: Verb::Detokenize,
                        outcome: Outcome::Done,
                    };
                    recorder.submit(Entry { act, count: 1, bytes: 0 }).await.unwrap();
                    // One write, so that no line is torn.
                    std::io::stdout().write_all(format!("kept {token}\n").as_bytes()).unwrap();
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    });
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_there_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: HashSet<TokenId> = HashSet::new();
    for life in 1..=LIVES {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "audit_crash::the_process_that_is_killed", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = 0;
        // A line that was cut off is none.
        for token in lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("kept ")?.parse().ok()) {
            acknowledged.insert(token);
            told += 1;
            if told == ACKNOWLEDGED {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(told >= ACKNOWLEDGED, "life {life} ended after {told}");

        let log = open(dir.path());
        let (end, offence) = verify(&log, key(), Vec::new(), |_| true).await.unwrap();
        assert_eq!(offence, None, "life {life}");
        let mut kept = HashSet::new();
        let mut after = 0;
        while after < end.sequence {
            for found in log.records(after, 1_000).await.unwrap() {
                after = found.sequence;
                let Subject::Token(TokenRef::Opaque(token)) = found.chained.unwrap().record.entry.act.subject
                else {
                    panic!()
                };
                kept.insert(token);
            }
        }
        let lost = acknowledged.difference(&kept).count();
        assert_eq!(lost, 0, "of {} acknowledged in life {life}", acknowledged.len());
    }
}
