//! CryptoService over real mTLS: encryption, batches and limits.

use crate::common::{World, call, reason};
use mesh::{Fault, Reason};
use paymesh_proto::crypto::v1::{
    Algorithm, BatchRequest, DecryptRequest, DecryptResponse, EncryptRequest, Operation, Outcome,
    StreamRequest, operation::Verb, outcome::Result as Answer, stream_request::Numbered,
};
use tonic::{Code, Status};

pub(crate) fn encrypt(key_name: &str, plaintext: &[u8], aad: &[u8]) -> EncryptRequest {
    EncryptRequest {
        key_name: key_name.into(),
        plaintext: plaintext.to_vec().into(),
        aad: aad.to_vec().into(),
        key_version: 0,
    }
}

pub(crate) fn decrypt(key_name: &str, ciphertext: &[u8], aad: &[u8]) -> DecryptRequest {
    DecryptRequest {
        key_name: key_name.into(),
        ciphertext: ciphertext.to_vec().into(),
        aad: aad.to_vec().into(),
    }
}

async fn open(world: &World, tenant: &str, request: DecryptRequest) -> Result<DecryptResponse, Status> {
    world.crypto("svc-payments").decrypt(call(tenant, request)).await.map(tonic::Response::into_inner)
}

fn operation(verb: Verb, tenant: &str) -> Operation {
    Operation { verb: Some(verb), tenant: tenant.into() }
}

/// The ciphertext or the plaintext, or the reason why there is none.
fn bytes_of(outcome: Outcome) -> Result<Vec<u8>, String> {
    match outcome.result.unwrap() {
        Answer::Encrypted(sealed) => Ok(sealed.ciphertext.to_vec()),
        Answer::Decrypted(opened) => Ok(opened.plaintext.to_vec()),
        Answer::Refusal(refusal) => Err(refusal.reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_encrypted_decrypts_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    world.make_key("acme", "payments.notes", Algorithm::Aes256Gcm).await;
    let mut crypto = world.crypto("svc-payments");
    let request = || call("acme", encrypt("payments.notes", b"plaintext", b"aad"));
    let sealed = crypto.encrypt(request()).await.unwrap().into_inner();
    assert_eq!(sealed.key_version, 1);
    let again = crypto.encrypt(request()).await.unwrap().into_inner();
    assert_ne!(sealed.ciphertext, again.ciphertext, "equal plaintexts cannot be seen");
    world.service.stop().await;

    let world = World::start(dir.path()).await;
    for ciphertext in [&sealed.ciphertext, &again.ciphertext] {
        let opened = open(&world, "acme", decrypt("payments.notes", ciphertext, b"aad")).await.unwrap();
        assert_eq!((&opened.plaintext[..], opened.key_version), (&b"plaintext"[..], 1));
    }
    world.service.stop().await;
}

#[tokio::test]
async fn every_way_not_to_open_is_one_and_the_same_answer() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    for (tenant, key) in [("acme", "payments.a"), ("acme", "payments.b"), ("other", "payments.a")] {
        world.make_key(tenant, key, Algorithm::Aes256Gcm).await;
    }
    world.make_key("acme", "payments.mac", Algorithm::HmacSha256).await;
    let mut crypto = world.crypto("svc-payments");
    let sealed = crypto.encrypt(call("acme", encrypt("payments.a", b"plaintext", b"aad"))).await.unwrap();
    let sealed = sealed.into_inner().ciphertext.to_vec();
    let flipped = |at: usize| {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        damaged
    };
    let wrong = [
        ("acme", decrypt("payments.a", &sealed, b"another aad")),
        ("acme", decrypt("payments.b", &sealed, b"aad")),
        ("acme", decrypt("payments.absent", &sealed, b"aad")),
        ("acme", decrypt("payments.mac", &sealed, b"aad")),
        ("other", decrypt("payments.a", &sealed, b"aad")),
        ("stranger", decrypt("payments.a", &sealed, b"aad")),
        ("acme", decrypt("payments.a", &flipped(0), b"aad")),
        ("acme", decrypt("payments.a", &flipped(4), b"aad")),
        ("acme", decrypt("payments.a", &flipped(24), b"aad")),
        ("acme", decrypt("payments.a", &flipped(60), b"aad")),
        ("acme", decrypt("payments.a", &flipped(sealed.len() - 1), b"aad")),
        ("acme", decrypt("payments.a", &sealed[..sealed.len() - 1], b"aad")),
        ("acme", decrypt("payments.a", &sealed[..50], b"aad")),
        ("acme", decrypt("payments.a", b"", b"aad")),
    ];
    let mut answers = std::collections::HashSet::new();
    for (tenant, request) in wrong {
        let status = open(&world, tenant, request).await.unwrap_err();
        answers.insert((status.code() as i32, status.message().to_owned(), status.details().to_vec()));
        assert_eq!(reason::<()>(Err(status)), Reason::DecryptionFailed);
    }
    assert_eq!(answers.len(), 1);
    assert!(open(&world, "acme", decrypt("payments.a", &sealed, b"aad")).await.is_ok());
    world.service.stop().await;
}

#[tokio::test]
async fn a_batch_and_a_stream_answer_each_item_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    world.make_key("acme", "payments.a", Algorithm::Aes256Gcm).await;
    world.make_key("other", "payments.b", Algorithm::Aes256Gcm).await;
    let mut crypto = world.crypto("svc-payments");
    let operations = vec![
        operation(Verb::Encrypt(encrypt("payments.a", b"one", b"")), ""),
        operation(Verb::Encrypt(encrypt("A B", b"two", b"")), ""),
        operation(Verb::Encrypt(encrypt("payments.b", b"", b"x")), "other"),
        operation(Verb::Encrypt(encrypt("payments.absent", b"", b"")), ""),
        operation(Verb::Encrypt(encrypt("secret", b"", b"")), ""),
        Operation::default(),
    ];
    let answer = crypto.batch(call("acme", BatchRequest { operations })).await.unwrap().into_inner();
    let sealed: Vec<_> = answer.outcomes.into_iter().map(bytes_of).collect();
    for (place, refused) in
        [(1, "INVALID_REQUEST"), (3, "KEY_NOT_FOUND"), (4, "PERMISSION_DENIED"), (5, "INVALID_REQUEST")]
    {
        assert_eq!(sealed[place], Err(refused.into()));
    }
    let (one, three) = (sealed[0].as_ref().unwrap(), sealed[2].as_ref().unwrap());

    let asked = |id: u64, request: DecryptRequest, tenant: &str| Numbered {
        request_id: id,
        operation: Some(operation(Verb::Decrypt(request), tenant)),
    };
    let messages = vec![
        StreamRequest {
            operations: vec![
                asked(7, decrypt("payments.a", one, b""), ""),
                asked(8, decrypt("payments.a", three, b"x"), ""),
            ],
        },
        StreamRequest { operations: vec![asked(9, decrypt("payments.b", three, b"x"), "other")] },
    ];
    let messages = tonic::codegen::tokio_stream::iter(messages);
    let mut answers = crypto.stream(call("acme", messages)).await.unwrap().into_inner();
    let mut opened = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let numbered = answer.outcomes.into_iter();
        opened.extend(numbered.map(|outcome| (outcome.request_id, bytes_of(outcome.outcome.unwrap()))));
    }
    opened.sort_by_key(|(id, _)| *id);
    let expected = [(7, Ok(b"one".to_vec())), (8, Err("DECRYPTION_FAILED".into())), (9, Ok(Vec::new()))];
    assert_eq!(opened, expected);
    world.service.stop().await;
}

