//! What a key is made with, what it is for, and what can be done with a key.

use super::keys::Purpose;

/// How a key works. Part of it for good: no request can make a key serve another algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// AES-256-GCM under a key of each message's own (suite 1 of the [envelope](super::envelope)).
    Aes256Gcm,
    /// AES-SIV (RFC 5297): deterministic.
    Aes256Siv,
    /// HMAC (RFC 2104) with SHA-256.
    HmacSha256,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA (FIPS 186-5) on P-256 with SHA-256.
    EcdsaP256Sha256,
    /// FF1 (NIST SP 800-38G) with AES-256.
    Ff1Aes256,
}

/// What a key is for. Verbs of another use refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// Encrypting.
    Encrypt,
    /// Encrypting equal values equally.
    Deterministic,
    /// Tags and blind indexes.
    Mac,
    /// Signatures.
    Sign,
    /// Encrypting digits into digits.
    FormatPreserving,
}

impl Algorithm {
    /// Every algorithm there is.
    pub const ALL: [Self; 6] = [
        Self::Aes256Gcm,
        Self::Aes256Siv,
        Self::HmacSha256,
        Self::Ed25519,
        Self::EcdsaP256Sha256,
        Self::Ff1Aes256,
    ];

    /// What a key of it is for.
    pub fn usage(self) -> Use {
        match self {
            Self::Aes256Gcm => Use::Encrypt,
            Self::Aes256Siv => Use::Deterministic,
            Self::HmacSha256 => Use::Mac,
            Self::Ed25519 | Self::EcdsaP256Sha256 => Use::Sign,
            Self::Ff1Aes256 => Use::FormatPreserving,
        }
    }

    /// The place in the hierarchy that its keys are wrapped for.
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Aes256Gcm => Purpose::Data,
            Self::Aes256Siv => Purpose::Deterministic,
            Self::HmacSha256 => Purpose::Mac,
            Self::Ed25519 => Purpose::SignEd25519,
            Self::EcdsaP256Sha256 => Purpose::SignEcdsaP256,
            Self::Ff1Aes256 => Purpose::FormatPreserving,
        }
    }

    /// The algorithm whose keys have this purpose; `None` for the service's own keys.
    pub fn of_purpose(purpose: Purpose) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.purpose() == purpose)
    }
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident => $code:literal, $text:literal, $usage:ident;)+) => {
        /// What can be done with a named key. Grants name verbs, and the audit log does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Verb {
            $($(#[$doc])* $name,)+
        }

        impl Verb {
            /// Every verb there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name in grants and in the audit log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The number that stands for it in a store. Never reused.
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)+ }
            }

            /// What a key must be for; `None`: any.
            pub const fn usage(self) -> Option<Use> {
                match self { $(Self::$name => verbs!(@usage $usage),)+ }
            }

            /// Whether it makes, changes or ends a key.
            pub const fn is_management(self) -> bool {
                let code = self.code();
                32 <= code && code < 64
            }

            /// The verb of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)+ _ => None }
            }

            /// The verb that a store's number stands for.
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)+ _ => None }
            }
        }
    };
    (@usage Any) => { None };
    (@usage $usage:ident) => { Some(Use::$usage) };
}

verbs! {
    /// Encrypt, a single one or a large payload.
    Encrypt => 1, "encrypt", Encrypt;
    /// Decrypt, of an encrypting key.
    Decrypt => 2, "decrypt", Encrypt;
    /// Under the newest version.
    Rewrap => 3, "rewrap", Encrypt;
    /// Opened to be encrypted under another key.
    TranslateFrom => 4, "translate_from", Encrypt;
    /// Encrypted of what another key sealed.
    TranslateTo => 5, "translate_to", Encrypt;
    /// A fresh data key in plaintext.
    GenerateDataKey => 6, "generate_data_key", Encrypt;
    /// A fresh data key, wrapped only.
    GenerateWrappedDataKey => 7, "generate_wrapped_data_key", Encrypt;
    /// A data key unwrapped.
    DecryptDataKey => 8, "decrypt_data_key", Encrypt;
    /// A tag.
    ComputeMac => 9, "compute_mac", Mac;
    /// A tag checked.
    VerifyMac => 10, "verify_mac", Mac;
    /// An index to search by.
    BlindIndex => 11, "blind_index", Mac;
    /// Encrypted deterministically.
    EncryptDeterministic => 12, "encrypt_deterministic", Deterministic;
    /// Decrypt, of a deterministic key.
    DecryptDeterministic => 13, "decrypt_deterministic", Deterministic;
    /// Digits into digits.
    EncryptFormat => 14, "encrypt_format", FormatPreserving;
    /// And back.
    DecryptFormat => 15, "decrypt_format", FormatPreserving;
    /// A signature.
    Sign => 16, "sign", Sign;
    /// A signature checked.
    Verify => 17, "verify", Sign;
    /// A key made.
    CreateKey => 32, "create_key", Any;
    /// A key looked at.
    ReadKey => 33, "read_key", Any;
    /// A new version.
    RotateKey => 34, "rotate_key", Any;
    /// Its settings changed.
    UpdateKey => 35, "update_key", Any;
    /// Taken out of use.
    DisableKey => 36, "disable_key", Any;
    /// Put back into use.
    EnableKey => 37, "enable_key", Any;
    /// To be destroyed.
    ScheduleKeyDestruction => 38, "schedule_key_destruction", Any;
    /// Not to be destroyed after all.
    CancelKeyDestruction => 39, "cancel_key_destruction", Any;
    /// Destroyed, its waiting period over.
    DestroyKey => 40, "destroy_key", Any;
    /// Brought from elsewhere.
    ImportKey => 41, "import_key", Any;
    /// A card stored.
    Tokenize => 64, "tokenize", Any;
    /// A card given out.
    Detokenize => 65, "detokenize", Any;
    /// What may be shown of a card.
    GetToken => 66, "get_token", Any;
    /// A card deleted.
    DeleteToken => 67, "delete_token", Any;
    /// A verification code kept for its authorization.
    HoldVerificationCode => 68, "hold_verification_code", Any;
    /// A verification code given out, once.
    TakeVerificationCode => 69, "take_verification_code", Any;
    /// Tenants' keys wrapped anew under another root.
    RotateRoot => 96, "rotate_root", Any;
    /// A share of the root given.
    Unseal => 97, "unseal", Any;
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_numbers_of_verbs_are_their_own() {
        let codes: HashSet<u8> = Verb::ALL.iter().map(|verb| verb.code()).collect();
        assert_eq!(codes.len(), Verb::ALL.len());
        for &verb in Verb::ALL {
            assert_eq!(Verb::from_name(verb.as_str()), Some(verb));
            assert_eq!(Verb::from_code(verb.code()), Some(verb));
        }
        assert_eq!((Verb::from_name(""), Verb::from_code(0)), (None, None));
    }

    #[test]
    fn every_algorithm_has_a_purpose_of_its_own() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::of_purpose(algorithm.purpose()), Some(algorithm));
        }
        assert_eq!(Algorithm::of_purpose(Purpose::Card), None);
    }
}
