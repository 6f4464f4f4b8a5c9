//! The verbs: what a caller asks of a named key, granted, carried out, and on record before it is answered.
//!
//! An operation is a function of the key, of what was asked and of fresh random bytes; what may wait (loading a
//! key) happens before it.

mod large;
mod mac;
mod trail;

pub use large::{Large, LargeOperation};

use std::{sync::Arc, time::Duration};

use mesh::{Call, Fault, Reason, Watched};
use money::TenantId;
use paymesh_proto::crypto::v1::{self as proto, operation::Verb as Asked, outcome::Result as Answer};
use prost::bytes::Bytes;

use self::trail::Trail;
use crate::{
    audit::Recorder,
    domain::{
        algorithm::Verb,
        audit::{Entry, Subject},
        canonical::Encoded,
        envelope::{EnvelopeError, KeyRef, OVERHEAD_BYTES, Salt},
        format_preserving::{Alphabet, FormatError, FormatPreservingKey},
        grant::Grants,
        key::UseError,
        keys::KeyName,
        prefix::{Prefix, Suite},
        secret::{KeyBytes, SecretBytes, SecretText},
        signing::{Encoding, SigningError},
    },
    keyring::{EncryptKeys, Expanded, KeyError, LiveKey, NamedKeys, SigningKeys, Wanted},
    random::Random,
    store::Store,
};

/// The longest plaintext, in bytes: with its envelope and context it fits a message of 4 MiB.
const PLAINTEXT_BYTES_MAX: usize = 1024 * 1024;
/// The longest context, in bytes.
const AAD_BYTES_MAX: usize = 64 * 1024;

const DATA_LABEL: &[u8] = b"paymesh data 1";
const DATA_KEY_LABEL: &[u8] = b"paymesh data key 1";

/// For how long and how much a data key may be used outside.
#[derive(Debug, Clone, Copy)]
pub struct DataKeyLimits {
    /// How long its plaintext may be kept.
    pub ttl: Duration,
    /// The most messages.
    pub messages_max: u64,
    /// The most bytes.
    pub bytes_max: u64,
}

