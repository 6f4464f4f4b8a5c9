//! What can go wrong, said once: the closed list of reasons with their gRPC code and HTTP status,
//! and the error that carries one over the wire.
//!
//! Knows nothing of any service's domain; services map their own rejections to a [`Reason`].

use std::{borrow::Cow, collections::HashMap, fmt};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The `domain` of every google.rpc.ErrorInfo that the mesh sends.
pub const ERROR_DOMAIN: &str = "paymesh";

/// Response metadata: in how many milliseconds a client may try again (gRPC proposal A6).
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $text:literal, $code:ident, $http:literal;)+) => {
        /// Why a request was refused or could not be carried out. Stable: clients may rely on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable name, as in ErrorInfo and in a problem's `code`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The gRPC code that goes with it.
            pub const fn grpc_code(self) -> Code {
                match self { $(Self::$name => Code::$code,)+ }
            }

            /// The HTTP status that the edge renders it as.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $http,)+ }
            }

            /// The reason of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// A field is missing or has a value that cannot be; see the violations.
    InvalidRequest => "INVALID_REQUEST", InvalidArgument, 400;
    /// The body cannot be read as what it should be.
    BodyMalformed => "BODY_MALFORMED", InvalidArgument, 400;
    /// The body is larger than allowed.
    BodyTooLarge => "BODY_TOO_LARGE", OutOfRange, 413;
    /// A message between services is larger than the receiver reads.
    MessageTooLarge => "MESSAGE_TOO_LARGE", ResourceExhausted, 413;
    /// The body's media type is not understood.
    UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE", InvalidArgument, 415;
    /// No such path.
    RouteNotFound => "ROUTE_NOT_FOUND", Unimplemented, 404;
    /// The path exists, the method does not.
    MethodNotAllowed => "METHOD_NOT_ALLOWED", Unimplemented, 405;
    /// The RPC moves money and came without an idempotency key.
    IdempotencyKeyRequired => "IDEMPOTENCY_KEY_REQUIRED", InvalidArgument, 400;
    /// The key is not 1 to 255 visible ASCII characters.
    IdempotencyKeyInvalid => "IDEMPOTENCY_KEY_INVALID", InvalidArgument, 400;
    /// The key was used before with another request.
    IdempotencyKeyReused => "IDEMPOTENCY_KEY_REUSED", FailedPrecondition, 422;
    /// The first request with this key is still being worked on.
    IdempotencyInProgress => "IDEMPOTENCY_IN_PROGRESS", Aborted, 409;
    /// No credential, or one that is not known.
    Unauthenticated => "UNAUTHENTICATED", Unauthenticated, 401;
    /// The request is not signed, or not as its credential demands (RFC 9421).
    SignatureInvalid => "SIGNATURE_INVALID", Unauthenticated, 401;
    /// Too many attempts with wrong credentials; try again later.
    TooManyAttempts => "TOO_MANY_ATTEMPTS", ResourceExhausted, 429;
    /// The credential lacks the scope that this needs.
    ScopeMissing => "SCOPE_MISSING", PermissionDenied, 403;
    /// The credential is known and may not do this.
    PermissionDenied => "PERMISSION_DENIED", PermissionDenied, 403;
    /// The caller did not say for which tenant it speaks.
    TenantRequired => "TENANT_REQUIRED", InvalidArgument, 400;
    /// No such payment of this tenant.
    PaymentNotFound => "PAYMENT_NOT_FOUND", NotFound, 404;
    /// There is no such refund, or it is another tenant's.
    RefundNotFound => "REFUND_NOT_FOUND", NotFound, 404;
    /// There is no processor of this name.
    ProcessorNotFound => "PROCESSOR_NOT_FOUND", NotFound, 404;
    /// A processor's message is not signed, or not by the processor, or not now; deliberately no finer.
    WebhookSignatureInvalid => "WEBHOOK_SIGNATURE_INVALID", Unauthenticated, 401;
    /// No such token of this tenant.
    TokenNotFound => "TOKEN_NOT_FOUND", NotFound, 404;
    /// No such ledger account of this tenant.
    AccountNotFound => "ACCOUNT_NOT_FOUND", NotFound, 404;
    /// No such tax calculation of this tenant.
    CalculationNotFound => "CALCULATION_NOT_FOUND", NotFound, 404;
    /// The payment is not in a state in which this can be done.
    PaymentStateConflict => "PAYMENT_STATE_CONFLICT", FailedPrecondition, 409;
    /// More than what is authorized was to be captured.
    CaptureExceedsAuthorized => "CAPTURE_EXCEEDS_AUTHORIZED", FailedPrecondition, 422;
    /// More than what is captured and not yet refunded was to be refunded.
    RefundExceedsCaptured => "REFUND_EXCEEDS_CAPTURED", FailedPrecondition, 422;
    /// The ledger refused a posting.
    LedgerRejected => "LEDGER_REJECTED", FailedPrecondition, 422;
    /// No such key of this tenant.
    KeyNotFound => "KEY_NOT_FOUND", NotFound, 404;
    /// The key is for another use than this.
    KeyPurposeMismatch => "KEY_PURPOSE_MISMATCH", FailedPrecondition, 422;
    /// The key is disabled, to be destroyed or destroyed.
    KeyNotEnabled => "KEY_NOT_ENABLED", FailedPrecondition, 409;
    /// The key's least version is above the one that this needs.
    KeyVersionTooOld => "KEY_VERSION_TOO_OLD", FailedPrecondition, 422;
    /// The key is not in a state in which this can be done.
    KeyStateConflict => "KEY_STATE_CONFLICT", FailedPrecondition, 409;
    /// The ciphertext does not open with this key and context; deliberately no finer.
    DecryptionFailed => "DECRYPTION_FAILED", InvalidArgument, 400;
    /// The client did not send its request in time.
    RequestTimeout => "REQUEST_TIMEOUT", DeadlineExceeded, 408;
    /// Someone else changed the same thing at the same time; trying again is safe.
    Conflict => "CONFLICT", Aborted, 409;
    /// Too much at once; try again later.
    Overloaded => "OVERLOADED", ResourceExhausted, 429;
    /// The client has asked more often than it may.
    RateLimited => "RATE_LIMITED", ResourceExhausted, 429;
    /// The workload has taken as many cards of this tenant out of the vault as it may for now.
    DetokenizeQuota => "DETOKENIZE_QUOTA", ResourceExhausted, 429;
    /// The path and query are longer than allowed.
    UriTooLong => "URI_TOO_LONG", InvalidArgument, 414;
    /// The header fields hold more than allowed.
    HeadersTooLarge => "HEADERS_TOO_LARGE", InvalidArgument, 431;
    /// Not done in the time that the caller gave.
    DeadlineExceeded => "DEADLINE_EXCEEDED", DeadlineExceeded, 504;
    /// The keys' root of trust has not answered since the start, so nothing can be encrypted or decrypted yet.
    VaultSealed => "VAULT_SEALED", Unavailable, 503;
    /// A service that is needed cannot be reached now.
    Unavailable => "UNAVAILABLE", Unavailable, 503;
    /// Whether it was done is not known: what is on record tells, once that can be read again.
    OutcomeUnknown => "OUTCOME_UNKNOWN", Unavailable, 503;
    /// The RPC is not offered.
    Unimplemented => "UNIMPLEMENTED", Unimplemented, 501;
    /// What was kept is damaged: asking again does not help.
    DataLoss => "DATA_LOSS", DataLoss, 500;
    /// A fault of ours.
    Internal => "INTERNAL", Internal, 500;
}