#[tokio::test]
async fn limits_are_told_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let name = "payments.a";
    world.make_key("acme", name, Algorithm::Aes256Gcm).await;
    let mut crypto = world.crypto("svc-payments");
    let large = vec![7; 1024 * 1024];
    let sealed = crypto.encrypt(call("acme", encrypt(name, &large, b""))).await.unwrap().into_inner();
    assert_eq!(open(&world, "acme", decrypt(name, &sealed.ciphertext, b"")).await.unwrap().plaintext, large);
    for (field, request) in [
        ("key_name", encrypt("a/b", b"", b"")),
        ("plaintext", encrypt(name, &[&*large, b"x"].concat(), b"")),
        ("aad", encrypt(name, b"", &large)),
        ("key_version", EncryptRequest { key_version: 2, ..encrypt(name, b"", b"") }),
    ] {
        let fault = Fault::from_status(&crypto.encrypt(call("acme", request)).await.unwrap_err());
        assert_eq!(fault.violations()[0].field, field);
    }
    let operations = vec![operation(Verb::Encrypt(encrypt(name, b"", b"")), ""); 1_025];
    let refused = crypto.batch(call("acme", BatchRequest { operations })).await.unwrap_err();
    assert_eq!(Fault::from_status(&refused).violations()[0].field, "operations");
    assert_eq!(reason(crypto.encrypt(encrypt(name, b"", b"")).await), Reason::TenantRequired);
    for caller in ["edge-gateway", "svc-ledger", "operator"] {
        let denied = world.crypto(caller).encrypt(call("acme", encrypt(name, b"", b""))).await;
        assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied, "{caller}");
    }
    world.service.stop().await;
}
