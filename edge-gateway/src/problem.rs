//! Every refusal as RFC 9457 `application/problem+json`. What a reason means in HTTP is said in
//! `mesh::fault`; here it only gets its form.

use std::borrow::Cow;

use http::{HeaderValue, Response, StatusCode, header};
use mesh::{Fault, Reason};
use serde::Serialize;

use crate::{
    body::{Answer, full},
    transcode::RequestError,
};

/// Where a problem's `type` leads.
const TYPE_PREFIX: &str = "/problems/";

/// The members of the problem object (RFC 9457, section 3.1; the last three are extensions).
#[derive(Debug, Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: &'a str,
    code: &'a str,
    errors: Vec<FieldError<'a>>,
    request_id: &'a str,
}

#[derive(Debug, Serialize)]
struct FieldError<'a> {
    field: &'a str,
    detail: &'a str,
}

/// `IDEMPOTENCY_KEY_REUSED` as `idempotency-key-reused`.
fn segment_of(reason: Reason) -> impl Iterator<Item = u8> {
    reason.as_str().bytes().map(|byte| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() })
}

/// `IDEMPOTENCY_KEY_REUSED` as `/problems/idempotency-key-reused`.
fn type_of(reason: Reason) -> String {
    TYPE_PREFIX.chars().chain(segment_of(reason).map(char::from)).collect()
}

/// `IDEMPOTENCY_KEY_REUSED` as `Idempotency key reused`.
fn title_of(reason: Reason) -> String {
    let words = reason.as_str().to_ascii_lowercase().replace('_', " ");
    let (first, rest) = words.split_at(1);
    first.to_ascii_uppercase() + rest
}

/// The problem object that a fault is, as JSON.
pub(crate) fn json(fault: &Fault, request_id: &str) -> Vec<u8> {
    let reason = fault.reason();
    let errors = fault
        .violations()
        .iter()
        .map(|violation| FieldError { field: &violation.field, detail: &violation.description })
        .collect();
    let problem = Problem {
        kind: type_of(reason),
        title: title_of(reason),
        status: reason.http_status(),
        detail: fault.message(),
        code: reason.as_str(),
        errors,
        request_id,
    };
    // Texts and numbers always serialize.
    serde_json::to_vec(&problem).unwrap_or_default()
}

/// The answer that a fault is.
pub(crate) fn response(fault: &Fault, request_id: &str) -> Answer {
    let reason = fault.reason();
    let mut response = Response::new(full(json(fault, request_id)));
    *response.status_mut() =
        StatusCode::from_u16(reason.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = fault.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if reason.http_status() == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"paymesh\""));
    }
    if reason == Reason::WebhookSignatureInvalid {
        // A 401 names what is wanted (RFC 9110, section 15.5.2), and that is no key.
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Webhook-Signature"));
    }
    response
}

/// Whose `type` this path is. Anybody may ask, before any limit: it takes no memory.
pub(crate) fn reason_at(path: &str) -> Option<Reason> {
    let segment = path.strip_prefix(TYPE_PREFIX)?;
    Reason::ALL.iter().copied().find(|reason| segment_of(*reason).eq(segment.bytes()))
}

/// The page behind a problem's `type`.
pub(crate) fn page(reason: Reason) -> String {
    let advice = match reason.grpc_code() as i32 {
        // ABORTED, UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED
        10 | 14 | 4 | 8 => {
            "Trying again later is safe, with the same Idempotency-Key where there was one; wait as long as Retry-After says."
        }
        // INTERNAL
        13 => "The fault is on our side. Tell us the request_id.",
        _ => "Sending the same request again will not help; `detail` and `errors` say what to change.",
    };
    format!(
        "{}\n\ncode: {}\nHTTP status: {}\n\n{advice}\n",
        title_of(reason),
        reason.as_str(),
        reason.http_status()
    )
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        let malformed = |message: Cow<'static, str>| Self::new(Reason::BodyMalformed, message);
        match error {
            RequestError::Malformed { line, column } => {
                let detail =
                    format!("The body is not valid JSON; the fault is at line {line}, column {column}.");
                malformed(detail.into())
                    .violating("body", format!("must be JSON; see line {line}, column {column}"))
            }
            RequestError::NotUtf8 => {
                malformed("The body is not UTF-8.".into()).violating("body", "must be JSON in UTF-8")
            }
            RequestError::BodyNotTaken => {
                malformed("This operation takes no body.".into()).violating("body", "must be empty")
            }
            RequestError::Violations(violations) => {
                let message = match violations.len() {
                    1 => "The request has a field that is not valid.",
                    _ => "The request has fields that are not valid.",
                };
                violations.into_iter().fold(Self::new(Reason::InvalidRequest, message), |fault, violation| {
                    fault.violating(violation.field, violation.detail)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_problem_has_all_its_members_and_headers() {
        let fault = Fault::new(Reason::IdempotencyInProgress, "Still running.")
            .retry_after_s(2)
            .violating("a.b", "must be c");
        let response = response(&fault, "req-1");
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "2");
        let body = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(response.into_body().collect());
        let body: serde_json::Value = serde_json::from_slice(&body.unwrap().to_bytes()).unwrap();
        let expected = serde_json::json!({
            "type": "/problems/idempotency-in-progress",
            "title": "Idempotency in progress",
            "status": 409,
            "detail": "Still running.",
            "code": "IDEMPOTENCY_IN_PROGRESS",
            "errors": [{"field": "a.b", "detail": "must be c"}],
            "request_id": "req-1",
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn every_problem_has_a_page() {
        for reason in Reason::ALL {
            assert_eq!(reason_at(&type_of(*reason)), Some(*reason));
            assert!(page(*reason).contains(reason.as_str()));
        }
        for none in ["none", "", "internal/", "interna", "INTERNAL", "idempotency_key_reused"] {
            assert_eq!(reason_at(&format!("{TYPE_PREFIX}{none}")), None, "{none}");
        }
        assert_eq!(reason_at("internal"), None);
    }
}
