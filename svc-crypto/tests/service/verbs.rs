//! Every verb over real mTLS: what it makes, what undoes it, and which keys it refuses.

use mesh::{Fault, Reason};
use paymesh_proto::crypto::v1::{
    Algorithm, BatchRequest, BlindIndexRequest, ComputeMacRequest, DecryptDataKeyRequest, EncryptRequest,
    FormatRequest, GenerateDataKeyRequest, LargeRequest, Operation, RewrapRequest, RotateKeyRequest,
    SignRequest, SignatureEncoding, TranslateRequest, VerifyMacRequest, VerifyRequest,
    format_request::Alphabet,
    large_request::{Begin, Part},
    operation::Verb,
    outcome::Result as Answer,
};
use ring::signature;
use tonic::Status;

use crate::{
    common::{World, call, reason},
    crypto::{decrypt, encrypt},
};

const NAME: &str = "payments.k";

async fn world_with(algorithm: Algorithm) -> (World, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    world.make_key("acme", NAME, algorithm).await;
    (world, dir)
}

async fn rotate(world: &World) {
    let request = RotateKeyRequest { name: NAME.into(), expected_version: 0 };
    world.keys("operator").rotate_key(call("acme", request)).await.unwrap();
}

#[tokio::test]
async fn rewrapping_and_translating_change_the_key_and_nothing_else() {
    let (world, _dir) = world_with(Algorithm::Aes256Gcm).await;
    world.make_key("acme", "payments.other", Algorithm::Aes256Gcm).await;
    let mut crypto = world.crypto("svc-payments");
    let sealed = crypto.encrypt(call("acme", encrypt(NAME, b"text", b"a"))).await.unwrap().into_inner();
    rotate(&world).await;
    let rewrap = RewrapRequest { key_name: NAME.into(), ciphertext: sealed.ciphertext, aad: "a".into() };
    let rewrapped = crypto.rewrap(call("acme", rewrap)).await.unwrap().into_inner();
    assert_eq!(rewrapped.key_version, 2);

    let from = decrypt(NAME, &rewrapped.ciphertext, b"a");
    let translate =
        TranslateRequest { from: Some(from), to_key_name: "payments.other".into(), to_aad: "b".into() };
    let translated = crypto.translate(call("acme", translate.clone())).await.unwrap().into_inner();
    let request = decrypt("payments.other", &translated.ciphertext, b"b");
    let opened = crypto.decrypt(call("acme", request)).await.unwrap().into_inner();
    assert_eq!(&opened.plaintext[..], b"text");
    let forged = TranslateRequest { from: Some(decrypt(NAME, &rewrapped.ciphertext, b"x")), ..translate };
    assert_eq!(reason(crypto.translate(call("acme", forged)).await), Reason::DecryptionFailed);
    world.service.stop().await;
}

#[tokio::test]
async fn a_data_key_unwraps_to_itself_and_is_no_ciphertext() {
    let (world, _dir) = world_with(Algorithm::Aes256Gcm).await;
    let mut crypto = world.crypto("svc-payments");
    let asked = || call("acme", GenerateDataKeyRequest { key_name: NAME.into(), aad: "a".into() });
    let made = crypto.generate_data_key(asked()).await.unwrap().into_inner();
    assert_eq!(made.plaintext.len(), 32);
    assert!(made.ttl.is_some() && made.messages_max > 0 && made.bytes_max > 0);
    let unwrap = |wrapped: &[u8], aad: &'static str| {
        let wrapped = wrapped.to_vec().into();
        call("acme", DecryptDataKeyRequest { key_name: NAME.into(), wrapped, aad: aad.into() })
    };
    let opened = crypto.decrypt_data_key(unwrap(&made.wrapped, "a")).await.unwrap().into_inner();
    assert_eq!(opened, made);
    let only_wrapped = crypto.generate_wrapped_data_key(asked()).await.unwrap().into_inner();
    let opened = crypto.decrypt_data_key(unwrap(&only_wrapped.wrapped, "a")).await.unwrap().into_inner();
    assert_ne!(opened.plaintext, made.plaintext);

    let refused = crypto.decrypt_data_key(unwrap(&made.wrapped, "b")).await;
    assert_eq!(reason(refused), Reason::DecryptionFailed);
    let refused = crypto.decrypt(call("acme", decrypt(NAME, &made.wrapped, b"a"))).await;
    assert_eq!(reason(refused), Reason::DecryptionFailed, "Decrypt gives no data key out");
    let sealed = crypto.encrypt(call("acme", encrypt(NAME, &[7; 32], b"a"))).await.unwrap().into_inner();
    let refused = crypto.decrypt_data_key(unwrap(&sealed.ciphertext, "a")).await;
    assert_eq!(reason(refused), Reason::DecryptionFailed);
    world.service.stop().await;
}

