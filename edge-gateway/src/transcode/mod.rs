//! Between HTTP and gRPC: which RPC a request is for, its request message, its answer.
//!
//! Everything comes from the descriptors: an RPC with a `google.api.http` annotation is reachable,
//! one without is not. What can be worked out beforehand is worked out in [`Transcoder::new`].
//! Pure: knows no sockets, no credentials and no clock.

mod errors;
mod headers;
mod json;
mod mask;
mod overlap;
mod raw;
mod request;
mod response;
mod router;
mod schema;
mod template;
mod wire;

use std::{collections::BTreeSet, str::FromStr as _, sync::Arc};

use http::{Method, uri::PathAndQuery};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};

pub use errors::{RequestError, Violation};
pub use overlap::{Overlap, compare};
pub use raw::RawBody;
pub use request::{PlanError, RequestPlan};
pub use response::ResponsePlan;
pub use router::{Match, NoMatch, Router};
pub use schema::{MessageId, Schema, SchemaError};
pub use template::{Segment, Template, TemplateError, Variable};
pub use wire::WireError;

pub(crate) use request::{BodyRule, has_text_form};
pub(crate) use schema::{EnumId, Field, Free, Kind, Message, Shape, Special, option_is_set};

/// Whether an RPC takes an idempotency key (`paymesh.options.v1.idempotency`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// A key is ignored.
    None,
    /// A key is passed on when there is one.
    Optional,
    /// Without a key the request is refused.
    Required,
}

/// One binding of one RPC.
#[derive(Debug)]
pub struct Route {
    /// `package.Service/Method`, for logs and metrics.
    pub rpc: Arc<str>,
    /// `/package.Service/Method`, the `:path` of the call.
    pub grpc_path: PathAndQuery,
    /// The service that owns the package: `svc-payments` for `paymesh.payments.v1`.
    pub upstream: Arc<str>,
    /// What it promises about retries.
    pub idempotency: Idempotency,
    /// How the request message is made.
    pub request: RequestPlan,
    /// How the answer is written.
    pub response: ResponsePlan,
    /// Whether the answer is a stream of messages.
    pub streaming: bool,
    /// Whether it may be called without a credential (`paymesh.options.v1.public`).
    pub public: bool,
    /// The largest body, in bytes, where the RPC says one (`paymesh.options.v1.body_bytes_max`).
    pub body_bytes_max: Option<usize>,
    /// The HTTP method; none: every one.
    pub(crate) method: Option<Method>,
    pub(crate) template: Template,
    pub(crate) descriptor: MethodDescriptor,
}

/// Why the annotations make no API. Found at start-up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The pool lacks `google.api.http` or the options of `paymesh.options.v1`.
    #[error("the descriptors do not define {0}")]
    MissingExtension(&'static str),
    /// An annotation without a method and path.
    #[error("{0}: the google.api.http annotation has no path")]
    NoPath(String),
    /// A method that is not one of HTTP.
    #[error("{0}: the custom method is not an HTTP method")]
    CustomMethod(String),
    /// A path template that cannot be read.
    #[error("{rpc}: the path {template} {error}")]
    Template {
        /// The RPC.
        rpc: String,
        /// Its path.
        template: String,
        /// What is wrong with it.
        error: TemplateError,
    },
    /// An annotation that does not fit its messages.
    #[error("{rpc}: {error}")]
    Plan {
        /// The RPC.
        rpc: String,
        /// What does not fit.
        error: PlanError,
    },
    /// Two RPCs for the same requests, where neither says more exactly which it means.
    #[error("{method} {template} leads to both {first} and {second}")]
    Conflict {
        /// The HTTP method; `*` for every one.
        method: String,
        /// The path of the second.
        template: String,
        /// The RPC that has it.
        first: String,
        /// The RPC that also wants it.
        second: String,
    },
    /// Only answers can be streams over REST.
    #[error("{0}: an RPC that takes a stream cannot have a google.api.http annotation")]
    Streaming(String),
    /// google.api.http allows one level.
    #[error("{0}: additional_bindings within additional_bindings")]
    NestedBindings(String),
    /// The package does not follow `paymesh.<area>.v<n>`.
    #[error("{0}: no service owns a package of this name")]
    Package(String),
}

/// The whole REST face, ready for use.
#[derive(Debug)]
pub struct Transcoder {
    /// The messages that are read and written.
    pub schema: Schema,
    routes: Vec<Route>,
    router: Router,
}

