//! The verbs, each a function. Knows how an operation becomes an answer, and no batching.

use mesh::{BatchLimits, Batcher, Call, Fault, Reason, Upstream};
use money::TenantId;
use paymesh_proto::crypto::v1::{
    self as proto, crypto_service_client::CryptoServiceClient, operation::Verb, outcome::Result as Outcome,
};

use crate::batches::{self, Question};

/// At most as many as the service takes at once.
const LIMITS: BatchLimits = BatchLimits { items_max: 1_024, queue_max: 16_384 };
/// How many batches may be under way: two keep both ends busy.
const CONCURRENCY: usize = 2;

/// CryptoService, with what is asked at the same time gathered into batches. Cheap to clone.
#[derive(Clone)]
pub struct CryptoClient {
    batcher: Batcher<Question, Result<Outcome, Fault>>,
}

/// A function for each verb: what it is, its request, its answer.
macro_rules! verbs {
    ($($(#[$doc:meta])* $function:ident($request:ident) -> $answer:ident = $verb:ident, $outcome:ident;)+) => {
        impl CryptoClient {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// What the service refused, by its own reason; and what became of the call, where there is no answer.
                /// The verb changes nothing, so it may always be asked again.
                pub async fn $function(
                    &self,
                    call: &Call,
                    tenant: &TenantId,
                    request: proto::$request,
                ) -> Result<proto::$answer, Fault> {
                    match self.ask(call, tenant, Verb::$verb(request)).await? {
                        Outcome::$outcome(answer) => Ok(answer),
                        _ => Err(batches::nonsense()),
                    }
                }
            )+
        }
    };
}

verbs! {
    /// Encrypts under an ENCRYPT key.
    encrypt(EncryptRequest) -> EncryptResponse = Encrypt, Encrypted;
    /// Opens what `encrypt` or `encrypt_deterministic` made.
    decrypt(DecryptRequest) -> DecryptResponse = Decrypt, Decrypted;
    /// The same plaintext under the key's newest version.
    rewrap(RewrapRequest) -> EncryptResponse = Rewrap, Encrypted;
    /// The same plaintext under another key and context.
    translate(TranslateRequest) -> EncryptResponse = Translate, Encrypted;
    /// A fresh data key, in plaintext and wrapped. [`crate::LocalEncryption`] does this by itself.
    generate_data_key(GenerateDataKeyRequest) -> DataKey = GenerateDataKey, DataKey;
    /// A fresh data key, wrapped only.
    generate_wrapped_data_key(GenerateDataKeyRequest) -> WrappedDataKey = GenerateWrappedDataKey, WrappedDataKey;
    /// Unwraps a data key.
    decrypt_data_key(DecryptDataKeyRequest) -> DataKey = DecryptDataKey, DataKey;
    /// A tag over data.
    compute_mac(ComputeMacRequest) -> ComputeMacResponse = ComputeMac, Mac;
    /// Whether a tag is that of the data.
    verify_mac(VerifyMacRequest) -> VerifyResponse = VerifyMac, Verified;
    /// A keyed index of a value.
    blind_index(BlindIndexRequest) -> BlindIndexResponse = BlindIndex, Index;
    /// Encrypts under a DETERMINISTIC key.
    encrypt_deterministic(EncryptRequest) -> EncryptResponse = EncryptDeterministic, Encrypted;
    /// Encrypts digits or letters into as many.
    encrypt_format(FormatRequest) -> FormatResponse = EncryptFormat, Formatted;
    /// Undoes `encrypt_format`.
    decrypt_format(FormatRequest) -> FormatResponse = DecryptFormat, Formatted;
    /// Signs.
    sign(SignRequest) -> SignResponse = Sign, Signed;
    /// Whether a signature is that of the message.
    verify(VerifyRequest) -> VerifyResponse = Verify, Verified;
}

impl CryptoClient {
    /// Calls the svc-crypto behind `upstream`. Must be called within a runtime.
    pub fn new(upstream: Upstream) -> Self {
        let client = CryptoServiceClient::new(upstream);
        let batcher = Batcher::on_task(LIMITS, CONCURRENCY, move |questions| {
            batches::carry_out(client.clone(), questions)
        });
        Self { batcher }
    }

    /// Any verb, for one who does not know before which.
    ///
    /// # Errors
    /// As of each verb. A refusal is an error, never an outcome.
    pub async fn ask(&self, call: &Call, tenant: &TenantId, verb: Verb) -> Result<Outcome, Fault> {
        let operation = proto::Operation { verb: Some(verb), tenant: tenant.as_str().to_owned() };
        let answer = self.batcher.call(Question { call: call.in_span(), operation });
        let Some(deadline) = call.deadline() else { return answer.await? };
        let late =
            || Fault::new(Reason::DeadlineExceeded, "The call's time was over before there was an answer.");
        tokio::time::timeout_at(deadline.into(), answer).await.map_err(|_| late())??
    }
}