#[tokio::test]
async fn tags_verify_and_indexes_find_also_after_a_rotation() {
    let (world, _dir) = world_with(Algorithm::HmacSha256).await;
    let mut crypto = world.crypto("svc-payments");
    let compute = |aad: &'static str| {
        call(
            "acme",
            ComputeMacRequest { key_name: NAME.into(), data: "data".into(), aad: aad.into(), key_version: 0 },
        )
    };
    let made = crypto.compute_mac(compute("a")).await.unwrap().into_inner();
    assert_eq!((made.mac.len(), made.key_version), (32, 1));
    rotate(&world).await;
    let verify = |data: &'static str, aad: &'static str, version| {
        call(
            "acme",
            VerifyMacRequest {
                key_name: NAME.into(),
                data: data.into(),
                aad: aad.into(),
                mac: made.mac.clone(),
                key_version: version,
            },
        )
    };
    for (data, aad, version, valid) in
        [("data", "a", 1, true), ("data", "a", 2, false), ("data", "b", 1, false), ("date", "a", 1, false)]
    {
        let answer = crypto.verify_mac(verify(data, aad, version)).await.unwrap().into_inner();
        assert_eq!(answer.valid, valid, "{data} {aad} {version}");
    }
    let index = |value: &'static str, version, length| {
        call(
            "acme",
            BlindIndexRequest {
                key_name: NAME.into(),
                value: value.into(),
                aad: "table.column".into(),
                key_version: version,
                length,
            },
        )
    };
    let long = crypto.blind_index(index("ada@example.com", 1, 0)).await.unwrap().into_inner();
    let short = crypto.blind_index(index("ada@example.com", 1, 8)).await.unwrap().into_inner();
    assert_eq!((long.index.len(), &long.index[..8]), (32, &short.index[..]));
    let newest = crypto.blind_index(index("ada@example.com", 0, 0)).await.unwrap().into_inner();
    assert_eq!(newest.key_version, 2);
    assert_ne!(newest.index, long.index);
    for length in [3, 33] {
        let refused = crypto.blind_index(index("x", 0, length)).await.unwrap_err();
        assert_eq!(Fault::from_status(&refused).violations()[0].field, "length");
    }
    world.service.stop().await;
}

#[tokio::test]
async fn equal_plaintexts_encrypt_equally_where_that_is_asked_for() {
    let (world, _dir) = world_with(Algorithm::Aes256Siv).await;
    let mut crypto = world.crypto("svc-payments");
    let mut seal = async |plaintext: &[u8], aad: &[u8], key_version| {
        let request = EncryptRequest { key_version, ..encrypt(NAME, plaintext, aad) };
        crypto.encrypt_deterministic(call("acme", request)).await.unwrap().into_inner().ciphertext
    };
    let first = seal(b"text", b"a", 0).await;
    assert_eq!(seal(b"text", b"a", 0).await, first);
    assert_ne!(seal(b"text", b"b", 0).await, first);
    rotate(&world).await;
    assert_ne!(seal(b"text", b"a", 0).await, first);
    assert_eq!(seal(b"text", b"a", 1).await, first, "a version asked for is the one that is used");
    let mut crypto = world.crypto("svc-payments");
    let opened = crypto.decrypt(call("acme", decrypt(NAME, &first, b"a"))).await.unwrap().into_inner();
    assert_eq!((&opened.plaintext[..], opened.key_version), (&b"text"[..], 1));
    let refused = crypto.decrypt(call("acme", decrypt(NAME, &first, b"b"))).await;
    assert_eq!(reason(refused), Reason::DecryptionFailed);
    world.service.stop().await;
}