/// Why an operation was refused. Closed; the texts name no value.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{field} {text}")]
    Invalid { field: &'static str, text: String },
    #[error("there is no such key")]
    NoKey,
    #[error(transparent)]
    Use(#[from] UseError),
    /// One answer for every way in which a ciphertext can be wrong.
    #[error("the ciphertext does not open with this key and context")]
    DoesNotOpen,
    #[error(transparent)]
    Fault(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<KeyError> for Refused {
    fn from(error: KeyError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid { field, text } => Self::invalid(field, text),
            Refused::NoKey => Self::new(Reason::KeyNotFound, "There is no such key."),
            Refused::Use(error) => use_fault(error),
            Refused::DoesNotOpen => {
                Self::new(Reason::DecryptionFailed, "The ciphertext does not open with this key and context.")
            }
            Refused::Fault(fault) => fault,
        }
    }
}

fn use_fault(error: UseError) -> Fault {
    match error {
        UseError::Purpose => Fault::new(Reason::KeyPurposeMismatch, "The key is for another use."),
        UseError::NotEnabled => Fault::new(Reason::KeyNotEnabled, "The key is not enabled."),
        UseError::NoVersion => Fault::invalid("key_version", "must be a version that the key has, or 0"),
        UseError::TooOld => {
            Fault::new(Reason::KeyVersionTooOld, "The key's min_decrypt_version is above this version.")
        }
    }
}

/// Carries out verbs.
pub struct Operations<S> {
    keys: Arc<NamedKeys<S>>,
    grants: Watched<Grants>,
    random: Random,
    data_keys: DataKeyLimits,
    recorder: Recorder,
}

/// What the operations of one call have in common.
#[derive(Default)]
struct Session {
    /// The key that the operation before used: neighbours in a batch mostly share one.
    last: Option<(TenantId, String, Arc<LiveKey>)>,
    /// What the caller may do with it, as far as it was asked: the grants are looked at once a call.
    granted: Option<Verb>,
    /// Drawn at once for all of them.
    salts: Vec<Salt>,
    /// The version that the present operation names. A key that has not got it may be an old one.
    wanted: Wanted,
    trail: Trail,
}

impl<S: Store> Operations<S> {
    /// On the keys of `keys`, as `grants` allow. Nothing is answered before `recorder` has it on record.
    pub fn new(
        keys: Arc<NamedKeys<S>>,
        grants: Watched<Grants>,
        data_keys: DataKeyLimits,
        recorder: Recorder,
    ) -> Self {
        Self { keys, grants, random: Random::default(), data_keys, recorder }
    }

    /// One operation on a key of the call's own tenant.
    pub async fn one(&self, call: &Call, asked: Asked) -> Result<Answer, Fault> {
        let mut session = Session::default();
        let answer = self.traced(call, call.tenant().cloned(), asked, &mut session).await;
        self.recorder.submit(session.trail.into_entries()).await?;
        answer
    }

    /// Many, an outcome for each, which may be told once the entries are on record.
    pub async fn many(
        &self,
        call: &Call,
        operations: Vec<proto::Operation>,
    ) -> (Vec<proto::Outcome>, Vec<Entry>) {
        let mut outcomes = Vec::with_capacity(operations.len());
        let sealing =
            operations.iter().filter(|operation| operation.verb.as_ref().is_some_and(seals)).count();
        // Where there are none, each operation says so.
        let salts = self.random.salts(sealing).unwrap_or_default();
        let mut session = Session { salts, ..Session::default() };
        for proto::Operation { verb, tenant } in operations {
            let result = match verb {
                Some(asked) => self.traced(call, call.tenant_of_item(&tenant), asked, &mut session).await,
                None => Err(Fault::invalid("verb", "must be given")),
            };
            let result = result.unwrap_or_else(|fault| Answer::Refusal(refusal(&fault)));
            outcomes.push(proto::Outcome { result: Some(result) });
        }
        (outcomes, session.trail.into_entries())
    }

    /// Hands in now what is to be on record; done when it is.
    ///
    /// # Errors
    /// The log did not take it: what it is of may not be told.
    pub fn record(
        &self,
        entries: Vec<Entry>,
    ) -> impl Future<Output = Result<(), Fault>> + Send + 'static + use<S> {
        self.recorder.submit(entries)
    }

    /// An operation, and what it leaves in the trail.
    async fn traced(
        &self,
        call: &Call,
        tenant: Result<TenantId, Fault>,
        asked: Asked,
        session: &mut Session,
    ) -> Result<Answer, Fault> {
        let (verb, bytes) = (trail::verb_of(&asked), trail::bytes_of(&asked));
        session.trail.begin();
        session.wanted = trail::version_named(&asked);
        let result = match &tenant {
            Ok(tenant) => self.operate(call, tenant, asked, session).await.map_err(Fault::from),
            Err(fault) => Err(fault.clone()),
        };
        match &result {
            Ok(answer) => {
                if let (Some((.., key)), Some(version)) = (&session.last, trail::version_of(answer)) {
                    session.trail.used(KeyRef { id: key.key.id, version }, bytes);
                }
            }
            Err(fault) => session.trail.refused(call, tenant.as_ref().ok(), verb, fault),
        }
        result
    }

    async fn operate(
        &self,
        call: &Call,
        tenant: &TenantId,
        asked: Asked,
        session: &mut Session,
    ) -> Result<Answer, Refused> {
        match asked {
            Asked::Encrypt(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::Encrypt, session).await?;
                let sealed =
                    self.seal(&key, &request.plaintext, &request.aad, request.key_version, session)?;
                Ok(Answer::Encrypted(sealed))
            }
            Asked::Decrypt(request) => {
                let (version, plaintext) = self.open(call, tenant, &request, session).await?;
                let plaintext = plaintext.into_exposed().into();
                Ok(Answer::Decrypted(proto::DecryptResponse { plaintext, key_version: version }))
            }
            Asked::Rewrap(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::Rewrap, session).await?;
                let (_, plaintext) = unseal(&key, Label::Data, &request.ciphertext, &request.aad)?;
                Ok(Answer::Encrypted(self.seal(&key, plaintext.expose(), &request.aad, 0, session)?))
            }
            Asked::Translate(request) => {
                let from = request.from.ok_or_else(|| invalid("from", "must be given"))?;
                let source = self.key(call, tenant, &from.key_name, Verb::TranslateFrom, session).await?;
                let (version, plaintext) = unseal(&source, Label::Data, &from.ciphertext, &from.aad)?;
                session.trail.used(KeyRef { id: source.key.id, version }, from.ciphertext.len());
                session.wanted = Wanted::default();
                let target = self.key(call, tenant, &request.to_key_name, Verb::TranslateTo, session).await?;
                Ok(Answer::Encrypted(self.seal(&target, plaintext.expose(), &request.to_aad, 0, session)?))
            }
            Asked::GenerateDataKey(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::GenerateDataKey, session).await?;
                let (secret, wrapped) = self.data_key(&key, &request.aad, session)?;
                let version = wrapped.key_version;
                Ok(Answer::DataKey(self.given(secret.expose().to_vec(), wrapped.wrapped, version)))
            }
            Asked::GenerateWrappedDataKey(request) => {
                let verb = Verb::GenerateWrappedDataKey;
                let key = self.key(call, tenant, &request.key_name, verb, session).await?;
                Ok(Answer::WrappedDataKey(self.data_key(&key, &request.aad, session)?.1))
            }
            Asked::DecryptDataKey(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::DecryptDataKey, session).await?;
                let (version, secret) = unseal(&key, Label::DataKey, &request.wrapped, &request.aad)?;
                Ok(Answer::DataKey(self.given(secret.into_exposed(), request.wrapped, version)))
            }
            Asked::ComputeMac(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::ComputeMac, session).await?;
                mac::compute(&key, &request)
            }
            Asked::VerifyMac(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::VerifyMac, session).await?;
                mac::verify(&key, &request)
            }
            Asked::BlindIndex(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::BlindIndex, session).await?;
                mac::index(&key, &request)
            }
            Asked::EncryptDeterministic(request) => {
                let verb = Verb::EncryptDeterministic;
                let key = self.key(call, tenant, &request.key_name, verb, session).await?;
                encrypt_deterministic(&key, &request)
            }
            Asked::EncryptFormat(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::EncryptFormat, session).await?;
                format(&key, &request, FormatPreservingKey::encrypt)
            }
            Asked::DecryptFormat(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::DecryptFormat, session).await?;
                format(&key, &request, FormatPreservingKey::decrypt)
            }
            Asked::Sign(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::Sign, session).await?;
                self.sign(&key, &request)
            }
            Asked::Verify(request) => {
                let key = self.key(call, tenant, &request.key_name, Verb::Verify, session).await?;
                verify(&key, &request)
            }
        }
    }

    /// The key, if the caller may do this with it and it may be done.
    async fn key(
        &self,
        call: &Call,
        tenant: &TenantId,
        name: &str,
        verb: Verb,
        session: &mut Session,
    ) -> Result<Arc<LiveKey>, Refused> {
        let wanted = session.wanted;
        let held = session
            .last
            .as_ref()
            .filter(|(of, known, key)| of == tenant && known == name && !wanted.is_beyond(&key.key));
        let key = if let Some((.., key)) = held {
            session.trail.uses(call, Some(tenant), Subject::Key(key.key.name.clone()), verb);
            if session.granted != Some(verb) {
                self.granted(call, tenant, &key.key.name, verb)?;
                session.granted = Some(verb);
            }
            Arc::clone(key)
        } else {
            // What is no name could be data, and is not put on record.
            let parsed = KeyName::parse(name).map_err(|error| invalid("key_name", error.to_string()))?;
            session.trail.uses(call, Some(tenant), Subject::Key(parsed.clone()), verb);
            self.granted(call, tenant, &parsed, verb)?;
            let key = self.keys.get_with(tenant, &parsed, wanted).await?.ok_or(Refused::NoKey)?;
            session.last = Some((tenant.clone(), name.to_owned(), Arc::clone(&key)));
            session.granted = Some(verb);
            key
        };
        key.key.usable(verb)?;
        Ok(key)
    }

    fn granted(&self, call: &Call, tenant: &TenantId, key: &KeyName, verb: Verb) -> Result<(), Refused> {
        if self.grants.current().allow(call.peer().name(), tenant, key, verb) {
            Ok(())
        } else {
            Err(denied(call, tenant, key, verb).into())
        }
    }

    /// Opens what Encrypt or EncryptDeterministic made.
    async fn open(
        &self,
        call: &Call,
        tenant: &TenantId,
        request: &proto::DecryptRequest,
        session: &mut Session,
    ) -> Result<(u32, SecretBytes), Refused> {
        let suite = Prefix::read(&request.ciphertext).map(|prefix| prefix.suite);
        let verb = match suite {
            Some(Suite::Deterministic) => Verb::DecryptDeterministic,
            _ => Verb::Decrypt,
        };
        let key = self.key(call, tenant, &request.key_name, verb, session).await;
        let key = match key {
            // A key that does not exist, or is none of this kind, is a wrong key like any other.
            Err(Refused::NoKey | Refused::Use(UseError::Purpose)) => return Err(Refused::DoesNotOpen),
            other => other?,
        };
        unseal(&key, Label::Data, &request.ciphertext, &request.aad)
    }

    fn seal(
        &self,
        key: &LiveKey,
        plaintext: &[u8],
        aad: &[u8],
        version: u32,
        session: &mut Session,
    ) -> Result<proto::EncryptResponse, Refused> {
        check_length("plaintext", plaintext.len(), PLAINTEXT_BYTES_MAX)?;
        let version = key.key.making(version)?;
        let context = context(key, Label::Data, aad)?;
        let sealing = &encrypt_keys(key, version)?.message;
        let salt = self.salt(session)?;
        let ciphertext = sealing.seal(salt, &context, plaintext).map_err(KeyError::from)?.into();
        Ok(proto::EncryptResponse { ciphertext, key_version: version })
    }

    fn data_key(
        &self,
        key: &LiveKey,
        aad: &[u8],
        session: &mut Session,
    ) -> Result<(KeyBytes, proto::WrappedDataKey), Refused> {
        let version = key.key.newest_version();
        let context = context(key, Label::DataKey, aad)?;
        let sealing = &encrypt_keys(key, version)?.message;
        let secret = self.random.key().map_err(KeyError::from)?;
        let salt = self.salt(session)?;
        let wrapped = sealing.seal(salt, &context, secret.expose()).map_err(KeyError::from)?.into();
        Ok((secret, proto::WrappedDataKey { wrapped, key_version: version }))
    }

    fn salt(&self, session: &mut Session) -> Result<Salt, Refused> {
        match session.salts.pop() {
            Some(salt) => Ok(salt),
            None => Ok(self.random.salt().map_err(KeyError::from)?),
        }
    }

    fn sign(&self, key: &LiveKey, request: &proto::SignRequest) -> Result<Answer, Refused> {
        check_length("message", request.message.len(), PLAINTEXT_BYTES_MAX)?;
        check_length("aad", request.aad.len(), AAD_BYTES_MAX)?;
        let version = key.key.making(request.key_version)?;
        let encoding = encoding(request.encoding)?;
        let signature = signing_keys(key, version)?
            .private
            .sign(encoding, &request.aad, &request.message, self.random.generator())
            .map_err(|error| match error {
                SigningError::Reserved => invalid("message", error.to_string()),
                SigningError::Randomness | SigningError::PrivateKey | SigningError::PublicKey => unreadable(),
            })?;
        Ok(Answer::Signed(proto::SignResponse { signature: signature.into(), key_version: version }))
    }

    fn given(&self, plaintext: Vec<u8>, wrapped: Bytes, key_version: u32) -> proto::DataKey {
        let DataKeyLimits { ttl, messages_max, bytes_max } = self.data_keys;
        let ttl = prost_types::Duration::try_from(ttl).ok();
        proto::DataKey { plaintext: plaintext.into(), wrapped, key_version, ttl, messages_max, bytes_max }
    }
}

