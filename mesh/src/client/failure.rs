//! What a broken connection or a reset stream means, and how the caller is told.

use std::{error::Error, time::Duration};

use h2::Reason as Http2;
use http::HeaderMap;
use tonic::{Code, Status};

use super::retry::Failure;
use crate::fault::{Fault, Reason};

/// Where a service does not say when to ask again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What hyper says, as a failure. Reset streams as in gRPC's own mapping
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, HTTP2 Transport Mapping: Errors), but
/// for those that a proxy resets.
pub(super) fn of(error: &hyper::Error) -> Failure {
    let Some(http2) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else {
        return Failure::Lost;
    };
    // A stream that ends with the peer's GOAWAY has a higher number than the last one it looks at.
    if http2.is_remote() && http2.is_go_away() {
        return Failure::Refused;
    }
    if !http2.is_reset() {
        return Failure::Lost;
    }
    match http2.reason() {
        Some(Http2::REFUSED_STREAM) if http2.is_remote() => Failure::Refused,
        // Linkerd's proxies end a stream so when the service's connection has ended behind them: with NO_ERROR
        // by a GOAWAY, with INTERNAL_ERROR in the midst of an answer. No service of the mesh does.
        Some(Http2::NO_ERROR | Http2::INTERNAL_ERROR) if http2.is_remote() => Failure::Lost,
        Some(Http2::CANCEL) => Failure::Answered(Code::Cancelled),
        Some(Http2::ENHANCE_YOUR_CALM) => Failure::Answered(Code::ResourceExhausted),
        Some(Http2::INADEQUATE_SECURITY) => Failure::Answered(Code::PermissionDenied),
        _ => Failure::Answered(Code::Internal),
    }
}

/// When to ask again what came of a request that is still being carried out, if that is what this answer
/// says.
pub(super) fn underway(headers: &HeaderMap) -> Option<Duration> {
    let fault = Fault::from_status(&Status::from_header_map(headers)?);
    let wait = fault.retry_after().map_or(ASK_AGAIN, |seconds| Duration::from_secs(seconds.into()));
    (fault.reason() == Reason::IdempotencyInProgress).then_some(wait)
}

/// What the caller gets in the end.
pub(super) fn status(failure: Failure) -> Status {
    match failure {
        Failure::Underway => Fault::new(
            Reason::Unavailable,
            "The request was accepted and is being worked on; ask again with the same idempotency key.",
        )
        .retry_after_s(1)
        .into(),
        Failure::NotSent | Failure::Unreachable | Failure::Refused | Failure::Lost => {
            unavailable(Duration::from_secs(1))
        }
        Failure::Answered(Code::Unavailable) => unavailable(Duration::from_secs(1)),
        Failure::Answered(Code::ResourceExhausted) => overloaded(),
        Failure::Answered(Code::Cancelled) => Status::cancelled("The service gave the call up."),
        Failure::Answered(code) => Status::new(code, "The service broke the call off."),
    }
}

/// Nothing can be reached, or is to be left alone for a while.
pub(super) fn unavailable(after: Duration) -> Status {
    let seconds = u32::try_from(after.as_secs()).unwrap_or(u32::MAX).max(1);
    Fault::new(Reason::Unavailable, "A service that is needed cannot be reached now; try again.")
        .retry_after_s(seconds)
        .into()
}

/// Too many calls are under way here.
pub(super) fn overloaded() -> Status {
    Fault::new(Reason::Overloaded, "Too many calls to a service that is needed are under way.")
        .retry_after_s(1)
        .into()
}

/// The time is over.
pub(super) fn deadline_exceeded() -> Status {
    Fault::new(Reason::DeadlineExceeded, "The request took longer than its deadline.").into()
}