#[tokio::test]
async fn digits_stay_digits() {
    let (world, _dir) = world_with(Algorithm::Ff1Aes256).await;
    let mut crypto = world.crypto("svc-payments");
    let request = |text: &str, key_version| {
        let (key_name, text, aad) = (NAME.to_owned(), text.to_owned(), "a".into());
        call("acme", FormatRequest { key_name, text, aad, alphabet: Alphabet::Digits.into(), key_version })
    };
    let made = crypto.encrypt_format(request("4242424242", 0)).await.unwrap().into_inner();
    assert!(made.text.len() == 10 && made.text.bytes().all(|byte| byte.is_ascii_digit()));
    assert_ne!(made.text, "4242424242");
    rotate(&world).await;
    let undone = crypto.decrypt_format(request(&made.text, made.key_version)).await.unwrap().into_inner();
    assert_eq!(undone.text, "4242424242");
    for text in ["12345", "12345a", ""] {
        let refused = Fault::from_status(&crypto.encrypt_format(request(text, 0)).await.unwrap_err());
        assert_eq!(refused.violations()[0].field, "text", "{text:?}");
    }
    world.service.stop().await;
}

#[tokio::test]
async fn signatures_are_those_that_others_check() {
    for (algorithm, encoding, checks) in [
        (
            Algorithm::Ed25519,
            SignatureEncoding::Unspecified,
            &signature::ED25519 as &dyn signature::VerificationAlgorithm,
        ),
        (Algorithm::EcdsaP256Sha256, SignatureEncoding::Asn1Der, &signature::ECDSA_P256_SHA256_ASN1),
        (Algorithm::EcdsaP256Sha256, SignatureEncoding::P1363, &signature::ECDSA_P256_SHA256_FIXED),
    ] {
        let (world, _dir) = world_with(algorithm).await;
        let key = world.make_key("acme", NAME, algorithm).await;
        let mut crypto = world.crypto("svc-payments");
        let sign = |aad: &'static str| {
            let (key_name, message) = (NAME.to_owned(), "message".into());
            let encoding = encoding.into();
            call("acme", SignRequest { key_name, message, aad: aad.into(), key_version: 0, encoding })
        };
        let signed = crypto.sign(sign("")).await.unwrap().into_inner();
        // The public key is the end of what the service tells of it.
        let told = &key.versions[0].public_key;
        let length = if algorithm == Algorithm::Ed25519 { 32 } else { 65 };
        let public = signature::UnparsedPublicKey::new(checks, &told[told.len() - length..]);
        public.verify(b"message", &signed.signature).unwrap();

        rotate(&world).await;
        let bound = crypto.sign(sign("a")).await.unwrap().into_inner();
        assert_eq!(bound.key_version, 2);
        let verify = |signature: &[u8], aad: &'static str, key_version| {
            call(
                "acme",
                VerifyRequest {
                    key_name: NAME.into(),
                    message: "message".into(),
                    aad: aad.into(),
                    signature: signature.to_vec().into(),
                    key_version,
                    encoding: encoding.into(),
                },
            )
        };
        for (signature, aad, version, valid) in [
            (&signed.signature, "", 1, true),
            (&signed.signature, "", 2, false),
            (&signed.signature, "a", 1, false),
            (&bound.signature, "a", 2, true),
            (&bound.signature, "", 2, false),
        ] {
            let answer = crypto.verify(verify(signature, aad, version)).await.unwrap().into_inner();
            assert_eq!(answer.valid, valid, "{algorithm:?} {aad:?} {version}");
        }
        world.service.stop().await;
    }
}

