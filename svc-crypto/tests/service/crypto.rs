//! CryptoService over real mTLS.

use crate::common::{World, call, reason};
use mesh::{Fault, Reason};
use paymesh_proto::crypto::v1::{
    BatchDecryptRequest, BatchEncryptRequest, DecryptRequest, DecryptResponse, EncryptRequest,
    batch_decrypt_response, batch_encrypt_response,
};
use tonic::{Code, Status};

fn encrypt(key_name: &str, plaintext: &[u8], aad: &[u8]) -> EncryptRequest {
    EncryptRequest {
        key_name: key_name.into(),
        plaintext: plaintext.to_vec().into(),
        aad: aad.to_vec().into(),
    }
}

fn decrypt(key_name: &str, ciphertext: &[u8], aad: &[u8]) -> DecryptRequest {
    DecryptRequest {
        key_name: key_name.into(),
        ciphertext: ciphertext.to_vec().into(),
        aad: aad.to_vec().into(),
    }
}

async fn open(world: &World, tenant: &str, request: DecryptRequest) -> Result<DecryptResponse, Status> {
    world.crypto("svc-payments").decrypt(call(tenant, request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn what_is_encrypted_decrypts_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let mut crypto = world.crypto("svc-payments");
    let sealed =
        crypto.encrypt(call("acme", encrypt("notes", b"plaintext", b"aad"))).await.unwrap().into_inner();
    assert_eq!(sealed.key_version, 1);
    let again =
        crypto.encrypt(call("acme", encrypt("notes", b"plaintext", b"aad"))).await.unwrap().into_inner();
    assert_ne!(sealed.ciphertext, again.ciphertext, "equal plaintexts cannot be seen");
    world.service.stop().await;

    let world = World::start(dir.path()).await;
    for ciphertext in [&sealed.ciphertext, &again.ciphertext] {
        let opened = open(&world, "acme", decrypt("notes", ciphertext, b"aad")).await.unwrap();
        assert_eq!((&opened.plaintext[..], opened.key_version), (&b"plaintext"[..], 1));
    }
    world.service.stop().await;
}

#[tokio::test]
async fn every_way_not_to_open_is_one_and_the_same_answer() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let mut crypto = world.crypto("svc-payments");
    for (tenant, key) in [("acme", "a"), ("acme", "b"), ("other", "a")] {
        crypto.encrypt(call(tenant, encrypt(key, b"", b""))).await.unwrap();
    }
    let sealed = crypto.encrypt(call("acme", encrypt("a", b"plaintext", b"aad"))).await.unwrap();
    let sealed = sealed.into_inner().ciphertext.to_vec();
    let flipped = |at: usize| {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        damaged
    };
    let wrong = [
        ("acme", decrypt("a", &sealed, b"another aad")),
        ("acme", decrypt("b", &sealed, b"aad")),
        ("acme", decrypt("absent", &sealed, b"aad")),
        ("other", decrypt("a", &sealed, b"aad")),
        ("stranger", decrypt("a", &sealed, b"aad")),
        ("acme", decrypt("a", &flipped(0), b"aad")),
        ("acme", decrypt("a", &flipped(4), b"aad")),
        ("acme", decrypt("a", &flipped(24), b"aad")),
        ("acme", decrypt("a", &flipped(60), b"aad")),
        ("acme", decrypt("a", &flipped(sealed.len() - 1), b"aad")),
        ("acme", decrypt("a", &sealed[..sealed.len() - 1], b"aad")),
        ("acme", decrypt("a", &sealed[..50], b"aad")),
        ("acme", decrypt("a", b"", b"aad")),
    ];
    let mut answers = std::collections::HashSet::new();
    for (tenant, request) in wrong {
        let status = open(&world, tenant, request).await.unwrap_err();
        answers.insert((status.code() as i32, status.message().to_owned(), status.details().to_vec()));
        assert_eq!(reason::<()>(Err(status)), Reason::DecryptionFailed);
    }
    assert_eq!(answers.len(), 1);
    assert!(open(&world, "acme", decrypt("a", &sealed, b"aad")).await.is_ok());
    world.service.stop().await;
}

#[tokio::test]
async fn a_batch_answers_each_item_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let mut crypto = world.crypto("svc-payments");
    let items = vec![
        encrypt("a", b"one", b""),
        encrypt("A B", b"two", b""),
        encrypt("b", b"", b"x"),
        encrypt("", b"", b""),
    ];
    let answer =
        crypto.batch_encrypt(call("acme", BatchEncryptRequest { items })).await.unwrap().into_inner();
    let sealed: Vec<_> = answer
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            batch_encrypt_response::item::Result::Encrypted(sealed) => Ok(sealed.ciphertext),
            batch_encrypt_response::item::Result::Reason(reason) => Err(reason),
        })
        .collect();
    assert_eq!((&sealed[1], &sealed[3]), (&Err("INVALID_REQUEST".into()), &Err("INVALID_REQUEST".into())));
    let (one, three) = (sealed[0].as_ref().unwrap(), sealed[2].as_ref().unwrap());

    let items = vec![decrypt("a", one, b""), decrypt("a", three, b"x"), decrypt("b", three, b"x")];
    let answer =
        crypto.batch_decrypt(call("acme", BatchDecryptRequest { items })).await.unwrap().into_inner();
    let opened: Vec<_> = answer
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            batch_decrypt_response::item::Result::Decrypted(opened) => Ok(opened.plaintext.to_vec()),
            batch_decrypt_response::item::Result::Reason(reason) => Err(reason),
        })
        .collect();
    assert_eq!(opened, [Ok(b"one".to_vec()), Err("DECRYPTION_FAILED".into()), Ok(Vec::new())]);
    world.service.stop().await;
}

#[tokio::test]
async fn limits_are_told_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let mut crypto = world.crypto("svc-payments");
    let large = vec![7; 1024 * 1024];
    let sealed = crypto.encrypt(call("acme", encrypt("a", &large, b""))).await.unwrap().into_inner();
    assert_eq!(open(&world, "acme", decrypt("a", &sealed.ciphertext, b"")).await.unwrap().plaintext, large);
    for (field, request) in [
        ("key_name", encrypt("a/b", b"", b"")),
        ("plaintext", encrypt("a", &[&*large, b"x"].concat(), b"")),
        ("aad", encrypt("a", b"", &large)),
    ] {
        let fault = Fault::from_status(&crypto.encrypt(call("acme", request)).await.unwrap_err());
        assert_eq!(fault.violations()[0].field, field);
    }
    let items = vec![encrypt("a", b"", b""); 1_025];
    let refused = crypto.batch_encrypt(call("acme", BatchEncryptRequest { items })).await.unwrap_err();
    assert_eq!(Fault::from_status(&refused).violations()[0].field, "items");
    assert_eq!(reason(crypto.encrypt(encrypt("a", b"", b"")).await), Reason::TenantRequired);
    for caller in ["edge-gateway", "svc-ledger", "operator"] {
        let denied = world.crypto(caller).encrypt(call("acme", encrypt("a", b"", b""))).await;
        assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied, "{caller}");
    }
    world.service.stop().await;
}
