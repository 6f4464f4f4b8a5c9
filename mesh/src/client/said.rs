//! What an answer's headers or trailers say: how the call ended, and who says so.

use std::time::Duration;

use http::{HeaderMap, Response};
use tonic::{Code, Status};

use super::{breaker::Outcome, outlier::is_failure};

/// Set by the Linkerd proxy beside us on what it answers in the service's place. What the service's own proxy
/// set it takes away.
const LINKERD_ERROR: &str = "l5d-proxy-error";
/// What a service of the mesh says of a failure comes with details (see [`crate::Fault`]). No proxy has any.
const DETAILS: &str = "grpc-status-details-bin";
/// A deadline that was missed says something about who was asked only if there was this much time.
const FAIR_TIME: Duration = Duration::from_millis(100);

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: Code,
    /// A failure is not the service's own word: a proxy answered, as it could not reach it or would not.
    pub(super) by_proxy: bool,
}

impl Said {
    /// What the headers of an answer say; `None` where the message and its trailers are still to come. A proxy
    /// that knows no gRPC has an HTTP status instead
    /// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
    pub(super) fn in_head<B>(response: &Response<B>) -> Option<Self> {
        Self::in_headers(response.headers()).or_else(|| {
            let code = match response.status().as_u16() {
                200 => return None,
                429 | 502 | 503 | 504 => Code::Unavailable,
                _ => Code::Unknown,
            };
            Some(Self { code, by_proxy: true })
        })
    }

    /// What the trailers say, or that there are none with a status.
    pub(super) fn in_trailers(trailers: &HeaderMap) -> Self {
        Self::in_headers(trailers).unwrap_or(Self { code: Code::Unknown, by_proxy: false })
    }

    fn in_headers(headers: &HeaderMap) -> Option<Self> {
        let code = Code::from_bytes(headers.get(Status::GRPC_STATUS)?.as_bytes());
        let by_proxy = headers.contains_key(LINKERD_ERROR) || !headers.contains_key(DETAILS);
        // A proxy does not know the call's deadline. What it has waited for is a connection.
        let code = if by_proxy && code == Code::DeadlineExceeded { Code::Unavailable } else { code };
        Some(Self { code, by_proxy })
    }

    /// Whether there was work in it, so that the time it took says something: a success, or a mistake of the
    /// caller's. Whoever only refuses is quick at that.
    pub(super) fn is_work(self) -> bool {
        use Code::{Aborted, Cancelled, ResourceExhausted};
        !is_failure(self.code) && !matches!(self.code, Aborted | Cancelled | ResourceExhausted)
    }

    /// What it says about the service after this time. Whoever says by itself that something is not available
    /// now is there and well: what is away is behind it, and other calls to it may need none of that.
    pub(super) fn of_the_service(self, lasted: impl FnOnce() -> Duration) -> Outcome {
        match self {
            Self { code: Code::Unavailable, by_proxy: false } => Outcome::Succeeded,
            Self { code, .. } => outcome(code, lasted),
        }
    }
}

/// What an end with this code says about who was asked, after this time.
pub(super) fn outcome(code: Code, lasted: impl FnOnce() -> Duration) -> Outcome {
    match code {
        Code::DeadlineExceeded if lasted() < FAIR_TIME => Outcome::Nothing,
        code if is_failure(code) => Outcome::Failed,
        _ => Outcome::Succeeded,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(http: u16, headers: &[(&'static str, &'static str)]) -> Option<Said> {
        let mut response = Response::builder().status(http).body(()).unwrap();
        for (name, value) in headers {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        Said::in_head(&response)
    }

    #[test]
    fn only_the_service_itself_is_there_when_it_says_unavailable() {
        let long = || Duration::from_secs(1);
        let said = head(200, &[("grpc-status", "14"), (DETAILS, "")]).unwrap();
        assert_eq!(said.of_the_service(long), Outcome::Succeeded);
        let late = head(200, &[("grpc-status", "4"), (DETAILS, "")]).unwrap();
        assert_eq!((late.code, late.by_proxy), (Code::DeadlineExceeded, false));
        for by_proxy in [
            head(200, &[("grpc-status", "14"), (LINKERD_ERROR, "connection refused"), (DETAILS, "")]),
            head(200, &[("grpc-status", "14")]),
            head(200, &[("grpc-status", "4")]),
            head(502, &[]),
            head(503, &[]),
            head(504, &[]),
            head(429, &[]),
        ] {
            let said = by_proxy.unwrap();
            assert_eq!((said.code, said.of_the_service(long)), (Code::Unavailable, Outcome::Failed));
        }
        assert_eq!(head(404, &[]).unwrap().code, Code::Unknown);
        assert_eq!(head(200, &[]), None, "the trailers are to come");
        let refused = head(200, &[("grpc-status", "7")]).unwrap();
        assert!(
            refused.is_work() && !said.is_work() && !head(200, &[("grpc-status", "8")]).unwrap().is_work()
        );
        assert_eq!(refused.of_the_service(long), Outcome::Succeeded);
        assert_eq!(Said::in_trailers(&HeaderMap::new()).of_the_service(long), Outcome::Failed);
    }

    #[test]
    fn a_deadline_is_held_against_nobody_who_had_no_time() {
        let after = |millis| outcome(Code::DeadlineExceeded, || Duration::from_millis(millis));
        assert_eq!((after(99), after(100)), (Outcome::Nothing, Outcome::Failed));
        assert_eq!(outcome(Code::Internal, || Duration::ZERO), Outcome::Failed);
    }
}
