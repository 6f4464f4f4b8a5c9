//! KeyService over real mTLS: the life of a key, and what its users see of it.

use mesh::{Fault, Reason};
use money::Timestamp;
use paymesh_proto::crypto::v1::{
    Algorithm, CancelKeyDestructionRequest, ComputeMacRequest, CreateKeyRequest, DisableKeyRequest,
    EnableKeyRequest, GetImportParametersRequest, GetKeyRequest, ImportKeyRequest, ImportMethod, Key,
    ListKeysRequest, RotateKeyRequest, ScheduleKeyDestructionRequest, UpdateKeyRequest, key::State,
};
use prost_types::{Duration, FieldMask};
use ring::{agreement, hkdf, hmac, rand::SystemRandom};
use svc_crypto::{
    config::Config,
    domain::{key_wrap, secret::KeyBytes},
};
use tonic::{Code, Status};

use crate::{
    common::{NOW, World, call, reason},
    crypto::{decrypt, encrypt},
};

const NAME: &str = "payments.k";

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

async fn get(world: &World) -> Key {
    let request = call("acme", GetKeyRequest { name: NAME.into() });
    world.keys("operator").get_key(request).await.unwrap().into_inner()
}

async fn rotate(world: &World, expected_version: u32) -> Result<Key, Status> {
    let request = RotateKeyRequest { name: NAME.into(), expected_version };
    world.keys("operator").rotate_key(call("acme", request)).await.map(tonic::Response::into_inner)
}

fn field(status: &Status) -> String {
    Fault::from_status(status).violations()[0].field.clone()
}

#[tokio::test]
async fn a_key_is_made_once_and_rotated_as_expected() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let made = world.make_key("acme", NAME, Algorithm::Aes256Gcm).await;
    assert_eq!(made, world.make_key("acme", NAME, Algorithm::Aes256Gcm).await, "once is enough");
    assert_eq!((made.newest_version, made.versions.len(), made.state()), (1, 1, State::Enabled));
    let other = CreateKeyRequest {
        name: NAME.into(),
        algorithm: Algorithm::HmacSha256.into(),
        rotation_period: None,
    };
    let refused = world.keys("operator").create_key(call("acme", other)).await;
    assert_eq!(reason(refused), Reason::KeyStateConflict);

    let mut crypto = world.crypto("svc-payments");
    let old = crypto.encrypt(call("acme", encrypt(NAME, b"old", b""))).await.unwrap().into_inner();
    assert_eq!(rotate(&world, 1).await.unwrap().newest_version, 2);
    assert_eq!(reason(rotate(&world, 1).await), Reason::KeyStateConflict, "a repetition makes no third");
    let new = crypto.encrypt(call("acme", encrypt(NAME, b"new", b""))).await.unwrap().into_inner();
    assert_eq!(new.key_version, 2);
    let opened = crypto.decrypt(call("acme", decrypt(NAME, &old.ciphertext, b""))).await.unwrap();
    assert_eq!(&opened.into_inner().plaintext[..], b"old");

    let mask = FieldMask { paths: vec!["min_decrypt_version".into(), "rotation_period".into()] };
    let update = UpdateKeyRequest {
        name: NAME.into(),
        update_mask: Some(mask),
        min_decrypt_version: 2,
        rotation_period: Some(seconds(86_400)),
    };
    let updated = world.keys("operator").update_key(call("acme", update.clone())).await.unwrap().into_inner();
    assert_eq!((updated.min_decrypt_version, updated.revision), (2, 3));
    assert!(updated.next_rotation_at.is_some());
    let again = world.keys("operator").update_key(call("acme", update)).await.unwrap().into_inner();
    assert_eq!(again, updated);
    let too_old = crypto.decrypt(call("acme", decrypt(NAME, &old.ciphertext, b""))).await;
    assert_eq!(reason(too_old), Reason::KeyVersionTooOld);
    world.service.stop().await;
}

