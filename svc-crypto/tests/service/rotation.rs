//! A key that is rotated again and again under load: nothing fails to open, and no salt comes twice.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use paymesh_proto::crypto::v1::{
    Algorithm, BatchRequest, Operation, RotateKeyRequest, operation::Verb, outcome::Result as Answer,
};
use svc_crypto::domain::{
    envelope::SALT_BYTES,
    prefix::{PREFIX_BYTES, Prefix},
};

use crate::{
    common::{World, call},
    crypto::{decrypt, encrypt},
    postgres::Database,
};

const KEY: &str = "payments.k";
const CALLERS: usize = 6;
const ROTATIONS: usize = 40;
/// How many messages are encrypted where the key is rotated before it is rotated again: more than can be under way.
const MESSAGES: usize = CALLERS * AT_ONCE;
/// What a caller has encrypted before it looks around.
const AT_ONCE: usize = 8;

type Ciphertexts = Vec<Vec<u8>>;

/// Encrypts, alone and in batches, and opens what it has made, now and from before, until told to stop. `seals` and
/// `opens` may be different replicas. What is encrypted is counted.
async fn load(seals: &World, opens: &World, count: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> Ciphertexts {
    let (mut sealing, mut opening) = (seals.crypto("svc-payments"), opens.crypto("svc-payments"));
    let mut made: Ciphertexts = Vec::new();
    let mut n = 0_u64;
    while !stop.load(Ordering::SeqCst) {
        let text = n.to_be_bytes();
        let one = sealing.encrypt(call("acme", encrypt(KEY, &text, b""))).await.unwrap().into_inner();
        made.push(one.ciphertext.to_vec());
        let operations = (1..AT_ONCE as u64).map(|more| Operation {
            verb: Some(Verb::Encrypt(encrypt(KEY, &(n + more).to_be_bytes(), b""))),
            tenant: String::new(),
        });
        let batch = BatchRequest { operations: operations.collect() };
        for outcome in sealing.batch(call("acme", batch)).await.unwrap().into_inner().outcomes {
            let Some(Answer::Encrypted(sealed)) = outcome.result else { panic!("{outcome:?}") };
            made.push(sealed.ciphertext.to_vec());
        }
        n += AT_ONCE as u64;
        count.fetch_add(AT_ONCE, Ordering::SeqCst);
        // The newest, and one from before.
        for at in [made.len() - 1, usize::try_from(n * 7 / 11).unwrap() % made.len()] {
            let request = call("acme", decrypt(KEY, &made[at], b""));
            let opened = opening.decrypt(request).await.unwrap().into_inner();
            assert_eq!(opened.plaintext[..], (at as u64).to_be_bytes());
        }
    }
    made
}

async fn rotated_under_load(rotates: &World, opens: &World) {
    rotates.make_key("acme", KEY, Algorithm::Aes256Gcm).await;
    let stop = Arc::new(AtomicBool::new(false));
    // Only what is encrypted where the key is rotated: there a new version is known at once.
    let (counted, others) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let rotating = async {
        for version in 1.. {
            let before = counted.load(Ordering::SeqCst);
            while counted.load(Ordering::SeqCst) < before + MESSAGES {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if version > ROTATIONS {
                break;
            }
            let expected_version = version.try_into().unwrap();
            let request = RotateKeyRequest { name: KEY.into(), expected_version };
            rotates.keys("operator").rotate_key(call("acme", request)).await.unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    };
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let here = caller % 2 == 0;
        let (seals, opens) = if here { (rotates, opens) } else { (opens, rotates) };
        let count = if here { &counted } else { &others };
        callers.push(load(seals, opens, Arc::clone(count), Arc::clone(&stop)));
    }
    let ((), made) = tokio::join!(rotating, all(callers));

    let (mut salts, mut versions) = (HashSet::new(), HashSet::new());
    let mut count = 0;
    for sealed in made.iter().flatten() {
        versions.insert(Prefix::read(sealed).unwrap().key.version);
        assert!(salts.insert(sealed[PREFIX_BYTES..PREFIX_BYTES + SALT_BYTES].to_vec()), "a salt came twice");
        count += 1;
    }
    println!("{count} messages under {} versions, {} salts", versions.len(), salts.len());
    assert_eq!(versions.len(), ROTATIONS + 1, "the load went on while the key was rotated");
    // Everything opens in the end, too.
    let mut crypto = opens.crypto("svc-payments");
    for sealed in made.iter().flatten().step_by(7) {
        crypto.decrypt(call("acme", decrypt(KEY, sealed, b""))).await.unwrap();
    }
}

/// All at once.
async fn all(callers: Vec<impl Future<Output = Ciphertexts>>) -> Vec<Ciphertexts> {
    let mut callers: Vec<_> = callers.into_iter().map(Box::pin).collect();
    let mut made: Vec<Option<Ciphertexts>> = callers.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (caller, made) in callers.iter_mut().zip(&mut made) {
            if made.is_none()
                && let std::task::Poll::Ready(done) = caller.as_mut().poll(context)
            {
                *made = Some(done);
            }
        }
        if made.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    made.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_fails_to_open_while_its_key_is_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    rotated_under_load(&world, &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_fails_to_open_at_another_replica_either() {
    let (a, b, database) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Database::new());
    let a = World::start_with(a.path(), database.config()).await;
    let b = World::start_with(b.path(), database.config()).await;
    rotated_under_load(&a, &b).await;
}