/// One field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, such as `card.number` or `lines[2].amount`.
    pub field: String,
    /// What would be right. Never the value that was given.
    pub description: String,
}

/// An error as it goes over the wire: a reason, a sentence, and the fields at fault.
///
/// Neither the message nor a violation may hold a value that the caller sent in a sensitive field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    reason: Reason,
    message: Cow<'static, str>,
    violations: Vec<Violation>,
    retry_after_s: Option<u32>,
}

impl Fault {
    /// A fault with a sentence for the reader.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), violations: Vec::new(), retry_after_s: None }
    }

    /// One field is wrong.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::new(Reason::InvalidRequest, "The request has a field that is not valid.")
            .violating(field, description)
    }

    /// This service stops: elsewhere, or here in a moment, the caller goes on. `go_on` says from where, as the
    /// rest of a sentence; empty, where that needs no saying.
    pub fn stopping(go_on: &str) -> Self {
        let message = match go_on {
            "" => Cow::Borrowed("This service is stopping."),
            _ => Cow::Owned(format!("This service is stopping: {go_on}.")),
        };
        Self::new(Reason::Unavailable, message).retry_after_s(1)
    }

    /// Adds a field at fault.
    #[must_use]
    pub fn violating(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.violations.push(Violation { field: field.into(), description: description.into() });
        self
    }

    /// Says when trying again makes sense.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The sentence for the reader.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The fields at fault.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// After how many seconds to try again, where that is known.
    pub fn retry_after(&self) -> Option<u32> {
        self.retry_after_s
    }

    /// Reads a fault back from a status. A status without our ErrorInfo (made by the transport, or
    /// by a foreign server) is mapped by its code, and its text is not passed on.
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let reason = details
            .error_info()
            .filter(|info| info.domain == ERROR_DOMAIN)
            .and_then(|info| Reason::from_name(&info.reason));
        let Some(reason) = reason else {
            return Self::from_foreign(status.code());
        };
        let mut fault = Self::new(reason, status.message().to_owned());
        if let Some(bad_request) = details.bad_request() {
            for violation in &bad_request.field_violations {
                fault = fault.violating(violation.field.clone(), violation.description.clone());
            }
        }
        if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
            fault.retry_after_s = u32::try_from(delay.as_secs()).ok();
        }
        fault
    }

    fn from_foreign(code: Code) -> Self {
        let (reason, message) = match code {
            Code::Unavailable | Code::Unknown | Code::Cancelled => {
                (Reason::Unavailable, "A service that is needed cannot be reached now; try again.")
            }
            Code::DeadlineExceeded => {
                (Reason::DeadlineExceeded, "The request took longer than its deadline.")
            }
            Code::ResourceExhausted => (Reason::Overloaded, "Too much at once; try again later."),
            Code::PermissionDenied => (Reason::PermissionDenied, "This is not allowed."),
            Code::Unauthenticated => (Reason::Unauthenticated, "The caller is not known."),
            Code::Unimplemented => (Reason::Unimplemented, "This is not offered."),
            Code::InvalidArgument => (Reason::InvalidRequest, "The request is not valid."),
            _ => (Reason::Internal, "Something went wrong on our side."),
        };
        let fault = Self::new(reason, message);
        match reason {
            Reason::Unavailable | Reason::Overloaded => fault.retry_after_s(1),
            _ => fault,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.message)?;
        for violation in &self.violations {
            write!(f, " [{}: {}]", violation.field, violation.description)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let mut details = ErrorDetails::with_error_info(fault.reason.as_str(), ERROR_DOMAIN, HashMap::new());
        for violation in fault.violations {
            details.add_bad_request_violation(violation.field, violation.description);
        }
        if let Some(seconds) = fault.retry_after_s {
            details.set_retry_info(Some(std::time::Duration::from_secs(seconds.into())));
        }
        let mut status = Status::with_error_details(fault.reason.grpc_code(), fault.message, details);
        if let (Reason::Overloaded | Reason::Unavailable | Reason::VaultSealed, Some(seconds)) =
            (fault.reason, fault.retry_after_s)
        {
            status.metadata_mut().insert(RETRY_PUSHBACK, (u64::from(seconds) * 1_000).into());
        }
        status
    }
}