#[tokio::test]
async fn a_disabled_key_does_nothing_at_once_and_until_it_is_enabled() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    world.make_key("acme", NAME, Algorithm::Aes256Gcm).await;
    let (mut crypto, mut keys) = (world.crypto("svc-payments"), world.keys("operator"));
    let sealed = crypto.encrypt(call("acme", encrypt(NAME, b"x", b""))).await.unwrap().into_inner();
    keys.disable_key(call("acme", DisableKeyRequest { name: NAME.into() })).await.unwrap();
    let refused = crypto.encrypt(call("acme", encrypt(NAME, b"x", b""))).await;
    assert_eq!(reason(refused), Reason::KeyNotEnabled);
    let refused = crypto.decrypt(call("acme", decrypt(NAME, &sealed.ciphertext, b""))).await;
    assert_eq!(reason(refused), Reason::KeyNotEnabled);
    keys.enable_key(call("acme", EnableKeyRequest { name: NAME.into() })).await.unwrap();
    crypto.decrypt(call("acme", decrypt(NAME, &sealed.ciphertext, b""))).await.unwrap();
    world.service.stop().await;
}

#[tokio::test]
async fn what_is_due_happens_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let request = CreateKeyRequest {
        name: NAME.into(),
        algorithm: Algorithm::Aes256Gcm.into(),
        rotation_period: Some(seconds(3600)),
    };
    world.keys("operator").create_key(call("acme", request)).await.unwrap();
    let sealed = world.crypto("svc-payments").encrypt(call("acme", encrypt(NAME, b"x", b""))).await.unwrap();
    let sealed = sealed.into_inner().ciphertext;
    world.service.stop().await;

    let later = |seconds: i64| Timestamp::from_nanos(NOW.as_nanos() + seconds * 1_000_000_000);
    let world = World::start_at(dir.path(), later(3600)).await;
    world.until(async || get(&world).await.newest_version == 2).await;
    let schedule = ScheduleKeyDestructionRequest { name: NAME.into(), waiting_period: Some(seconds(86_400)) };
    let given_up = world.keys("operator").schedule_key_destruction(call("acme", schedule.clone())).await;
    assert_eq!(given_up.unwrap().into_inner().state(), State::PendingDestruction);
    let cancel = CancelKeyDestructionRequest { name: NAME.into() };
    let kept = world.keys("operator").cancel_key_destruction(call("acme", cancel)).await.unwrap();
    assert_eq!(kept.into_inner().state(), State::Disabled);
    world.keys("operator").schedule_key_destruction(call("acme", schedule)).await.unwrap();
    assert_eq!(reason(rotate(&world, 0).await), Reason::KeyStateConflict);
    world.service.stop().await;

    let world = World::start_at(dir.path(), later(3600 + 86_400)).await;
    world.until(async || get(&world).await.state() == State::Destroyed).await;
    let refused = world.crypto("svc-payments").decrypt(call("acme", decrypt(NAME, &sealed, b""))).await;
    assert_eq!(reason(refused), Reason::KeyNotEnabled);
    world.service.stop().await;
}

#[tokio::test]
async fn keys_are_listed_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    for name in ["c", "a", "b"] {
        world.make_key("acme", name, Algorithm::Aes256Gcm).await;
    }
    world.make_key("other", "z", Algorithm::Aes256Gcm).await;
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListKeysRequest { page_size: 2, page_token };
        let page = world.keys("operator").list_keys(call("acme", request)).await.unwrap().into_inner();
        names.extend(page.keys.into_iter().map(|key| key.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
    world.service.stop().await;
}

/// As the documentation tells importers to wrap a key for ECDH_P256_AES_KWP.
pub(crate) fn wrap(spki: &[u8], secret: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let theirs = &spki[spki.len() - 65..];
    let ours = agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &random).unwrap();
    let point = ours.compute_public_key().unwrap();
    let peer = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, theirs);
    let key = agreement::agree_ephemeral(ours, &peer, |shared| {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"paymesh import ecdh 1").extract(shared);
        let info = [theirs, point.as_ref()];
        let mut key = [0; 32];
        prk.expand(&info, hkdf::HKDF_SHA256).unwrap().fill(&mut key).unwrap();
        KeyBytes::take(&mut key)
    });
    [point.as_ref(), &key_wrap::wrap(&key.unwrap(), secret).unwrap()].concat()
}

