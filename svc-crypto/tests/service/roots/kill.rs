//! Wrapping keys anew survives kill -9 at any point.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use money::Timestamp;
use svc_crypto::{
    domain::{
        envelope::KeyRef,
        keys::{Purpose, Slot},
        secret::KeyBytes,
    },
    root::{FileRoot, RootOfTrust, Roots},
    rotation,
    store::{EmbeddedStore, Store as _},
};

const DIRECTORY: &str = "PAYMESH_TEST_ROTATION_DIRECTORY";
const TENANTS: u8 = 200;
/// After how many keys of each life the process is killed.
const KILLED_AFTER: usize = 23;

fn root(byte: u8) -> Arc<dyn RootOfTrust> {
    Arc::new(FileRoot::new(&KeyBytes::take(&mut [byte; 32])))
}

fn roots(current: u8, previous: Option<u8>) -> Roots {
    Roots::new(root(current), previous.map(root), Duration::from_secs(30))
}

fn store(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(&dir.join("crypto.db")).unwrap()
}

fn key(tenant: u8) -> (Slot, KeyRef, KeyBytes) {
    let slot = Slot::own(format!("t-{tenant}").parse().unwrap(), Purpose::TenantKek);
    (slot, KeyRef { id: uuid::Uuid::from_u128(tenant.into()), version: 1 }, KeyBytes::take(&mut [tenant; 32]))
}

/// Not a test by itself: what the other one starts and kills. Says how many keys it wrapped anew, and goes on after so
/// many as it is killed after when it is told to: it cannot have ended before.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (store, roots) = (store(Path::new(&dir)), roots(2, Some(1)));
        let mut rewrapped = 0;
        let said = rotation::rotate(&store, &roots, |done| {
            if done.rewrapped > rewrapped {
                rewrapped = done.rewrapped;
                println!("rewrapped {rewrapped}");
                if rewrapped == KILLED_AFTER as u64 {
                    let _ = std::io::stdin().read(&mut [0]);
                }
            }
            true
        });
        said.await.unwrap();
        println!("done");
    });
}

#[tokio::test]
async fn wrapping_keys_anew_survives_being_killed_at_any_point() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, before) = (store(dir.path()), roots(1, None));
        store.adopt_root(before.current().id(), None).await.unwrap();
        for tenant in 0..TENANTS {
            let (slot, reference, key) = key(tenant);
            let wrapped = before.wrap(&slot, reference, &key).await.unwrap();
            store.make_key(slot, wrapped, Timestamp::EPOCH).await.unwrap();
        }
        store.adopt_root(roots(2, None).current().id(), Some(before.current().id())).await.unwrap();
    }
    let (mut lives, mut done) = (0, false);
    while !done {
        lives += 1;
        assert!(lives < 100, "it does not come to an end");
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "roots::kill::the_process_that_is_killed", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut told = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            done = done || line == "done";
            told += usize::from(line.starts_with("rewrapped "));
            if told == KILLED_AFTER {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let (store, both) = (store(dir.path()), roots(2, Some(1)));
        for tenant in 0..TENANTS {
            let (slot, _, key) = key(tenant);
            let versions = store.key(slot.clone()).await.unwrap();
            assert_eq!(versions.len(), 1);
            let unwrapped = both.unwrap(&slot, &versions[0]).await.unwrap();
            assert_eq!(unwrapped.expose(), key.expose(), "tenant {tenant} after life {lives}");
        }
        let (record, census) = (store.root().await.unwrap(), rotation::census(&store).await.unwrap());
        assert_eq!(rotation::needs_another(record, &census, both.current().id()), !done);
    }
    assert_eq!(lives, usize::from(TENANTS) / KILLED_AFTER + 1, "each life but the last wrapped so many");
    let (store, alone) = (store(dir.path()), roots(2, None));
    let (slot, _, key) = key(7);
    let versions = store.key(slot.clone()).await.unwrap();
    assert_eq!(alone.unwrap(&slot, &versions[0]).await.unwrap().expose(), key.expose());
}
