//! Why a request is not let in, what its client is told, and what is counted.

use http::HeaderValue;
use mesh::{Fault, Metrics, Reason};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

use super::{
    jwt::TokenError,
    keys::{KeyId, ring},
    scope::Scope,
    signature::SignatureError,
};

/// A refusal as it is answered: the fault, and its `WWW-Authenticate` where that says more than usual.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) fault: Fault,
    pub(crate) challenge: Option<HeaderValue>,
}

/// Why a credential was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is none.
    Missing,
    /// The header cannot be read.
    Malformed,
    /// An API key.
    Key(ring::Refused),
    /// A token.
    Token(TokenError),
    /// The signature of a request with a right API key.
    Signature(SignatureError),
}

impl Failure {
    /// Whether it may have been a guess. Who presents a key or token that was right once, or comes without
    /// any, is no guesser.
    pub(crate) fn is_guess(self) -> bool {
        use ring::Refused as Key;
        match self {
            Self::Malformed | Self::Key(Key::Malformed | Key::Unknown(_)) => true,
            Self::Signature(error) => error == SignatureError::Wrong,
            Self::Token(error) => !matches!(
                error,
                TokenError::Expired
                    | TokenError::NotYetValid
                    | TokenError::Audience
                    | TokenError::Claims
                    | TokenError::Tenant
                    | TokenError::Type
                    | TokenError::UnknownKey
                    | TokenError::NoKeys
            ),
            Self::Missing | Self::Key(_) => false,
        }
    }

    /// The id of the key that was guessed at.
    pub(crate) fn key_id(self) -> Option<KeyId> {
        match self {
            Self::Key(ring::Refused::Unknown(id)) => Some(id),
            _ => None,
        }
    }

    /// What it is counted as.
    pub(crate) fn label(self) -> &'static str {
        use ring::Refused as Key;
        match self {
            Self::Missing => "missing",
            Self::Malformed | Self::Token(TokenError::Malformed | TokenError::TooLarge) => "malformed",
            Self::Key(Key::Malformed | Key::Unknown(_)) => "unknown",
            Self::Key(Key::Revoked) => "revoked",
            Self::Key(Key::Expired | Key::Rotated) | Self::Token(TokenError::Expired) => "expired",
            Self::Key(Key::NotYetValid) | Self::Token(TokenError::NotYetValid) => "not_yet_valid",
            Self::Token(TokenError::NoKeys) => "issuer_unavailable",
            Self::Token(_) => "token",
            Self::Signature(_) => "signature",
        }
    }

    /// What the client is told.
    pub(crate) fn refused(self) -> Refused {
        use ring::Refused as Key;
        let unauthenticated = |message: &'static str| Fault::new(Reason::Unauthenticated, message);
        let fault = match self {
            Self::Missing => {
                let message =
                    "Give an API key or an access token in the header `Authorization: Bearer <key>`.";
                // RFC 6750, section 3.1: who gave no credential is told no error code.
                return Refused { fault: unauthenticated(message), challenge: None };
            }
            Self::Malformed => unauthenticated(
                "The Authorization header must be there once: `Bearer` and an API key or access token, separated by a space.",
            ),
            Self::Key(Key::Malformed | Key::Unknown(_)) => unauthenticated("The API key is not known."),
            Self::Key(Key::NotYetValid) => unauthenticated("The API key is not valid yet."),
            Self::Key(Key::Expired) => unauthenticated("The API key has expired."),
            Self::Key(Key::Revoked) => unauthenticated("The API key was revoked."),
            Self::Key(Key::Rotated) => unauthenticated("The API key was replaced by a newer one."),
            Self::Token(error) => return of_token(error),
            Self::Signature(SignatureError::Busy) => {
                let fault = Fault::new(Reason::Overloaded, SignatureError::Busy.message()).retry_after_s(1);
                return Refused { fault, challenge: None };
            }
            Self::Signature(error) => Fault::new(Reason::SignatureInvalid, error.message()),
        };
        Refused { fault, challenge: Some(INVALID_TOKEN) }
    }
}

const INVALID_TOKEN: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"paymesh\", error=\"invalid_token\"");

fn of_token(error: TokenError) -> Refused {
    let message = match error {
        TokenError::NoKeys => {
            let message = "The token cannot be checked now: its issuer cannot be reached.";
            let fault = Fault::new(Reason::Unavailable, message).retry_after_s(1);
            return Refused { fault, challenge: None };
        }
        TokenError::Malformed => "The access token is no signed JWT.",
        TokenError::TooLarge => "The access token is too large.",
        TokenError::Critical => "The access token demands an extension that is not known.",
        TokenError::Type => "The access token has not the typ of an access token.",
        TokenError::Algorithm => "The access token is not signed with an algorithm that its key is for.",
        TokenError::UnknownIssuer => "The access token is not of an issuer that is trusted.",
        TokenError::UnknownKey => "The access token names a key that its issuer does not have.",
        TokenError::Signature => "The access token's signature is wrong.",
        TokenError::Expired => "The access token has expired.",
        TokenError::NotYetValid => "The access token is not valid yet.",
        TokenError::Audience => "The access token is for another audience.",
        TokenError::Claims => "The access token needs the claims sub and exp, and its times must be numbers.",
        TokenError::Tenant => "The access token names no tenant that its issuer speaks for.",
    };
    Refused { fault: Fault::new(Reason::Unauthenticated, message), challenge: Some(INVALID_TOKEN) }
}

/// Who has the credential, but not the scope (RFC 6750, section 3.1).
pub(crate) fn scope_missing(needed: Option<&Scope>) -> Refused {
    let Some(needed) = needed else {
        let fault = Fault::new(Reason::PermissionDenied, "No credential may do this.");
        return Refused { fault, challenge: None };
    };
    let fault =
        Fault::new(Reason::ScopeMissing, format!("The credential needs the scope {needed} for this."));
    let challenge = format!("Bearer realm=\"paymesh\", error=\"insufficient_scope\", scope=\"{needed}\"");
    Refused { fault, challenge: HeaderValue::from_str(&challenge).ok() }
}

/// Who failed too often.
pub(crate) fn too_many_attempts(seconds: u32) -> Refused {
    let message = "Too many attempts failed; try again later.";
    Refused { fault: Fault::new(Reason::TooManyAttempts, message).retry_after_s(seconds), challenge: None }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    reason: &'static str,
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct AuthMetrics {
    failures: Family<FailureLabels, Counter>,
    throttled: Counter,
}

impl AuthMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let (failures, throttled) = (Family::default(), Counter::default());
        metrics.register("edge_auth_failures", "Credentials refused, by reason", failures.clone());
        metrics.register("edge_auth_throttled", "Requests refused for failures before", throttled.clone());
        Self { failures, throttled }
    }

    /// A credential was refused, or its scopes did not suffice.
    pub(crate) fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&FailureLabels { reason }).inc();
    }

    /// A request was not looked at.
    pub(crate) fn throttled(&self) {
        self.throttled.inc();
    }
}
