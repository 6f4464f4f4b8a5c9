//! The text that a signature is made over (RFC 9421, section 2.5).
//!
//! Covered may be the derived components of a request (section 2.2) but `@query-param`, and header fields as
//! they are (section 2.1), without parameters. Pure.

use http::{HeaderMap, header, request::Parts};
use sfv::{FieldType as _, InnerList, ListEntry};

/// Why no text can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BaseError {
    /// A component that is not known here, or has parameters, or is named twice.
    Component,
    /// A covered field that the request does not have, or that is not visible ASCII.
    Field,
}

/// The text, for these components and parameters. `scheme` is the one that the client sees.
pub(crate) fn signature_base(covered: &InnerList, parts: &Parts, scheme: &str) -> Result<String, BaseError> {
    let mut base = String::new();
    let mut seen = Vec::with_capacity(covered.items.len());
    for item in &covered.items {
        let name = item.bare_item.as_string().ok_or(BaseError::Component)?.as_str();
        if !item.params.is_empty() || seen.contains(&name) {
            return Err(BaseError::Component);
        }
        seen.push(name);
        let value =
            if name.starts_with('@') { derived(name, parts, scheme)? } else { field(name, &parts.headers)? };
        for part in ["\"", name, "\": ", &value, "\n"] {
            base.push_str(part);
        }
    }
    let parameters = vec![ListEntry::InnerList(covered.clone())].serialize().ok_or(BaseError::Component)?;
    base.push_str("\"@signature-params\": ");
    base.push_str(&parameters);
    Ok(base)
}

fn derived(name: &str, parts: &Parts, scheme: &str) -> Result<String, BaseError> {
    let path = || match parts.uri.path() {
        "" => "/",
        path => path,
    };
    let query = || parts.uri.query().map(|query| format!("?{query}"));
    match name {
        "@method" => Ok(parts.method.as_str().to_owned()),
        "@authority" => authority(parts, scheme),
        "@scheme" => Ok(scheme.to_owned()),
        "@path" => Ok(path().to_owned()),
        "@query" => Ok(query().unwrap_or_else(|| "?".to_owned())),
        "@request-target" => Ok(format!("{}{}", path(), query().unwrap_or_default())),
        "@target-uri" => {
            Ok(format!("{scheme}://{}{}{}", authority(parts, scheme)?, path(), query().unwrap_or_default()))
        }
        _ => Err(BaseError::Component),
    }
}

/// In lower case and without the scheme's own port (section 2.2.3).
fn authority(parts: &Parts, scheme: &str) -> Result<String, BaseError> {
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str().to_owned(),
        None => field(header::HOST.as_str(), &parts.headers)?,
    };
    let authority = authority.to_ascii_lowercase();
    let own = if scheme == "https" { ":443" } else { ":80" };
    Ok(authority.strip_suffix(own).map(str::to_owned).unwrap_or(authority))
}

/// All values of a field, without the space around each, joined by `, ` (section 2.1).
fn field(name: &str, headers: &HeaderMap) -> Result<String, BaseError> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(BaseError::Component);
    }
    let mut values = headers.get_all(name).iter();
    let text = |value: &http::HeaderValue| {
        value.to_str().map(|text| text.trim().to_owned()).map_err(|_| BaseError::Field)
    };
    let mut joined = text(values.next().ok_or(BaseError::Field)?)?;
    for value in values {
        joined.push_str(", ");
        joined.push_str(&text(value)?);
    }
    Ok(joined)
}