#[tokio::test]
async fn a_key_of_ones_own_is_brought_wrapped_and_only_once_with_each_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let mut keys = world.keys("operator");
    let begin = GetImportParametersRequest { method: ImportMethod::EcdhP256AesKwp.into() };
    let parameters = keys.get_import_parameters(call("acme", begin)).await.unwrap().into_inner();
    let import = |import_id: &str, wrapped: Vec<u8>| ImportKeyRequest {
        name: NAME.into(),
        algorithm: Algorithm::HmacSha256.into(),
        import_id: import_id.into(),
        wrapped: wrapped.into(),
        rotation_period: None,
    };
    let wrapped = wrap(&parameters.public_key, &[9; 32]);
    let stolen = keys.import_key(call("other", import(&parameters.import_id, wrapped.clone()))).await;
    assert_eq!(field(&stolen.unwrap_err()), "import_id");
    let imported = keys.import_key(call("acme", import(&parameters.import_id, wrapped.clone()))).await;
    let imported = imported.unwrap().into_inner();
    assert!(imported.versions[0].imported);
    let again = keys.import_key(call("acme", import(&parameters.import_id, wrapped))).await;
    assert_eq!(field(&again.unwrap_err()), "import_id");

    // A tag without a context is HMAC as everybody computes it.
    let request = ComputeMacRequest { key_name: NAME.into(), data: "data".into(), ..Default::default() };
    let made = world.crypto("svc-payments").compute_mac(call("acme", request)).await.unwrap().into_inner();
    let outside = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[9; 32]), b"data");
    assert_eq!(outside.as_ref(), &made.mac[..]);

    for (secret, told) in [(vec![9; 31], "wrapped"), (vec![9; 33], "wrapped")] {
        let begin = GetImportParametersRequest { method: ImportMethod::EcdhP256AesKwp.into() };
        let parameters = keys.get_import_parameters(call("acme", begin)).await.unwrap().into_inner();
        let wrapped = wrap(&parameters.public_key, &secret);
        let refused = keys.import_key(call("acme", import(&parameters.import_id, wrapped))).await;
        assert_eq!(field(&refused.unwrap_err()), told);
    }
    world.service.stop().await;
}

#[tokio::test]
async fn a_file_of_grants_decides_instead() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("grants.toml");
    let grant = |verbs: &str| {
        format!(
            "[[grant]]\nworkload = \"operator\"\ntenants = [\"acme\"]\nkeys = [\"*\"]\nverbs = [\"create_key\"]\n\
             [[grant]]\nworkload = \"svc-payments\"\ntenants = [\"acme\"]\nkeys = [\"k\"]\nverbs = [{verbs}]\n"
        )
    };
    std::fs::write(&file, grant("\"encrypt\"")).unwrap();
    let config = Config { grants_file: Some(file.clone()), ..Config::default() };
    let world = World::start_with(dir.path(), config).await;
    world.make_key("acme", "k", Algorithm::Aes256Gcm).await;
    let mut crypto = world.crypto("svc-payments");
    let sealed = crypto.encrypt(call("acme", encrypt("k", b"x", b""))).await.unwrap().into_inner();
    let refused = crypto.decrypt(call("acme", decrypt("k", &sealed.ciphertext, b""))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    std::fs::write(&file, grant("\"encrypt\", \"decrypt\"")).unwrap();
    let request = || call("acme", decrypt("k", &sealed.ciphertext, b""));
    world.until(async || world.crypto("svc-payments").decrypt(request()).await.is_ok()).await;
    world.service.stop().await;
}
