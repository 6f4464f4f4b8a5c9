//! What of secrets is in the memory of a running mesh: a core image, as one would be, is searched for them.
//!
//! Read by who may: root, or the process's parent where it lets itself be read.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use mesh::{Call, SpiffeId, Upstream, pki::CertificateFiles, tls::Identity};
use paymesh::describe::Description;
use paymesh_proto::crypto::v1::{
    Algorithm, CreateKeyRequest, DecryptRequest, EncryptRequest, crypto_service_client::CryptoServiceClient,
    key_service_client::KeyServiceClient,
};

use super::*;

const KEY: &str = "payments.notes";
/// Cards that are paid with between two looks.
const OTHERS: usize = 10;
/// Looks until the cards have to be gone.
const ROUNDS_MAX: usize = 20;

/// No secret that is searched for is shorter.
const SECRET_BYTES_MIN: usize = 15;

/// A page is in memory, or in swap (proc_pid_pagemap(5)).
const PRESENT: u64 = 3 << 62;

/// How large a page is here, in bytes.
fn page_bytes() -> usize {
    let map = fs::read_to_string("/proc/self/smaps").unwrap();
    let kilobytes = map.lines().find_map(|line| line.strip_prefix("KernelPageSize:")?.strip_suffix("kB"));
    kilobytes.unwrap().trim().parse::<usize>().unwrap() * 1_024
}

/// Every page of a process that it can have written to, in pieces that follow one another in memory.
fn pages(pid: u32, mut each: impl FnMut(&[u8])) {
    let may = "root may read it, and where kernel.yama.ptrace_scope is at most 1 the parent";
    let open = |name: &str| File::open(format!("/proc/{pid}/{name}")).expect(may);
    let (memory, map) = (open("mem"), open("pagemap"));
    let page_bytes = page_bytes();
    let page_size = page_bytes as u64;
    let mut read = 0;
    for line in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap() / page_size;
        let (from, to) = (number(from), number(to));
        let mut entries = vec![0; usize::try_from((to - from) * 8).unwrap()];
        if map.read_exact_at(&mut entries, from * 8).is_err() {
            continue;
        }
        let mut piece = Vec::new();
        for (page, entry) in (from..to).zip(entries.chunks_exact(8)) {
            let start = piece.len();
            if u64::from_le_bytes(entry.try_into().unwrap()) & PRESENT != 0 {
                piece.resize(start + page_bytes, 0);
                if memory.read_exact_at(&mut piece[start..], page * page_size).is_ok() {
                    read += 1;
                    continue;
                }
                piece.truncate(start);
            }
            each(&piece);
            piece.clear();
        }
        each(&piece);
    }
    assert!(read * page_size > 8 << 20, "{read} pages are not the memory of a mesh");
}

/// Which of the secrets are there.
fn found(pid: u32, secrets: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    pages(pid, |bytes| {
        // All are ASCII, so they stand within valid text, which the library searches faster than bytes.
        for text in bytes.utf8_chunks().filter(|text| text.valid().len() >= SECRET_BYTES_MIN) {
            found.extend(secrets.iter().filter(|secret| text.valid().contains(secret.as_str())).cloned());
        }
    });
    found
}

fn upstream(data_dir: &Path, mesh: &Description, caller: &str) -> Upstream {
    let files = CertificateFiles::within(&data_dir.join("pki"), caller);
    let (identity, service) = (Identity::load(&files).unwrap(), SpiffeId::of("svc-crypto").unwrap());
    Upstream::new(&identity, &service, &mesh.services["svc-crypto"]).unwrap()
}

fn call<T>(caller: &str, message: T) -> tonic::Request<T> {
    let caller = SpiffeId::of(caller).unwrap();
    Call::begin(caller, "dev".parse().ok(), uuid::Uuid::now_v7()).request(message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_do_not_stay_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, log) = (dir.path().join("data"), dir.path().join("log"));
    let arguments =
        ["--edge-addr", "127.0.0.1:0", "--api-key", API_KEY, "--set", "mesh.memory.core_dumps=true"];
    let mut process = Process::spawn(&data_dir, &log, &arguments);
    let mesh = process.ready().await;
    let mut sender = Sender { http: Http::new(), url: mesh.edge_url.clone(), sent: 0, answers: Vec::new() };
    let cards = canary_cards();
    for number in &cards {
        sender.live(number).await;
    }
    let mut crypto = CryptoServiceClient::new(upstream(&data_dir, &mesh, "svc-payments"));
    let mut keys = KeyServiceClient::new(upstream(&data_dir, &mesh, "operator"));
    let algorithm = Algorithm::Aes256Gcm.into();
    let request = CreateKeyRequest { name: KEY.into(), algorithm, rotation_period: None };
    keys.create_key(call("operator", request)).await.unwrap();
    let mut plaintexts = Vec::new();
    for length in [20, 100, 1_000, 20_000] {
        let unit = format!("Plaintext of {length:05}. ");
        seal_and_open(&mut crypto, unit.repeat(length / unit.len())).await;
        plaintexts.push(unit);
    }
    let pid = process.id();
    let all: Vec<String> = cards.iter().cloned().chain([HOLDER.to_owned()]).collect();
    // Or the search finds nothing whatever is there.
    assert!(found(pid, &[all.clone(), plaintexts.clone()].concat()).len() > 4);

    // What is read or written last stays in the buffers of a connection until it is used again.
    for round in 0.. {
        let left = found(pid, &all);
        if left.is_empty() {
            break;
        }
        assert!(round < ROUNDS_MAX, "after {round} times {OTHERS} other cards: {left:?}");
        for other in 0..OTHERS {
            let number = with_check_digit(&format!("4556000000{:05}", round * OTHERS + other));
            let card = json!({"number": number, "exp_month": 1, "exp_year": 2031, "cvc": "123", "holder_name": "Ada Payer"});
            let token = id_of(&ok(sender.post("/v1/tokens", json!({"card": card})).await));
            ok(sender.post("/v1/payments", payment_body(&token, 1_000, "EUR", "AUTOMATIC")).await);
        }
    }
    // And goes with it.
    drop((sender, keys, crypto));
    let until = std::time::Instant::now() + support::process::PATIENCE;
    loop {
        let left = found(pid, &plaintexts);
        if left.is_empty() {
            break;
        }
        assert!(std::time::Instant::now() < until, "after the connections were closed: {left:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(found(pid, &all), BTreeSet::new());
}

async fn seal_and_open(crypto: &mut CryptoServiceClient<Upstream>, text: String) {
    let request =
        EncryptRequest { key_name: KEY.into(), plaintext: text.clone().into(), ..Default::default() };
    let sealed = crypto.encrypt(call("svc-payments", request)).await.unwrap().into_inner();
    let request =
        DecryptRequest { key_name: KEY.into(), ciphertext: sealed.ciphertext, ..Default::default() };
    let opened = crypto.decrypt(call("svc-payments", request)).await.unwrap().into_inner();
    assert_eq!(opened.plaintext, text.as_bytes());
}
