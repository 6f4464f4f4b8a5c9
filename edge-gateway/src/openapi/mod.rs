//! The REST API described by OpenAPI 3.1, from the descriptors and comments that it is served from.
//! The same contract always gives the same bytes.

mod comments;
mod problems;
mod samples;
mod schemas;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::{
    comments::Comments,
    schemas::{Schemas, Side},
};
use crate::auth::scope;
use crate::transcode::{
    BodyRule, Idempotency, Kind, MessageId, Route, Segment, Shape, Transcoder, has_text_form,
};

/// How deep a message is spelled out as query parameters.
const QUERY_DEPTH_MAX: usize = 2;

/// The document, as JSON.
pub fn document(api: &Transcoder) -> Vec<u8> {
    let comments =
        api.routes().first().map(|route| Comments::of(route.descriptor.parent_pool())).unwrap_or_default();
    let outputs: Vec<MessageId> = api.routes().iter().map(|route| route.response.output()).collect();
    let mut schemas = Schemas::new(&api.schema, &comments, &outputs);
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let (mut tags, mut bindings) = (BTreeMap::new(), BTreeMap::<&str, usize>::new());
    for route in api.routes() {
        let service = route.descriptor.parent_service();
        let text = comments.get(&service.parent_file(), service.path()).unwrap_or_default();
        tags.insert(tag(route), text.to_owned());
        let binding = bindings.entry(&route.rpc).or_default();
        *binding += 1;
        // OpenAPI knows the eight methods of RFC 9110 and 5789 only.
        let every = ["get", "put", "post", "delete", "patch"];
        let known = |method: &str| every.contains(&method) || ["head", "options", "trace"].contains(&method);
        let methods: Vec<String> = match &route.method {
            Some(method) => vec![method.as_str().to_ascii_lowercase()],
            None => every.map(str::to_owned).to_vec(),
        };
        for method in methods.into_iter().filter(|method| known(method)) {
            let operation = operation(api, route, *binding, &method, &comments, &mut schemas);
            paths.entry(route.template.to_string()).or_default().entry(method).or_insert(operation);
        }
    }
    let tags: Vec<Value> =
        tags.into_iter().map(|(name, text)| json!({"name": name, "description": text})).collect();
    let mut components = schemas.into_components();
    components.insert("Problem".into(), problems::schema());
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "paymesh",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Payments over REST. Amounts are integers in minor units; times are RFC 3339; \
                unknown fields are refused.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"api_key": []}, {"access_token": []}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "api_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key. An operation lists the scope that the key needs.",
                },
                "access_token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token (RFC 9068) of an issuer that the operator trusts.",
                },
            },
            "headers": {
                "X-Request-Id": {"description": "The id of this request.", "schema": {"type": "string"}},
                "Idempotency-Replayed": {
                    "description": "`true` where this is the stored answer to an earlier request with the same key.",
                    "schema": {"type": "string", "enum": ["true"]},
                },
                "WWW-Authenticate": {
                    "description": "What to come with (RFC 9110, section 11.6.1).",
                    "schema": {"type": "string"},
                },
                "Retry-After": {
                    "description": "After how many seconds to try again.",
                    "schema": {"type": "integer", "minimum": 0},
                },
            },
            "responses": problems::responses(&paths),
        },
    });
    // Values without non-finite numbers always serialize.
    serde_json::to_vec(&document).unwrap_or_default()
}

/// `PaymentService` as `Payment`.
fn tag(route: &Route) -> String {
    let service = route.descriptor.parent_service();
    service.name().strip_suffix("Service").unwrap_or(service.name()).to_owned()
}

