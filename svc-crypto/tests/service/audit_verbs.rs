//! What the verbs on named keys leave in the audit log.

use paymesh_proto::crypto::v1::{
    Algorithm, AuditRecord, BatchRequest, LargeRequest, ListAuditRecordsRequest, Operation, RotateKeyRequest,
    TranslateRequest,
    large_request::{Begin, Part},
    operation::Verb,
};

use crate::{
    common::{World, call},
    crypto::{decrypt, encrypt},
};

const NAME: &str = "payments.k";

/// Who, verb, key, version, reason, count and bytes of each record, in their order.
async fn told(world: &World) -> Vec<(String, String, String, u32, String, u32, u64)> {
    let request = ListAuditRecordsRequest { page_size: 1_000, ..Default::default() };
    let page = world.audit("operator").list_audit_records(call("acme", request)).await.unwrap().into_inner();
    let told = |record: AuditRecord| {
        let AuditRecord { workload, verb, key_name, key_version, reason, count, bytes, .. } = record;
        (workload, verb, key_name, key_version, reason, count, bytes)
    };
    // What operators did to make keys is told apart.
    page.records.into_iter().map(told).filter(|(workload, ..)| workload == "svc-payments").collect()
}

fn expected(
    rows: &[(&str, &str, u32, &str, u32, u64)],
) -> Vec<(String, String, String, u32, String, u32, u64)> {
    let row = |&(verb, key, version, reason, count, bytes): &(&str, &str, u32, &str, u32, u64)| {
        ("svc-payments".into(), verb.into(), key.into(), version, reason.into(), count, bytes)
    };
    rows.iter().map(row).collect()
}

#[tokio::test]
async fn every_verb_is_on_record_and_so_is_every_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    world.make_key("acme", NAME, Algorithm::Aes256Gcm).await;
    let mut crypto = world.crypto("svc-payments");
    let sealed = crypto.encrypt(call("acme", encrypt(NAME, b"four", b""))).await.unwrap().into_inner();
    let sealed_bytes = sealed.ciphertext.len() as u64;
    crypto.decrypt(call("acme", decrypt(NAME, &sealed.ciphertext, b""))).await.unwrap();
    crypto.decrypt(call("acme", decrypt(NAME, &sealed.ciphertext, b"x"))).await.unwrap_err();
    crypto.encrypt(call("acme", encrypt("other", b"four", b""))).await.unwrap_err();
    crypto.encrypt(call("acme", encrypt("4242 4242 4242 4242", b"four", b""))).await.unwrap_err();
    let from = Some(decrypt(NAME, &sealed.ciphertext, b""));
    let translate = TranslateRequest { from, to_key_name: "other".into(), to_aad: "".into() };
    crypto.translate(call("acme", translate)).await.unwrap_err();
    let (done, refused) = ("", "PERMISSION_DENIED");
    assert_eq!(
        told(&world).await,
        expected(&[
            ("encrypt", NAME, 1, done, 1, 4),
            ("decrypt", NAME, 1, done, 1, sealed_bytes),
            ("decrypt", NAME, 0, "DECRYPTION_FAILED", 1, 0),
            ("encrypt", "other", 0, refused, 1, 0),
            ("encrypt", "", 0, "INVALID_REQUEST", 1, 0),
            ("translate_from", NAME, 1, done, 1, sealed_bytes),
            ("translate_to", "other", 0, refused, 1, 0),
        ])
    );
    world.service.stop().await;
}

#[tokio::test]
async fn what_becomes_of_a_key_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    world.make_key("acme", NAME, Algorithm::Aes256Gcm).await;
    let rotate =
        |name: &str, expected_version| call("acme", RotateKeyRequest { name: name.into(), expected_version });
    let mut keys = world.keys("operator");
    keys.rotate_key(rotate(NAME, 1)).await.unwrap();
    keys.rotate_key(rotate(NAME, 1)).await.unwrap_err();
    keys.rotate_key(rotate("absent", 0)).await.unwrap_err();
    let request = ListAuditRecordsRequest { page_size: 1_000, ..Default::default() };
    let page = world.audit("operator").list_audit_records(call("acme", request)).await.unwrap().into_inner();
    let told: Vec<_> = page
        .records
        .iter()
        .map(|record| (&*record.workload, &*record.verb, &*record.key_name, &*record.reason))
        .collect();
    assert_eq!(
        told,
        [
            ("operator", "create_key", NAME, ""),
            ("operator", "rotate_key", NAME, ""),
            ("operator", "rotate_key", NAME, "KEY_STATE_CONFLICT"),
            ("operator", "rotate_key", "absent", "KEY_NOT_FOUND"),
        ]
    );
    world.service.stop().await;
}

#[tokio::test]
async fn a_batch_leaves_as_many_records_as_it_has_kinds_of_acts() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    world.make_key("acme", NAME, Algorithm::Aes256Gcm).await;
    let operations: Vec<Operation> = (0..100)
        .map(|n| {
            let name = if n % 10 == 0 { "payments.absent" } else { NAME };
            Operation { verb: Some(Verb::Encrypt(encrypt(name, b"four", b""))), tenant: String::new() }
        })
        .collect();
    world.crypto("svc-payments").batch(call("acme", BatchRequest { operations })).await.unwrap();
    let mut told = told(&world).await;
    told.sort();
    assert_eq!(
        told,
        expected(&[
            ("encrypt", "payments.absent", 0, "KEY_NOT_FOUND", 10, 0),
            ("encrypt", NAME, 1, "", 90, 360)
        ])
    );
    let rotate = RotateKeyRequest { name: NAME.into(), expected_version: 0 };
    let key = world.keys("operator").rotate_key(call("acme", rotate)).await.unwrap().into_inner();
    let used: Vec<_> = key.versions.iter().map(|version| (version.messages, version.bytes)).collect();
    assert_eq!(used, [(90, 360), (0, 0)], "what is counted is what is on record");
    world.service.stop().await;
}

#[tokio::test]
async fn a_large_payload_is_on_record_before_any_of_it_is_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    world.make_key("acme", NAME, Algorithm::Aes256Gcm).await;
    let message = |part| LargeRequest { part: Some(part) };
    let begin = || message(Part::Begin(Begin { key_name: NAME.into(), ..Default::default() }));
    let mut crypto = world.crypto("svc-payments");
    let messages = vec![begin(), message(Part::Piece(vec![7; 100_000].into()))];
    let request = call("acme", tonic::codegen::tokio_stream::iter(messages));
    let mut answers = crypto.encrypt_large(request).await.unwrap().into_inner();
    let mut sealed = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        sealed.extend_from_slice(&answer.piece);
    }
    let cut = message(Part::Piece(sealed[..90_000].to_vec().into()));
    let request = call("acme", tonic::codegen::tokio_stream::iter(vec![begin(), cut]));
    let mut answers = crypto.decrypt_large(request).await.unwrap().into_inner();
    while let Ok(answer) = answers.message().await {
        assert!(answer.is_some(), "it must not end well");
    }
    assert_eq!(
        told(&world).await,
        expected(&[
            ("encrypt", NAME, 1, "", 1, 0),
            ("encrypt", NAME, 1, "", 0, 100_000),
            ("decrypt", NAME, 0, "", 1, 0),
            ("decrypt", NAME, 0, "DECRYPTION_FAILED", 1, 90_000),
        ])
    );
    world.service.stop().await;
}
