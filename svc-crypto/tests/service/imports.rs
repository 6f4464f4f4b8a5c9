//! Keys that are brought from outside, where there are two replicas.

use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use mesh::{Fault, Reason};
use paymesh_proto::crypto::v1::{
    Algorithm, ComputeMacRequest, GetImportParametersRequest, ImportKeyRequest, ImportMethod,
    ImportParameters,
};
use ring::hmac;
use rsa::{Oaep, RsaPublicKey, pkcs8::DecodePublicKey as _, sha2::Sha256};
use svc_crypto::domain::{key_wrap, secret::KeyBytes};
use tonic::Status;

use crate::{
    common::{call, reason},
    keys::wrap,
    postgres::Database,
    replicas::{Replica, two},
};

const NAME: &str = "payments.imported";

async fn begin(replica: &Replica, method: ImportMethod) -> ImportParameters {
    let begin = GetImportParametersRequest { method: method.into() };
    replica.world.keys("operator").get_import_parameters(call("acme", begin)).await.unwrap().into_inner()
}

async fn end(replica: &Replica, tenant: &str, import_id: &str, wrapped: &[u8]) -> Result<u32, Status> {
    let request = ImportKeyRequest {
        name: NAME.into(),
        algorithm: Algorithm::HmacSha256.into(),
        import_id: import_id.into(),
        wrapped: wrapped.to_vec().into(),
        rotation_period: None,
    };
    let imported = replica.world.keys("operator").import_key(call(tenant, request)).await?;
    Ok(imported.into_inner().newest_version)
}

fn is_unknown(refused: Result<u32, Status>) -> bool {
    Fault::from_status(&refused.unwrap_err()).violations()[0].field == "import_id"
}

/// As the documentation tells importers to wrap a key for RSA_OAEP_AES_KWP.
fn wrap_for_rsa(spki: &[u8], secret: &[u8]) -> Vec<u8> {
    let public = RsaPublicKey::from_public_key_der(spki).unwrap();
    let random = &mut ChaCha20Rng::from_seed([2; 32]);
    let wrapped = public.encrypt(random, Oaep::<Sha256>::new(), &[7; 32]).unwrap();
    [wrapped, key_wrap::wrap(&KeyBytes::take(&mut [7; 32]), secret).unwrap()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_by_rsa_ends_at_any_replica_once() {
    let database = Database::new();
    let (a, b) = two(&database).await;
    let client = database.schema.client().await;
    let kept = async || client.query("SELECT wrapped FROM import", &[]).await.unwrap();
    let begun = begin(&a, ImportMethod::RsaOaepAesKwp).await;
    let sealed: Vec<u8> = kept().await[0].get(0);
    // Nothing of PKCS#8 is to be seen: its object identifier of an RSA key.
    assert!(!sealed.windows(9).any(|bytes| bytes == b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"));
    let wrapped = wrap_for_rsa(&begun.public_key, &[9; 32]);
    assert!(is_unknown(end(&b, "other", &begun.import_id, &wrapped).await), "it is another tenant's");

    // All at once, at both: one is given it.
    let ends = [&a, &b, &a, &b].map(|replica| end(replica, "acme", &begun.import_id, &wrapped));
    let [first, second, third, fourth] = ends;
    let ends = tokio::join!(first, second, third, fourth);
    let (done, refused): (Vec<_>, Vec<_>) =
        [ends.0, ends.1, ends.2, ends.3].into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (1, 3));
    assert!(refused.into_iter().all(is_unknown));
    assert!(kept().await.is_empty());

    let request = ComputeMacRequest { key_name: NAME.into(), data: "data".into(), ..Default::default() };
    let made = b.world.crypto("svc-payments").compute_mac(call("acme", request)).await.unwrap().into_inner();
    let outside = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[9; 32]), b"data");
    assert_eq!(outside.as_ref(), &made.mac[..]);

    // One that is wrapped wrong is gone as well, and one whose time is over.
    let begun = begin(&b, ImportMethod::RsaOaepAesKwp).await;
    let refused = end(&a, "acme", &begun.import_id, &wrapped).await;
    assert_eq!(reason(refused), Reason::InvalidRequest);
    assert!(kept().await.is_empty());
    let begun = begin(&b, ImportMethod::RsaOaepAesKwp).await;
    let wrapped = wrap_for_rsa(&begun.public_key, &[9; 32]);
    a.world.clock.advance_seconds(15 * 60);
    assert!(is_unknown(end(&a, "acme", &begun.import_id, &wrapped).await));
    begin(&a, ImportMethod::RsaOaepAesKwp).await;
    assert_eq!(kept().await.len(), 1, "what is over is let go of");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_by_ecdh_ends_where_it_began_and_says_so() {
    let database = Database::new();
    let (a, b) = two(&database).await;
    let begun = begin(&a, ImportMethod::EcdhP256AesKwp).await;
    let wrapped = wrap(&begun.public_key, &[9; 32]);
    let refused = end(&b, "acme", &begun.import_id, &wrapped).await.unwrap_err();
    let fault = Fault::from_status(&refused);
    assert_eq!(fault.violations()[0].field, "import_id");
    assert!(fault.violations()[0].description.contains("the replica at which it began"), "{fault:?}");
    assert_eq!(end(&a, "acme", &begun.import_id, &wrapped).await.unwrap(), 1);
}