/// Collects everything that is wrong with a request, so that the caller learns it in one go.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Nothing wrong so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a field is wrong.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into() });
    }

    /// The value, or a note of what is wrong with the field.
    pub fn check<T, E: fmt::Display>(&mut self, field: impl Into<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// An [`Reason::InvalidRequest`] if anything was noted.
    pub fn finish(self) -> Result<(), Fault> {
        if self.0.is_empty() {
            return Ok(());
        }
        let message = "The request has fields that are not valid.";
        Err(Fault { violations: self.0, ..Fault::new(Reason::InvalidRequest, message) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_the_wire() {
        for reason in Reason::ALL {
            let fault = Fault::new(*reason, "Because.").violating("a.b", "must be c").retry_after_s(7);
            let status = Status::from(fault.clone());
            assert_eq!(status.code(), reason.grpc_code());
            assert_eq!(Fault::from_status(&status), fault);
        }
    }

    #[test]
    fn who_says_when_to_come_back_pushes_retries_back() {
        let reasons = [
            (Reason::Overloaded, Some("2000")),
            (Reason::Unavailable, Some("2000")),
            (Reason::Conflict, None),
        ];
        for (reason, pushback) in reasons {
            let status = Status::from(Fault::new(reason, "Because.").retry_after_s(2));
            let said = status.metadata().get(RETRY_PUSHBACK).map(|value| value.to_str().unwrap());
            assert_eq!(said, pushback);
        }
    }

    #[test]
    fn names_are_unique() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
        }
    }

    #[test]
    fn the_text_of_a_foreign_status_is_not_passed_on() {
        let fault = Fault::from_status(&Status::unavailable("connect to 10.0.0.1 refused"));
        assert_eq!(fault.reason(), Reason::Unavailable);
        assert!(!fault.message().contains("10.0.0.1"));
    }
}