fn operation(
    api: &Transcoder,
    route: &Route,
    binding: usize,
    http_method: &str,
    comments: &Comments,
    schemas: &mut Schemas<'_>,
) -> Value {
    let (service, method) = (route.descriptor.parent_service(), &route.descriptor);
    let mut suffix = if binding > 1 { format!("_{binding}") } else { String::new() };
    if route.method.is_none() {
        suffix = format!("{suffix}_{http_method}");
    }
    let text = comments.get(&method.parent_file(), method.path()).unwrap_or_default();
    let mut operation = json!({
        "operationId": format!("{}_{}{suffix}", service.name(), method.name()),
        "summary": words(method.name()),
        "tags": [tag(route)],
        "responses": {"200": success(api, route, schemas)},
    });
    problems::add(&mut operation, route);
    if route.public {
        operation["security"] = json!([]);
    }
    if !text.is_empty() {
        operation["description"] = text.into();
    }
    if let Some(scope) = scope::needed(&route.descriptor) {
        operation["security"] = json!([{"api_key": [scope]}, {"access_token": [scope]}]);
    }
    let parameters = parameters(api, route, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = request_body(api, route, schemas) {
        operation["requestBody"] = body;
    }
    operation
}

/// `CreatePayment` as `Create payment`.
fn words(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.chars().enumerate() {
        if index > 0 && letter.is_ascii_uppercase() {
            text.push(' ');
            text.push(letter.to_ascii_lowercase());
        } else {
            text.push(letter);
        }
    }
    text
}

fn success(api: &Transcoder, route: &Route, schemas: &mut Schemas<'_>) -> Value {
    let output = route.response.output();
    let schema = match route.response.field() {
        Some(index) => schemas.field(&api.schema.message(output).fields[index], Side::Output),
        None => schemas.message(output, Side::Output),
    };
    let mut headers = json!({"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}});
    if route.idempotency != Idempotency::None {
        headers["Idempotency-Replayed"] = json!({"$ref": "#/components/headers/Idempotency-Replayed"});
    }
    let sample = schemas.sample(output, route.response.field());
    let (description, content) = if route.response.is_raw() {
        ("Done: the bytes, of the type that Content-Type says.", json!({"*/*": {"schema": schema}}))
    } else if route.streaming {
        let text = "One message after another, until the stream ends. As events where the request's `Accept` \
            names `text/event-stream`: the message is the `data`; a last event `error` holds a problem. Else as \
            lines of JSON: a last line `{\"error\": …}` holds a problem.";
        let event = format!("id: 1\ndata: {sample}\n\n");
        let events = json!({"schema": {"type": "string"}, "example": event});
        let lines = json!({"schema": schema, "example": sample});
        (text, json!({"text/event-stream": events, "application/x-ndjson": lines}))
    } else {
        ("Done.", json!({"application/json": {"schema": schema, "example": sample}}))
    };
    json!({"description": description, "headers": headers, "content": content})
}

fn parameters(api: &Transcoder, route: &Route, schemas: &mut Schemas<'_>) -> Vec<Value> {
    let mut parameters = Vec::new();
    for (index, segment) in route.template.segments.iter().enumerate() {
        if matches!(segment, Segment::Literal(_)) {
            continue;
        }
        let name = route.template.parameter(index);
        let schema = match find(api, route.request.input(), &name) {
            Some(field) => schemas.field(field, Side::Input),
            None => json!({"type": "string"}),
        };
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
    }
    for field in route.request.query_fields(&api.schema) {
        query_parameters(api, field, "", 0, schemas, &mut parameters);
    }
    if let Some(index) = route.request.resume() {
        let field = &api.schema.message(route.request.input()).fields[index];
        parameters.push(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "required": false,
            "description": format!(
                "The id of the last event that was received; what a browser sends when it asks again. Goes before `{}`.",
                field.name
            ),
            "schema": {"type": "string"},
        }));
    }
    if route.idempotency != Idempotency::None {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": route.idempotency == Idempotency::Required,
            "description": "Makes a retry safe: the same key with the same request gives the first answer again.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }));
    }
    parameters
}

fn query_parameters(
    api: &Transcoder,
    field: &crate::transcode::Field,
    prefix: &str,
    depth: usize,
    schemas: &mut Schemas<'_>,
    parameters: &mut Vec<Value>,
) {
    let name = format!("{prefix}{}", field.name);
    if has_text_form(&api.schema, field.kind) {
        if matches!(field.shape, Shape::Map(_)) {
            return;
        }
        let mut schema = schemas.field(field, Side::Input);
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut parameter = json!({"name": name, "in": "query", "schema": schema});
        if let Some(text) = description {
            parameter["description"] = text;
        }
        if field.required && depth == 0 {
            parameter["required"] = true.into();
        }
        parameters.push(parameter);
    } else if let (Kind::Message(id), Shape::Singular) = (field.kind, field.shape)
        && depth < QUERY_DEPTH_MAX
    {
        for inner in &api.schema.message(id).fields {
            query_parameters(api, inner, &format!("{name}."), depth + 1, schemas, parameters);
        }
    }
}

fn find<'a>(api: &'a Transcoder, id: MessageId, path: &str) -> Option<&'a crate::transcode::Field> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let message = api.schema.message(id);
    let field = &message.fields[message.field_index(first)?];
    match (rest, field.kind) {
        (None, _) => Some(field),
        (Some(rest), Kind::Message(id)) => find(api, id, rest),
        _ => None,
    }
}

fn request_body(api: &Transcoder, route: &Route, schemas: &mut Schemas<'_>) -> Option<Value> {
    let input = route.request.input();
    let message = api.schema.message(input);
    let (schema, example, required) = match route.request.body {
        BodyRule::None => return None,
        _ if route.request.is_raw() => {
            return Some(
                json!({"required": true, "content": {"*/*": {"schema": {}, "example": "any bytes"}}}),
            );
        }
        BodyRule::Whole => {
            let wanted = |index| !route.request.is_taken(index);
            let partial = (0..message.fields.len()).any(|index| !wanted(index));
            let schema = if partial {
                schemas.object(message, Side::Input, wanted)
            } else {
                schemas.message(input, Side::Input)
            };
            // A body that may be empty may also be left out.
            (schema, schemas.example(message, 0, &wanted), message.required != 0)
        }
        BodyRule::Field(index) => {
            let field = &message.fields[index];
            let example = schemas.example(message, 0, &|other| other == index);
            let example = example.and_then(|mut example| example.get_mut(&field.name).map(Value::take));
            let schema = match field.kind {
                Kind::Message(id) if route.request.takes_of_body() => {
                    let wanted = |index| !route.request.is_taken_of_body(index);
                    schemas.object(api.schema.message(id), Side::Input, wanted)
                }
                _ => schemas.field(field, Side::Input),
            };
            (schema, example, field.required)
        }
    };
    let mut content = json!({"schema": schema});
    content["example"] = example.unwrap_or_else(|| json!({}));
    Some(json!({"required": required, "content": {"application/json": content}}))
}