/// The refusal of what is not granted, which the log tells.
pub fn denied(call: &Call, tenant: &TenantId, key: &KeyName, verb: Verb) -> Fault {
    let (workload, key, verb) = (call.peer().name(), key.as_str(), verb.as_str());
    tracing::warn!(workload, %tenant, key, verb, "not granted");
    Fault::new(Reason::PermissionDenied, "The workload has no grant for this verb on this key.")
}

/// Whether an operation seals a message, and so takes a salt.
fn seals(asked: &Asked) -> bool {
    matches!(
        asked,
        Asked::Encrypt(_)
            | Asked::Rewrap(_)
            | Asked::Translate(_)
            | Asked::GenerateDataKey(_)
            | Asked::GenerateWrappedDataKey(_)
    )
}

/// What a ciphertext is: one cannot be opened as another.
#[derive(Clone, Copy)]
enum Label {
    Data,
    DataKey,
}

/// What is made is bound to, beside its key: its tenant, its key's name, and what the caller gave.
fn context(key: &LiveKey, label: Label, aad: &[u8]) -> Result<Encoded, Refused> {
    check_length("aad", aad.len(), AAD_BYTES_MAX)?;
    let label = match label {
        Label::Data => DATA_LABEL,
        Label::DataKey => DATA_KEY_LABEL,
    };
    Ok(Encoded::of(&[label, key.key.tenant.as_str().as_bytes(), key.key.name.as_str().as_bytes(), aad]))
}

