//! RPCs that come to an end: `Deprecation` (RFC 9745) and `Sunset` (RFC 8594), from the proto's
//! `deprecated` and the option `paymesh.options.v1.sunset`.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use prost_reflect::{MethodDescriptor, Value};

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");
/// The field wants a date and protos say none. One in the past means: it is deprecated already.
const LONG_SINCE: HeaderValue = HeaderValue::from_static("@0");

/// What answers of an RPC say of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    deprecated: bool,
    sunset: Option<HeaderValue>,
}

impl Ending {
    /// `None` for an RPC that goes on. The error says what is wrong with its options.
    pub(crate) fn of(method: &MethodDescriptor) -> Result<Option<Self>, String> {
        let options = method.options();
        let is_true = |value: &Value| value.as_bool() == Some(true);
        let deprecated = options.get_field_by_name("deprecated").is_some_and(|value| is_true(&value));
        let extension = method.parent_pool().get_extension_by_name("paymesh.options.v1.sunset");
        let date = extension.map(|extension| options.get_extension(&extension).into_owned());
        let date = date.as_ref().and_then(Value::as_str).filter(|date| !date.is_empty());
        let sunset = date.map(|date| {
            http_date(date).ok_or_else(|| {
                format!("{}: the option sunset must be a date such as 2027-06-30", method.full_name())
            })
        });
        let ending = Self { deprecated, sunset: sunset.transpose()? };
        Ok((ending.deprecated || ending.sunset.is_some()).then_some(ending))
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if self.deprecated {
            headers.insert(DEPRECATION, LONG_SINCE);
        }
        if let Some(sunset) = &self.sunset {
            headers.insert(SUNSET, sunset.clone());
        }
    }
}

/// The beginning of that day in UTC, as HTTP writes dates (RFC 9110, section 5.6.7).
fn http_date(date: &str) -> Option<HeaderValue> {
    let midnight: prost_types::Timestamp = format!("{date}T00:00:00Z").parse().ok()?;
    let seconds = u64::try_from(midnight.seconds).ok()?;
    HeaderValue::try_from(httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the answers of an RPC with these options say.
    fn said(options: &str) -> Result<Vec<(String, String)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let proto = format!(
            "syntax = \"proto3\"; import \"paymesh/options/v1/options.proto\"; message M {{}} \
             service S {{ rpc R(M) returns (M) {{ {options} }} }}"
        );
        std::fs::write(dir.path().join("s.proto"), proto).unwrap();
        let contract = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
        let mut compiler = protox::Compiler::new([dir.path(), &contract]).unwrap();
        compiler.include_imports(true).open_file("s.proto").unwrap();
        let pool = compiler.descriptor_pool();
        let method = pool.get_service_by_name("S").unwrap().methods().next().unwrap();
        let mut headers = HeaderMap::new();
        if let Some(ending) = Ending::of(&method)? {
            ending.write(&mut headers);
        }
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        Ok(headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect())
    }

    #[test]
    fn an_rpc_says_when_it_ends() {
        assert_eq!(said(""), Ok(Vec::new()));
        let deprecated = || ("deprecation".to_owned(), "@0".to_owned());
        assert_eq!(said("option deprecated = true;"), Ok(vec![deprecated()]));
        let sunset = ("sunset".to_owned(), "Wed, 30 Jun 2027 00:00:00 GMT".to_owned());
        assert_eq!(
            said("option deprecated = true; option (paymesh.options.v1.sunset) = \"2027-06-30\";"),
            Ok(vec![deprecated(), sunset])
        );
        let error = said("option (paymesh.options.v1.sunset) = \"soon\";").unwrap_err();
        assert!(error.starts_with("S.R: the option sunset"), "{error}");
    }

    #[test]
    fn only_dates_become_http_dates() {
        for wrong in ["2027-06-31", "30.6.2027", "", "2027-06-30T10:00:00Z", "1969-01-01"] {
            assert_eq!(http_date(wrong), None, "{wrong}");
        }
    }
}
