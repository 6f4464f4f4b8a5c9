//! Envelopes: any bytes to the openers of all four suites, and sealed ones that are changed.

use std::sync::LazyLock;

use crypto_envelope::{
    canonical,
    envelope::{EnvelopeError, KeyRef, SALT_AT, SALT_BYTES, Salt, SealingKey, TAG_BYTES, key_of},
    local::{self, LocalKey, NONCE_BYTES, Nonce},
    prefix::{PREFIX_BYTES, Prefix, Suite},
    secret::{KeyBytes, SecretBytes},
    testing::{bytes, formats, key},
};
use serde_json::Value;
use svc_crypto::domain::{deterministic::DeterministicKey, large::LargeKey, rooted};
use uuid::Uuid;

use crate::input::{Input, changed, part};

/// A key that opens one vector's envelope, with its context.
enum Opener {
    Message(SealingKey),
    Deterministic(DeterministicKey),
    Large(LargeKey),
    Local(Box<LocalKey>),
}

struct Known {
    opener: Opener,
    context: Vec<u8>,
    envelope: Vec<u8>,
}

/// No vector of a large message beyond this is taken: an input is small.
const PLAINTEXT_BYTES_MAX: u64 = 4_096;

fn list<'a>(formats: &'a Value, suite: &str) -> Vec<&'a Value> {
    formats[suite].as_array().into_iter().flatten().collect()
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let formats = formats();
    let known = |vector: &Value, opener: Opener| Known {
        opener,
        context: bytes(vector, "context"),
        envelope: bytes(vector, "envelope"),
    };
    let mut all = Vec::new();
    for vector in list(&formats, "suite_1") {
        let (reference, key) = key(vector);
        all.push(known(vector, Opener::Message(SealingKey::new(reference, &key))));
    }
    for vector in list(&formats, "suite_2") {
        let (reference, key) = key(vector);
        all.push(known(vector, Opener::Deterministic(DeterministicKey::new(reference, &key))));
    }
    for vector in list(&formats, "suite_3") {
        let length = vector["plaintext_bytes"].as_u64().filter(|length| *length <= PLAINTEXT_BYTES_MAX);
        let Some(length) = length else { continue };
        let (reference, key) = key(vector);
        let (key, context) = (LargeKey::new(reference, &key), bytes(vector, "context"));
        let plaintext: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
        let salt = bytes(vector, "salt").try_into().unwrap_or_default();
        let envelope = seal_large(&key, salt, &context, &plaintext, 1_000);
        all.push(Known { opener: Opener::Large(key), context, envelope });
    }
    for vector in list(&formats, "suite_4") {
        let data_key = KeyBytes::from_slice(&bytes(vector, "data_key"));
        let local = data_key.and_then(|key| LocalKey::new(&key, &bytes(vector, "wrapped")).ok());
        all.extend(local.map(|key| known(vector, Opener::Local(Box::new(key)))));
    }
    all
});

/// The envelopes of the documents' vectors.
pub(crate) fn vectors() -> Vec<Vec<u8>> {
    KNOWN.iter().map(|known| known.envelope.clone()).collect()
}

fn seal_large(key: &LargeKey, salt: [u8; 32], context: &[u8], plaintext: &[u8], piece: usize) -> Vec<u8> {
    let Ok(mut encryptor) = key.encryptor(Salt::new(salt), context) else { return Vec::new() };
    let mut sealed = Vec::new();
    for piece in plaintext.chunks(piece.max(1)) {
        sealed.extend(encryptor.push(piece).unwrap_or_default());
    }
    sealed.extend(encryptor.finish().unwrap_or_default());
    sealed
}

fn open_large(key: &LargeKey, context: &[u8], envelope: &[u8], piece: usize) -> Option<Vec<u8>> {
    let mut decryptor = key.decryptor(context);
    let mut opened = Vec::new();
    for piece in envelope.chunks(piece.max(1)) {
        opened.extend_from_slice(decryptor.push(piece).ok()?.expose());
    }
    opened.extend_from_slice(decryptor.finish().ok()?.expose());
    Some(opened)
}

