//! What lies on the disk: no card number in any form, and a root key without which nothing opens.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::{
    common::{World, authorize, call, card, digits},
    crypto::encrypt,
    postgres::Database,
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use mesh::{
    StartError,
    testing::{Harness, log::Lines},
};
use paymesh_proto::crypto::v1::{
    Algorithm, BatchDetokenizeRequest, BatchTokenizeRequest, CardInput, DeleteTokenRequest,
    DetokenizeRequest, batch_tokenize_request,
};
use svc_crypto::{Crypto, config::Config};

/// Valid cards that occur nowhere else.
const CANARIES: [&str; 2] = ["4539578763621486", "5553948271640930"];
const HOLDER: &str = "Canary Cardholder";

/// The forms in which a text would be found again: raw, hexadecimal, and base64 at each of
/// the three places that it can begin at.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let hex = svc_crypto::domain::canonical::hex(text.as_bytes());
    let mut forms = vec![text.into(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for shift in 0..3 {
        let encoded = STANDARD_NO_PAD.encode([&vec![0; shift], text.as_bytes()].concat());
        // The first and last characters depend on what stands beside the text.
        forms.push(encoded.as_bytes()[(shift * 8).div_ceil(6)..encoded.len() - 2].to_vec());
    }
    forms
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Every file and its content. The store moves its log into its file when it closes, soon after the
/// service has stopped: a file that vanishes while we look means to look again.
fn contents_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    loop {
        let files = files_below(dir).into_iter();
        let contents = files.map(|path| fs::read(&path).map(|content| (path, content)));
        match contents.collect::<Result<Vec<_>, _>>() {
            Ok(contents) => return contents,
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
        }
    }
}

fn assert_absent(dir: &Path, text: &str) {
    let contents = contents_below(dir);
    for file in ["crypto.db", "audit.db"] {
        assert!(contents.iter().any(|(path, _)| path.ends_with(file)), "{file}");
    }
    for (file, content) in contents {
        for form in forms(text) {
            let found = content.windows(form.len()).any(|window| window == form);
            assert!(!found, "{} holds {text} as {}", file.display(), String::from_utf8_lossy(&form));
        }
    }
}

#[tokio::test]
async fn no_card_number_and_no_plaintext_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    for number in CANARIES {
        let mut request =
            call("acme", digits(CardInput { holder_name: HOLDER.into(), cvc: "123".into(), ..card(number) }));
        request.metadata_mut().insert("idempotency-key", number[..6].parse().unwrap());
        world.vault("edge-gateway").tokenize(request).await.unwrap();
        // Where it does not belong it is refused, and not kept either.
        let expired = CardInput { exp_year: 2020, ..card(number) };
        world.tokenize("acme", expired).await.unwrap_err();
        let misplaced = DetokenizeRequest { token: number.into(), ..Default::default() };
        world.vault("svc-payments").detokenize(call("acme", misplaced.clone())).await.unwrap_err();
        let items = vec![misplaced];
        world
            .vault("svc-payments")
            .batch_detokenize(call("acme", BatchDetokenizeRequest { items }))
            .await
            .unwrap();
    }
    let key_name = "payments.notes";
    world.make_key("acme", key_name, Algorithm::Aes256Gcm).await;
    let request = encrypt(key_name, HOLDER.as_bytes(), b"aad");
    world.crypto("svc-payments").encrypt(call("acme", request)).await.unwrap();
    // While the log is still apart from the file, and after.
    for text in CANARIES.into_iter().chain([HOLDER]) {
        assert_absent(dir.path(), text);
    }
    world.service.stop().await;
    for text in CANARIES.into_iter().chain([HOLDER]) {
        assert_absent(dir.path(), text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_card_number_and_no_plaintext_is_in_the_tables() {
    let (dir, database) = (tempfile::tempdir().unwrap(), Database::new());
    let world = World::start_with(dir.path(), database.config()).await;
    for number in CANARIES {
        let mut request =
            call("acme", digits(CardInput { holder_name: HOLDER.into(), cvc: "123".into(), ..card(number) }));
        request.metadata_mut().insert("idempotency-key", number[..6].parse().unwrap());
        world.vault("edge-gateway").tokenize(request).await.unwrap();
        let misplaced = DetokenizeRequest { token: number.into(), ..Default::default() };
        world.vault("svc-payments").detokenize(call("acme", misplaced)).await.unwrap_err();
    }
    world.make_key("acme", "payments.notes", Algorithm::Aes256Gcm).await;
    let request = encrypt("payments.notes", HOLDER.as_bytes(), b"aad");
    world.crypto("svc-payments").encrypt(call("acme", request)).await.unwrap();

    let client = database.schema.client().await;
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
    let mut rows = 0;
    for table in client.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        for row in client.query(&format!("SELECT t::text FROM {table} AS t"), &[]).await.unwrap() {
            let row: String = row.get(0);
            rows += 1;
            for text in CANARIES.into_iter().chain([HOLDER]) {
                for form in forms(text) {
                    assert!(!row.contains(&String::from_utf8(form).unwrap()), "{table} holds {text}");
                }
            }
        }
    }
    assert!(rows > 15, "{rows} rows are too few to have looked at everything");
}

const CODE: &str = "7316";
/// So many cards come with the code that it would be found as often, were it written for each: four digits occur
/// by chance too.
const CARDS: usize = 20;
const BY_CHANCE: usize = CARDS / 2;

/// Cards whose code has four digits.
fn cards_with_codes() -> Vec<CardInput> {
    let stems = (0..CARDS).map(|n| format!("37144963{n:06}"));
    let numbers = stems.map(|stem| {
        let right = |check: &u32| svc_crypto::domain::card::Pan::parse(&format!("{stem}{check}")).is_ok();
        format!("{stem}{}", (0..10).find(right).unwrap())
    });
    numbers.map(|number| CardInput { cvc: CODE.into(), ..card(&number) }).collect()
}

/// How often the code occurs in some form, its plain digest among them.
fn codes_in(bytes: &[u8]) -> usize {
    let digest = ring::digest::digest(&ring::digest::SHA256, CODE.as_bytes()).as_ref().to_vec();
    let hex = svc_crypto::domain::canonical::hex(&digest).into_bytes();
    let in_hex = svc_crypto::domain::canonical::hex(CODE.as_bytes()).into_bytes();
    let forms = [CODE.into(), in_hex, digest, hex];
    let count = |form: Vec<u8>| bytes.windows(form.len()).filter(|window| *window == form).count();
    forms.into_iter().map(count).sum()
}

fn codes_below(dir: &Path) -> usize {
    contents_below(dir).iter().map(|(_, content)| codes_in(content)).sum()
}

#[tokio::test]
async fn no_verification_code_and_no_number_is_on_the_disk_or_in_the_log() {
    let (lines, guard) = Lines::all_of_this_thread();
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let (mut edge, mut payments) = (world.vault("edge-gateway"), world.vault("svc-payments"));
    for (n, card) in cards_with_codes().into_iter().enumerate() {
        let wrong = CardInput { number: format!("{}0", card.number), ..card.clone() };
        assert!(world.tokenize("acme", wrong).await.is_err());
        let mut request = call("acme", digits(card.clone()));
        request.metadata_mut().insert("idempotency-key", format!("key-{n}").parse().unwrap());
        let token = edge.tokenize(request).await.unwrap().into_inner();
        let item = batch_tokenize_request::Item { card: Some(card), ..Default::default() };
        let batch = BatchTokenizeRequest { items: vec![item] };
        world.vault("operator").batch_tokenize(call("acme", batch)).await.unwrap();
        if n % 2 == 0 {
            let opened = payments.detokenize(call("acme", authorize(&token.id))).await.unwrap().into_inner();
            assert_eq!(opened.cvc, CODE);
            edge.delete_token(call("acme", DeleteTokenRequest { id: token.id })).await.unwrap();
        }
    }
    assert!(codes_below(dir.path()) < BY_CHANCE, "while half of the codes are held");
    world.service.stop().await;
    assert!(codes_below(dir.path()) < BY_CHANCE);
    drop(guard);
    // Without the time of each line, which has digits enough.
    let log: String =
        lines.read().iter().filter_map(|line| line.split_once(' ')).map(|(_, line)| line).collect();
    assert!(log.contains("TRACE"), "everything is taken");
    assert!(codes_in(log.as_bytes()) < BY_CHANCE);
    for card in cards_with_codes().into_iter().step_by(6) {
        assert!(!log.contains(&card.number));
        assert_absent(dir.path(), &card.number);
    }
}

/// The search above is worth something only if it finds what is there.
#[test]
fn the_search_finds_a_canary_in_every_form() {
    let number = CANARIES[0];
    for before in ["", "a", "ab", "abc"] {
        let text = format!("{before}{number}xyz");
        let encoded = STANDARD_NO_PAD.encode(&text);
        let found = |form: &Vec<u8>| encoded.as_bytes().windows(form.len()).any(|window| window == form);
        assert!(forms(number).iter().any(found), "{before}");
    }
    assert!(forms(number).contains(&"34353339353738373633363231343836".into()));
    assert_eq!(codes_in(b"7316 37333136 7316"), 3);
}

async fn start(dir: &Path, config: Config) -> Result<(), StartError> {
    let mut harness = Harness::new(dir).unwrap();
    let running = harness.start::<Crypto>(config).await?;
    running.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_store_opens_only_under_the_root_it_was_made_under() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path(), Config::default()).await.unwrap();
    let own = dir.path().join("svc-crypto").join("root.key");
    let key = fs::read(&own).unwrap();
    assert_eq!(key.len(), 32);

    // The same key, mounted from elsewhere.
    let mounted = dir.path().join("mounted");
    fs::rename(&own, &mounted).unwrap();
    let elsewhere = || Config { root_key_file: Some(mounted.clone()), ..Config::default() };
    start(dir.path(), elsewhere()).await.unwrap();

    let lost = start(dir.path(), Config::default()).await.unwrap_err().to_string();
    assert!(lost.contains("root.key is missing"), "{lost}");
    assert!(!own.exists(), "a new root would not open anything");

    fs::write(&mounted, [7; 32]).unwrap();
    let other = start(dir.path(), elsewhere()).await.unwrap_err().to_string();
    assert!(other.contains("not the one that the store was made under"), "{other}");
    fs::write(&mounted, b"short").unwrap();
    let short = start(dir.path(), elsewhere()).await.unwrap_err().to_string();
    assert!(short.contains("exactly 32 bytes"), "{short}");
    fs::write(&mounted, &key).unwrap();
    start(dir.path(), elsewhere()).await.unwrap();
}