fn unseal(key: &LiveKey, label: Label, sealed: &[u8], aad: &[u8]) -> Result<(u32, SecretBytes), Refused> {
    check_length("ciphertext", sealed.len(), PLAINTEXT_BYTES_MAX + OVERHEAD_BYTES)?;
    let context = context(key, label, aad)?;
    // Nothing of it is authenticated yet: it says which version to try.
    let reference = Prefix::read(sealed).map(|prefix| prefix.key).ok_or(Refused::DoesNotOpen)?;
    let version = key.key.undoing(reference.version).map_err(version_error)?;
    let opened = match key.version(version) {
        Some(Expanded::Encrypt(keys)) => keys.message.open(sealed, &context),
        Some(Expanded::Deterministic(deterministic)) => deterministic.open(sealed, &context),
        _ => return Err(unreadable()),
    };
    Ok((version, opened.map_err(|EnvelopeError| Refused::DoesNotOpen)?))
}

/// A version that there is not is a wrong key; one that is too old is there, and says so.
fn version_error(error: UseError) -> Refused {
    match error {
        UseError::NoVersion => Refused::DoesNotOpen,
        other => Refused::Use(other),
    }
}

fn encrypt_deterministic(key: &LiveKey, request: &proto::EncryptRequest) -> Result<Answer, Refused> {
    check_length("plaintext", request.plaintext.len(), PLAINTEXT_BYTES_MAX)?;
    let version = key.key.making(request.key_version)?;
    let context = context(key, Label::Data, &request.aad)?;
    let Some(Expanded::Deterministic(sealing)) = key.version(version) else { return Err(unreadable()) };
    let ciphertext = sealing.seal(&context, &request.plaintext).map_err(KeyError::from)?.into();
    Ok(Answer::Encrypted(proto::EncryptResponse { ciphertext, key_version: version }))
}