impl Transcoder {
    /// Works out the REST face of every annotated RPC of the pool.
    pub fn new(pool: &DescriptorPool) -> Result<Self, ApiError> {
        let mut api = Self { schema: Schema::new(), routes: Vec::new(), router: Router::default() };
        let http = extension(pool, "google.api.http")?;
        let idempotency = extension(pool, "paymesh.options.v1.idempotency")?;
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let options = method.options();
            let rule = options.get_extension(&http);
            let (true, Some(rule)) = (options.has_extension(&http), rule.as_message()) else { continue };
            let idempotency = match options.get_extension(&idempotency).as_enum_number() {
                Some(2) => Idempotency::Required,
                Some(1) => Idempotency::Optional,
                _ => Idempotency::None,
            };
            api.bind(&method, rule, idempotency)?;
            let additional = rule.get_field_by_name("additional_bindings");
            for rule in additional.as_deref().and_then(|value| value.as_list()).unwrap_or_default() {
                if let Some(rule) = rule.as_message() {
                    if rule.has_field_by_name("additional_bindings") {
                        return Err(ApiError::NestedBindings(method.full_name().to_owned()));
                    }
                    api.bind(&method, rule, idempotency)?;
                }
            }
        }
        Ok(api)
    }

    fn bind(
        &mut self,
        descriptor: &MethodDescriptor,
        rule: &DynamicMessage,
        idempotency: Idempotency,
    ) -> Result<(), ApiError> {
        let service = descriptor.parent_service();
        let rpc = format!("{}/{}", service.full_name(), descriptor.name());
        if descriptor.is_client_streaming() {
            return Err(ApiError::Streaming(rpc));
        }
        let (method, path) = pattern(rule, &rpc)?;
        let template = Template::parse(&path).map_err(|error| ApiError::Template {
            rpc: rpc.clone(),
            template: path.clone(),
            error,
        })?;
        if let Err(taken) = self.router.add(method.clone(), &template, self.routes.len()) {
            let first = self.routes[taken].rpc.to_string();
            let method = method.map_or_else(|| "*".to_owned(), |method| method.to_string());
            return Err(ApiError::Conflict { method, template: path, first, second: rpc });
        }
        let wrong = |error| ApiError::Plan { rpc: rpc.clone(), error };
        let request = RequestPlan::new(
            &mut self.schema,
            &descriptor.input(),
            &template,
            method.as_ref(),
            &text(rule, "body"),
        );
        let response =
            ResponsePlan::new(&mut self.schema, &descriptor.output(), &text(rule, "response_body"));
        self.routes.push(Route {
            grpc_path: format!("/{rpc}").parse().map_err(|_| ApiError::NoPath(rpc.clone()))?,
            upstream: owner(service.package_name()).ok_or_else(|| ApiError::Package(rpc.clone()))?.into(),
            idempotency,
            request: request.map_err(wrong)?,
            response: response.map_err(wrong)?,
            streaming: descriptor.is_server_streaming(),
            public: option(descriptor, "paymesh.options.v1.public")
                .is_some_and(|value| value.as_bool() == Some(true)),
            body_bytes_max: option(descriptor, "paymesh.options.v1.body_bytes_max")
                .and_then(|value| usize::try_from(value.as_u32()?).ok())
                .filter(|bytes| *bytes > 0),
            method,
            template,
            descriptor: descriptor.clone(),
            rpc: rpc.into(),
        });
        Ok(())
    }

    /// The route of a request and the values in its path. HEAD is GET where it has no route of its own
    /// (RFC 9110, section 9.3.2).
    pub fn find<'p>(&self, method: &Method, path: &'p str) -> Result<(&Route, Match<'p>), NoMatch> {
        let found = match self.router.find(method, path) {
            Err(_) if method == Method::HEAD => self.router.find(&Method::GET, path),
            found => found,
        }?;
        Ok((&self.routes[found.target], found))
    }

    /// Every route, in the order of the descriptors.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The services that are needed, in order of name.
    pub fn upstreams(&self) -> BTreeSet<Arc<str>> {
        self.routes.iter().map(|route| Arc::clone(&route.upstream)).collect()
    }
}

fn extension(
    pool: &DescriptorPool,
    name: &'static str,
) -> Result<prost_reflect::ExtensionDescriptor, ApiError> {
    pool.get_extension_by_name(name).ok_or(ApiError::MissingExtension(name))
}

/// An option of an RPC, where the pool knows it and the RPC has it.
fn option(method: &MethodDescriptor, name: &str) -> Option<prost_reflect::Value> {
    let extension = method.parent_pool().get_extension_by_name(name)?;
    let options = method.options();
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

/// `paymesh.<area>.v<n>` belongs to `svc-<area>`.
fn owner(package: &str) -> Option<String> {
    let (area, version) = package.strip_prefix("paymesh.")?.split_once('.')?;
    let numbered = version.strip_prefix('v')?.bytes().all(|byte| byte.is_ascii_digit());
    numbered.then(|| format!("svc-{area}"))
}

/// The method, none for every one, and the path.
fn pattern(rule: &DynamicMessage, rpc: &str) -> Result<(Option<Method>, String), ApiError> {
    for (name, method) in [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ] {
        if rule.has_field_by_name(name) {
            return Ok((Some(method), text(rule, name)));
        }
    }
    let custom = rule.get_field_by_name("custom").filter(|_| rule.has_field_by_name("custom"));
    let custom = custom.as_deref().and_then(|value| value.as_message());
    let custom = custom.ok_or_else(|| ApiError::NoPath(rpc.to_owned()))?;
    let (kind, path) = (text(custom, "kind"), text(custom, "path"));
    if kind == "*" {
        return Ok((None, path));
    }
    // Methods are case-sensitive, and those in use are in capitals (RFC 9110, section 9.1).
    let method = Method::from_str(&kind).ok().filter(|_| !kind.bytes().any(|byte| byte.is_ascii_lowercase()));
    Ok((Some(method.ok_or_else(|| ApiError::CustomMethod(rpc.to_owned()))?), path))
}

fn text(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value.as_deref().and_then(|value| value.as_str()).unwrap_or_default().to_owned()
}
