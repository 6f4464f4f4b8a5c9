//! Refusals in the document: RFC 9457 problems, with the codes that each HTTP status stands for.

use std::collections::BTreeMap;

use mesh::{Fault, Reason};
use serde_json::{Map, Value, json};

use crate::{
    problem,
    transcode::{BodyRule, Idempotency, Route, Segment},
};

/// The name of the response component of a status.
fn name(status: u16) -> String {
    format!("Problem{status}")
}

fn is_of(status: u16) -> impl Fn(&Reason) -> bool {
    move |reason| reason.http_status() == status
}

/// Adds to an operation what it can be refused with.
pub(super) fn add(operation: &mut Value, route: &Route) {
    let mut statuses = vec![400, 401, 403, 429, 503, 504];
    if route.template.segments.iter().any(|segment| !matches!(segment, Segment::Literal(_))) {
        statuses.push(404);
    }
    if route.idempotency != Idempotency::None {
        statuses.extend([409, 422]);
    }
    if route.request.body != BodyRule::None {
        statuses.extend([408, 413]);
        if !route.request.is_raw() {
            statuses.push(415);
        }
    }
    for status in statuses {
        let reference = format!("#/components/responses/{}", name(status));
        operation["responses"][status.to_string()] = json!({"$ref": reference});
    }
    operation["responses"]["default"] = json!({"$ref": "#/components/responses/Problem"});
}

/// The response components that the operations refer to.
pub(super) fn responses(paths: &BTreeMap<String, Map<String, Value>>) -> Map<String, Value> {
    let mut statuses: Vec<u16> = paths
        .values()
        .flat_map(Map::values)
        .filter_map(|operation| operation["responses"].as_object())
        .flat_map(|responses| responses.keys().filter_map(|status| status.parse().ok()))
        .filter(|status| *status >= 400)
        .collect();
    statuses.sort_unstable();
    statuses.dedup();
    let mut responses: Map<String, Value> = statuses
        .into_iter()
        .map(|status| {
            let reasons: Vec<Reason> = Reason::ALL.iter().copied().filter(is_of(status)).collect();
            (name(status), response(&reasons))
        })
        .collect();
    responses.insert("Problem".to_owned(), response(Reason::ALL));
    responses
}

fn response(reasons: &[Reason]) -> Value {
    let codes: Vec<String> = reasons.iter().map(|reason| format!("`{}`", reason.as_str())).collect();
    let all = reasons.len() == Reason::ALL.len();
    let description = if all {
        "The request was refused or could not be carried out (RFC 9457); `code` says why.".to_owned()
    } else {
        format!("Refused, with one of the codes {}.", codes.join(", "))
    };
    let mut response = json!({
        "description": description,
        "headers": {
            "X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"},
            "Retry-After": {"$ref": "#/components/headers/Retry-After"},
        },
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    });
    if reasons.iter().any(is_of(401)) {
        response["headers"]["WWW-Authenticate"] = json!({"$ref": "#/components/headers/WWW-Authenticate"});
    }
    let first = if all { Some(Reason::Internal) } else { reasons.first().copied() };
    if let Some(reason) = first {
        let fault = match reason {
            Reason::InvalidRequest => Fault::invalid("amount", "must be greater than 0"),
            Reason::Internal => Fault::new(reason, "Something went wrong on our side."),
            _ => Fault::new(reason, "What went wrong here, in a sentence."),
        };
        let example = problem::json(&fault, "01a1fc0f1c7a7721a2a446cf3bb03706");
        // What was written as JSON reads as JSON.
        let example: Value = serde_json::from_slice(&example).unwrap_or_default();
        response["content"]["application/problem+json"]["example"] = example;
    }
    response
}

/// The problem object.
pub(super) fn schema() -> Value {
    let codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status", "detail", "code", "errors", "request_id"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "description": "A page that explains the code."},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "What went wrong here."},
            "code": {"type": "string", "enum": codes, "description": "Stable; made for programs."},
            "errors": {
                "type": "array",
                "description": "The fields at fault.",
                "items": {
                    "type": "object",
                    "required": ["field", "detail"],
                    "properties": {
                        "field": {"type": "string", "description": "A path such as `card.number` or `lines[2].amount`."},
                        "detail": {"type": "string", "description": "What would be right."},
                    },
                },
            },
            "request_id": {"type": "string"},
        },
    })
}