fn encrypt_keys(key: &LiveKey, version: u32) -> Result<&EncryptKeys, Refused> {
    match key.version(version) {
        Some(Expanded::Encrypt(keys)) => Ok(keys),
        _ => Err(unreadable()),
    }
}

fn signing_keys(key: &LiveKey, version: u32) -> Result<&SigningKeys, Refused> {
    match key.version(version) {
        Some(Expanded::Sign(keys)) => Ok(keys),
        _ => Err(unreadable()),
    }
}

fn encoding(asked: i32) -> Result<Encoding, Refused> {
    match proto::SignatureEncoding::try_from(asked) {
        Ok(proto::SignatureEncoding::Unspecified | proto::SignatureEncoding::Asn1Der) => Ok(Encoding::Der),
        Ok(proto::SignatureEncoding::P1363) => Ok(Encoding::P1363),
        Err(_) => Err(invalid("encoding", "must be ASN1_DER or P1363")),
    }
}

fn verify(key: &LiveKey, request: &proto::VerifyRequest) -> Result<Answer, Refused> {
    check_length("message", request.message.len(), PLAINTEXT_BYTES_MAX)?;
    check_length("aad", request.aad.len(), AAD_BYTES_MAX)?;
    let version = key.key.making(request.key_version)?;
    let encoding = encoding(request.encoding)?;
    let public = &signing_keys(key, version)?.public;
    let valid = public.verify(encoding, &request.aad, &request.message, &request.signature);
    Ok(Answer::Verified(proto::VerifyResponse { valid, key_version: version }))
}