#[tokio::test]
async fn a_key_refuses_every_verb_that_is_not_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let algorithms = [
        (Algorithm::Aes256Gcm, "payments.encrypt"),
        (Algorithm::Aes256Siv, "payments.deterministic"),
        (Algorithm::HmacSha256, "payments.mac"),
        (Algorithm::Ed25519, "payments.sign"),
        (Algorithm::Ff1Aes256, "payments.format"),
    ];
    for (algorithm, name) in algorithms {
        world.make_key("acme", name, algorithm).await;
    }
    let mut crypto = world.crypto("svc-payments");
    for (_, name) in algorithms {
        let key_name = || name.to_owned();
        let asked = [
            ("payments.encrypt", Verb::Encrypt(encrypt(name, b"x", b""))),
            (
                "payments.encrypt",
                Verb::GenerateDataKey(GenerateDataKeyRequest { key_name: key_name(), ..Default::default() }),
            ),
            ("payments.deterministic", Verb::EncryptDeterministic(encrypt(name, b"x", b""))),
            (
                "payments.mac",
                Verb::ComputeMac(ComputeMacRequest { key_name: key_name(), ..Default::default() }),
            ),
            (
                "payments.mac",
                Verb::BlindIndex(BlindIndexRequest { key_name: key_name(), ..Default::default() }),
            ),
            ("payments.sign", Verb::Sign(SignRequest { key_name: key_name(), ..Default::default() })),
            (
                "payments.format",
                Verb::EncryptFormat(FormatRequest {
                    key_name: key_name(),
                    text: "123456".into(),
                    alphabet: Alphabet::Digits.into(),
                    ..Default::default()
                }),
            ),
        ];
        let (own, operations): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .map(|(own, verb)| (own, Operation { verb: Some(verb), tenant: String::new() }))
            .unzip();
        let answer = crypto.batch(call("acme", BatchRequest { operations })).await.unwrap().into_inner();
        for (own, outcome) in own.into_iter().zip(answer.outcomes) {
            match outcome.result.unwrap() {
                Answer::Refusal(refusal) => {
                    assert_eq!((refusal.reason.as_str(), own != name), ("KEY_PURPOSE_MISMATCH", true));
                }
                _ => assert_eq!(own, name),
            }
        }
    }
    world.service.stop().await;
}

fn begin(aad: &'static str) -> LargeRequest {
    let begin = Begin { key_name: NAME.into(), aad: aad.into(), key_version: 0 };
    LargeRequest { part: Some(Part::Begin(begin)) }
}

/// A payload, in pieces.
pub(crate) fn pieces(bytes: &[u8], size: usize) -> Vec<LargeRequest> {
    bytes.chunks(size).map(|piece| LargeRequest { part: Some(Part::Piece(piece.to_vec().into())) }).collect()
}

/// Has a payload encrypted or opened, and gives what became of it.
pub(crate) async fn large(
    world: &World,
    encrypt: bool,
    messages: Vec<LargeRequest>,
) -> Result<Vec<u8>, Status> {
    let mut crypto = world.crypto("svc-payments");
    let request = call("acme", tonic::codegen::tokio_stream::iter(messages));
    let answers =
        if encrypt { crypto.encrypt_large(request).await } else { crypto.decrypt_large(request).await };
    let (mut answers, mut all) = (answers?.into_inner(), Vec::new());
    while let Some(answer) = answers.message().await? {
        all.extend_from_slice(&answer.piece);
    }
    Ok(all)
}

#[tokio::test]
async fn a_large_payload_comes_back_whole_or_not_at_all() {
    let (world, _dir) = world_with(Algorithm::Aes256Gcm).await;
    let payload: Vec<u8> = (0..3_000_000u32).map(|n| n.to_be_bytes()[3] ^ n.to_be_bytes()[1]).collect();
    let with = |first, rest: Vec<LargeRequest>| [vec![first], rest].concat();
    let sealed = large(&world, true, with(begin("a"), pieces(&payload, 100_000))).await.unwrap();
    rotate(&world).await;
    let opened = large(&world, false, with(begin("a"), pieces(&sealed, 65_537))).await.unwrap();
    assert!(opened == payload);
    let empty = large(&world, true, vec![begin("a")]).await.unwrap();
    assert_eq!(large(&world, false, with(begin("a"), pieces(&empty, 7))).await.unwrap(), b"");

    let mut swapped = sealed.clone();
    swapped.swap(100, 200_000);
    for (wrong, aad) in [
        (&sealed[..sealed.len() - 1], "a"),
        (&sealed[..70_000], "a"),
        (&swapped, "a"),
        (&sealed, "b"),
        (b"", "a"),
    ] {
        let refused = large(&world, false, with(begin(aad), pieces(wrong, 50_000))).await;
        assert_eq!(reason(refused), Reason::DecryptionFailed);
    }
    let unbegun = large(&world, true, pieces(b"x", 1)).await.unwrap_err();
    assert_eq!(Fault::from_status(&unbegun).violations()[0].field, "begin");
    world.service.stop().await;
}
