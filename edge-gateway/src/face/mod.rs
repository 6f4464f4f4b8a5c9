//! The edge as an HTTP server, whatever the request is for: sizes, cross-origin requests, conditional
//! reads, compression, security headers. Knows no tenants and calls nobody.
//!
//! What is compressed: answers to GET that are read from bytes in hand, are the same representation
//! whoever looks (documents) or have no field marked as sensitive. Answers to other methods never are:
//! they reflect what was sent beside what was made of it, and their length would tell one by the other
//! (BREACH).

mod conditional;
pub(crate) mod config;
mod cors;
pub(crate) mod encoding;
mod ending;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body_util::Either;
use mesh::{Fault, Reason, StartError};
use prost_reflect::{MessageDescriptor, MethodDescriptor};

use crate::body::{Answer, full};
use config::HttpConfig;
use cors::Cors;
use ending::Ending;

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// How many packed documents are kept.
const DOCUMENTS_MAX: usize = 16;

/// What an answer is an answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// How things are at this moment: kept by nobody.
    Probe,
    /// The same for everyone, until the next version.
    Document,
    /// Everything else.
    Rpc,
}

/// How the edge behaves as an HTTP server.
pub(crate) struct Face {
    cors: Option<Cors>,
    hsts: Option<HeaderValue>,
    compress_bytes_min: usize,
    uri_bytes_max: usize,
    header_bytes_max: usize,
    endings: HashMap<Arc<str>, Ending>,
    /// RPCs whose answers are never compressed.
    sensitive: HashSet<Arc<str>>,
    /// Packed documents by their tag, which is that of their contents.
    packed: Mutex<HashMap<HeaderValue, Bytes>>,
}

impl Face {
    /// `rpcs` are those that have a route, by the name that they are known by.
    pub(crate) fn new<'a>(
        config: &HttpConfig,
        rpcs: impl IntoIterator<Item = (&'a Arc<str>, &'a MethodDescriptor)>,
    ) -> Result<Self, StartError> {
        let (mut endings, mut sensitive) = (HashMap::new(), HashSet::new());
        for (name, method) in rpcs {
            if let Some(ending) = Ending::of(method).map_err(StartError::Config)? {
                endings.insert(Arc::clone(name), ending);
            }
            if holds_sensitive(&method.output(), &mut HashSet::new()) {
                sensitive.insert(Arc::clone(name));
            }
        }
        let hsts = format!("max-age={}", config.hsts_max_age_s);
        Ok(Self {
            cors: Cors::new(&config.cors, config.grpc_web)?,
            hsts: HeaderValue::try_from(hsts).ok().filter(|_| config.hsts_max_age_s > 0),
            compress_bytes_min: config.compress_bytes_min,
            uri_bytes_max: config.uri_bytes_max,
            header_bytes_max: config.header_bytes_max,
            endings,
            sensitive,
            packed: Mutex::default(),
        })
    }

    /// Refuses a request whose line or header fields are too long.
    pub(crate) fn check_size(&self, parts: &Parts) -> Result<(), Fault> {
        let uri = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
        if uri > self.uri_bytes_max {
            let message = format!("The path and query are longer than {} bytes.", self.uri_bytes_max);
            return Err(Fault::new(Reason::UriTooLong, message));
        }
        // As HTTP/2 counts them, without its overhead for each (RFC 9113, section 10.5.1).
        let fields: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if fields > self.header_bytes_max {
            let message = format!("The header fields hold more than {} bytes.", self.header_bytes_max);
            return Err(Fault::new(Reason::HeadersTooLarge, message));
        }
        Ok(())
    }

    /// The answer to a browser that asks before it sends a page's request.
    pub(crate) fn preflight(&self, parts: &Parts) -> Option<Answer> {
        self.cors.as_ref()?.preflight(parts)
    }

    /// Makes an answer what it is on the wire.
    pub(crate) fn finish(
        &self,
        request: &Parts,
        rpc: &Arc<str>,
        kind: Kind,
        secure: bool,
        answer: Answer,
    ) -> Answer {
        let mut answer = self.represent(request, rpc, kind, answer);
        let headers = answer.headers_mut();
        if let Some(ending) = self.endings.get(rpc) {
            ending.write(headers);
        }
        if let Some(cors) = &self.cors {
            cors.allow(&request.headers, headers);
        }
        self.protect(headers, secure);
        answer
    }

    /// What every answer says, whatever has become of it.
    pub(crate) fn protect(&self, headers: &mut HeaderMap, secure: bool) {
        if let Some(hsts) = self.hsts.as_ref().filter(|_| secure) {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        protect(headers);
    }

    /// Conditional reads and compression.
    fn represent(&self, request: &Parts, rpc: &Arc<str>, kind: Kind, answer: Answer) -> Answer {
        let read = matches!(request.method, Method::GET | Method::HEAD) && answer.status() == StatusCode::OK;
        if !read || kind == Kind::Probe {
            return answer;
        }
        let (mut parts, body) = answer.into_parts();
        let bytes = match body {
            Either::Left(bytes) => bytes,
            stream @ Either::Right(_) => return Answer::from_parts(parts, stream),
        };
        let bytes = bytes.into_inner().unwrap_or_default();
        let may = self.compress_bytes_min > 0
            && bytes.len() >= self.compress_bytes_min
            && (kind == Kind::Document || !self.sensitive.contains(rpc))
            && !parts.headers.contains_key(header::CONTENT_ENCODING);
        let packs = may && encoding::takes_gzip(&request.headers);
        if may {
            parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        let Some(etag) = conditional::etag(&bytes, packs) else {
            return Answer::from_parts(parts, full(bytes));
        };
        parts.headers.insert(header::ETAG, etag.clone());
        if kind == Kind::Document {
            parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        if conditional::is_known(&request.headers, &etag) {
            parts.status = StatusCode::NOT_MODIFIED;
            parts.headers.remove(header::CONTENT_TYPE);
            return Answer::from_parts(parts, full(Bytes::new()));
        }
        let packed = if packs { self.packed(kind, &etag, &bytes) } else { None };
        if packed.is_some() {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Answer::from_parts(parts, full(packed.unwrap_or(bytes)))
    }

    /// Documents are packed once, and there are few of them.
    fn packed(&self, kind: Kind, etag: &HeaderValue, bytes: &Bytes) -> Option<Bytes> {
        if kind == Kind::Rpc {
            return encoding::gzip(bytes);
        }
        let mut kept = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packed) = kept.get(etag) {
            return Some(packed.clone());
        }
        let packed = encoding::gzip(bytes)?;
        if kept.len() >= DOCUMENTS_MAX {
            kept.clear();
        }
        kept.insert(etag.clone(), packed.clone());
        Some(packed)
    }
}

/// What every answer says to browsers, unless it says otherwise itself. An API's answer is no page: as
/// one, it loads nothing, runs nothing and is framed nowhere.
fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        ),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
    ] {
        headers.entry(name).or_insert(value);
    }
}

/// Whether a field of the message, or of one within it, is marked as cardholder data or a secret.
fn holds_sensitive(message: &MessageDescriptor, seen: &mut HashSet<String>) -> bool {
    if !seen.insert(message.full_name().to_owned()) {
        return false;
    }
    let option = message.parent_pool().get_extension_by_name("paymesh.options.v1.sensitive");
    message.fields().any(|field| {
        let marked = option
            .as_ref()
            .is_some_and(|option| field.options().get_extension(option).as_bool() == Some(true));
        let within = field.kind();
        marked || within.as_message().is_some_and(|message| holds_sensitive(message, seen))
    })
}

#[cfg(test)]
mod tests;