type Format = fn(&FormatPreservingKey, Alphabet, &[u8], &str) -> Result<SecretText, FormatError>;

fn format(key: &LiveKey, request: &proto::FormatRequest, apply: Format) -> Result<Answer, Refused> {
    use proto::format_request::Alphabet as Asked;
    let alphabet = match Asked::try_from(request.alphabet) {
        Ok(Asked::Digits) => Alphabet::Decimal,
        Ok(Asked::UpperAlphanumeric) => Alphabet::UpperAlphanumeric,
        Ok(Asked::Alphanumeric) => Alphabet::Alphanumeric,
        Ok(Asked::Unspecified) | Err(_) => {
            return Err(invalid("alphabet", "must be DIGITS, UPPER_ALPHANUMERIC or ALPHANUMERIC"));
        }
    };
    let version = key.key.making(request.key_version)?;
    let context = context(key, Label::Data, &request.aad)?;
    let Some(Expanded::Format(format)) = key.version(version) else { return Err(unreadable()) };
    let text = apply(format, alphabet, &context, &request.text)
        .map_err(|error| invalid("text", error.to_string()))?;
    let text = text.expose().to_owned();
    Ok(Answer::Formatted(proto::FormatResponse { text, key_version: version }))
}

fn invalid(field: &'static str, text: impl Into<String>) -> Refused {
    Refused::Invalid { field, text: text.into() }
}

fn check_length(field: &'static str, bytes: usize, bytes_max: usize) -> Result<(), Refused> {
    if bytes <= bytes_max {
        Ok(())
    } else {
        Err(invalid(field, format!("must have at most {bytes_max} bytes")))
    }
}

/// A key on record that is not what it should be.
fn unreadable() -> Refused {
    Refused::Fault(Fault::new(Reason::Internal, "The service could not use its keys."))
}

fn refusal(fault: &Fault) -> proto::Refusal {
    let field = fault.violations().first().map(|violation| violation.field.clone()).unwrap_or_default();
    let text = fault.violations().first().map(|violation| violation.description.clone());
    proto::Refusal {
        reason: fault.reason().as_str().to_owned(),
        message: text.unwrap_or_else(|| fault.message().to_owned()),
        field,
        retry_after_s: fault.retry_after().unwrap_or_default(),
    }
}