/// Any bytes. Whatever opens is, byte for byte, what is sealed of what came out.
pub(crate) fn open(data: &[u8]) {
    if let Some(prefix) = Prefix::read(data) {
        assert_eq!(prefix.bytes(), data[..PREFIX_BYTES], "a prefix has one form");
    }
    assert!(key_of(data).is_none_or(|key| Prefix::read(data).map(|prefix| prefix.key) == Some(key)));
    if let Some(wrapped) = local::wrapped_of(data) {
        assert_eq!(local::wrapping_key_of(data), key_of(wrapped));
    }
    // A key that a root which is a file wrapped is an envelope.
    let _ = rooted::read(data);
    for known in &*KNOWN {
        // Room for a whole chunk is made at once: that is for who comes at least with the right beginning.
        if matches!(known.opener, Opener::Large(_))
            && !Prefix::read(data).is_some_and(|of| of.suite == Suite::Large)
        {
            continue;
        }
        let (context, again) = (&known.context, known.opener.open_and_seal(data, &known.context));
        assert!(again.is_none_or(|again| again == data), "it opens, and would be sealed otherwise");
        // Neither in another context, whatever it is.
        let other = canonical::encode(&[context]);
        assert_eq!(known.opener.open_and_seal(data, &other), None, "it opens in another context");
    }
}

/// Ours, of one suite.
fn opener(suite: u8) -> Opener {
    let reference = KeyRef { id: Uuid::from_u128(7), version: 3 };
    let key = KeyBytes::take(&mut [9; 32]);
    let message = SealingKey::new(reference, &key);
    match suite % 4 {
        0 => Opener::Message(message),
        1 => Opener::Deterministic(DeterministicKey::new(reference, &key)),
        2 => Opener::Large(LargeKey::new(reference, &key)),
        _ => {
            let wrapped =
                message.seal(Salt::new([5; 32]), local::DATA_KEY_AAD, key.expose()).unwrap_or_default();
            LocalKey::new(&key, &wrapped).map_or(Opener::Message(message), |key| Opener::Local(Box::new(key)))
        }
    }
}

static OURS: LazyLock<[Opener; 4]> = LazyLock::new(|| [0, 1, 2, 3].map(opener));

/// A suite, where to change it and how, a context and a plaintext.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for suite in 0..4 {
        for place in [0_u8, 30, 60, 100, 200] {
            all.push([&[suite, 0, place, 1][..], &part(b"tenant acme"), b"attack at dawn"].concat());
        }
    }
    all
}

/// What was sealed opens as it was, and in no other form or context.
pub(crate) fn flip(data: &[u8]) {
    let mut input = Input::new(data);
    let (suite, at, difference) = (input.byte(), input.number(), input.byte());
    let context = input.part();
    let plaintext = input.rest();
    let opener = &OURS[usize::from(suite % 4)];
    let sealed = opener.seal([difference; 32], context, plaintext);
    let open = |envelope: &[u8], context: &[u8]| opener.open(envelope, context);
    assert_eq!(open(&sealed, context).as_deref(), Some(plaintext), "it opens");
    if let Some(changed) = changed(&sealed, at, difference) {
        assert_eq!(open(&changed, context), None, "a byte is another");
    }
    assert_eq!(open(&sealed[..at % sealed.len().max(1)], context), None, "it is cut short");
    assert_eq!(open(&[&sealed[..], &[difference]].concat(), context), None, "something follows");
    let other = [context, &[difference]].concat();
    assert_eq!(open(&sealed, &other), None, "the context is another");
}

impl Opener {
    /// What is sealed again of what opens.
    fn open_and_seal(&self, envelope: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let plaintext = self.open(envelope, context)?;
        let mut random = [0; SALT_BYTES];
        let at = match self {
            Self::Local(key) => key.overhead_bytes() - NONCE_BYTES - TAG_BYTES,
            _ => SALT_AT,
        };
        // Of a local envelope its beginning alone is taken, of a deterministic one nothing.
        random.iter_mut().zip(envelope.get(at..)?).for_each(|(to, from)| *to = *from);
        Some(self.seal(random, context, &plaintext))
    }

    fn seal(&self, random: [u8; SALT_BYTES], context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let sealed = match self {
            Self::Message(key) => key.seal(Salt::new(random), context, plaintext),
            Self::Deterministic(key) => key.seal(context, plaintext),
            Self::Large(key) => Ok(seal_large(key, random, context, plaintext, 1_000)),
            Self::Local(key) => {
                key.seal(Nonce::new(*random.first_chunk().unwrap_or(&[0; NONCE_BYTES])), context, plaintext)
            }
        };
        sealed.unwrap_or_default()
    }

    fn open(&self, envelope: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let shown =
            |opened: Result<SecretBytes, EnvelopeError>| opened.ok().map(|opened| opened.expose().to_vec());
        match self {
            Self::Message(key) => shown(key.open(envelope, context)),
            Self::Deterministic(key) => shown(key.open(envelope, context)),
            Self::Large(key) => {
                let whole = open_large(key, context, envelope, envelope.len());
                assert_eq!(whole, open_large(key, context, envelope, 7), "in pieces it is the same");
                whole
            }
            Self::Local(key) => shown(key.open(envelope, context)),
        }
    }
}
