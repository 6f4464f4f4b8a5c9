//! What roots behind an HTTP API share: one request with its answer, and a credential from a file.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use mesh::{
    StartError,
    outbound::{Outbound, OutboundError, Target},
};
use tokio::{sync::Mutex, time::Instant};
use zeroize::{Zeroize as _, Zeroizing};

use super::Failure;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest credential, in bytes.
const CREDENTIAL_BYTES_MAX: u64 = 64 * 1024;

/// A server's API.
pub(super) struct Api {
    base: String,
    host: String,
    outbound: Outbound,
}

/// The token of a login, for as long as it is good.
#[derive(Default)]
pub(super) struct Session(Mutex<Option<Held>>);

struct Held {
    token: Zeroizing<String>,
    until: Instant,
}

impl Session {
    /// The token that is held, unless it is the one that was `refused`; else that of a new login, which also says for
    /// how long it is good. It is used for two thirds of that.
    pub(super) async fn token(
        &self,
        refused: Option<&str>,
        log_in: impl Future<Output = Result<(Zeroizing<String>, Duration), Failure>>,
    ) -> Result<Zeroizing<String>, Failure> {
        let mut held = self.0.lock().await;
        let now = Instant::now();
        let good = |held: &&Held| held.until > now && refused != Some(held.token.as_str());
        if let Some(held) = held.as_ref().filter(good) {
            return Ok(held.token.clone());
        }
        let (token, lease) = log_in.await?;
        *held = Some(Held { token: token.clone(), until: now + lease * 2 / 3 });
        Ok(token)
    }
}

/// An answer. Wiped when it is dropped, as it may hold a key.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Bytes,
}

impl Answer {
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Nobody else holds it: it was read for this.
        if let Ok(mut body) = std::mem::take(&mut self.body).try_into_mut() {
            body.as_mut().zeroize();
        }
    }
}

impl Api {
    /// At this address, `https://host[:port]`. `setting` is how the configuration calls it.
    ///
    /// # Errors
    /// Where the address is none, or the file of authorities holds none.
    pub(super) fn new(
        setting: &str,
        address: &str,
        authorities: &Path,
        timeout: Duration,
    ) -> Result<Self, StartError> {
        let wrong = || {
            StartError::Config(format!(
                "{setting}: must be an https URL without a path, or an http one on a loopback address"
            ))
        };
        let base = address.trim_end_matches('/');
        let url: Uri = base.parse().map_err(|_| wrong())?;
        let target =
            Target::of(&url).filter(|_| url.path() == "/" && url.query().is_none()).ok_or_else(wrong)?;
        let outbound = Outbound::new(target.https.then_some(authorities), timeout, ANSWER_BYTES_MAX)?;
        Ok(Self { base: base.to_owned(), host: target.host, outbound })
    }

    /// Whom it asks.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Sends a request to a path. The body is wiped once it was sent.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| Failure::Refused("a credential is no legal value of a header".into()))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let request = request.body(Bytes::from_owner(body)).map_err(|_| unreachable(OutboundError::Url))?;
        let answer = self.outbound.send(request).await.map_err(unreachable)?;
        let (head, body) = answer.into_parts();
        Ok(Answer { status: head.status, body })
    }
}

fn unreachable(error: OutboundError) -> Failure {
    Failure::Unreachable(error.to_string().into())
}

/// What an answer other than success says of a request, where the API gives statuses their usual meaning.
pub(super) fn failure(status: StatusCode) -> Failure {
    let code = status.as_u16();
    match code {
        401 | 403 => Failure::Refused(format!("the credential does not allow it (HTTP {code})").into()),
        404 => Failure::Refused("there is no such key or path (HTTP 404)".into()),
        408 | 412 | 425 | 429 | 472 | 473 => Failure::Unreachable(format!("HTTP {code}").into()),
        _ if status.is_server_error() => Failure::Unreachable(format!("HTTP {code}").into()),
        _ => Failure::Refused(format!("HTTP {code}").into()),
    }
}

/// An answer that is not what the API says it is.
pub(super) fn unexpected() -> Failure {
    Failure::Refused("the answer is not what this API answers".into())
}

/// A credential from its file, without the space around it. Read each time, as it may be replaced.
pub(super) fn credential(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let unreadable = |why: String| Failure::Refused(format!("{}: {why}", file.display()).into());
    let length = file.metadata().map_err(|error| unreadable(error.to_string()))?.len();
    if length > CREDENTIAL_BYTES_MAX {
        return Err(unreadable("is too long for a credential".into()));
    }
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?);
    match text.trim() {
        "" => Err(unreadable("is empty".into())),
        credential => Ok(Zeroizing::new(credential.to_owned())),
    }
}

/// A flat JSON object of texts that need no escaping, such as base64.
pub(super) fn object(fields: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let length: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    // Never moved by growing, which would leave a copy.
    let mut text = Zeroizing::new(Vec::with_capacity(length + 2));
    for (place, (name, value)) in fields.iter().enumerate() {
        text.push(if place == 0 { b'{' } else { b',' });
        for part in [&b"\""[..], name.as_bytes(), b"\":\"", value.as_bytes(), b"\""] {
            text.extend_from_slice(part);
        }
    }
    text.push(b'}');
    text
}

/// Base64 (RFC 4648, section 4) of what may be secret.
pub(super) fn base64(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

/// And back.
pub(super) fn from_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD.decode(text).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_json() {
        let object = object(&[("plaintext", "AAA="), ("associated_data", "")]);
        assert_eq!(&**object, br#"{"plaintext":"AAA=","associated_data":""}"#);
        assert_eq!(&**super::object(&[("a", "b")]), br#"{"a":"b"}"#);
    }

    #[test]
    fn what_passes_and_what_does_not() {
        for code in [429, 472, 473, 500, 502, 503] {
            assert!(
                matches!(failure(StatusCode::from_u16(code).unwrap()), Failure::Unreachable(_)),
                "{code}"
            );
        }
        for code in [301, 400, 401, 403, 404] {
            assert!(matches!(failure(StatusCode::from_u16(code).unwrap()), Failure::Refused(_)), "{code}");
        }
    }

    #[test]
    fn a_credential_is_what_its_file_holds_now() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert!(matches!(credential(&file), Err(Failure::Refused(_))));
        for (content, expected) in [("s.abc\n", Some("s.abc")), (" \n", None), ("next", Some("next"))] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(credential(&file).ok().as_ref().map(|text| text.as_str()), expected);
        }
        std::fs::write(&file, vec![b'x'; 70_000]).unwrap();
        assert!(matches!(credential(&file), Err(Failure::Refused(_))));
    }

    #[test]
    fn an_address_is_a_host_and_nothing_else() {
        let api = |address| Api::new("a.b", address, Path::new("/none"), Duration::from_secs(1));
        assert!(api("http://127.0.0.1:8200/").is_ok());
        for wrong in
            ["http://vault.example.com", "http://127.0.0.1:1/v1", "http://127.0.0.1:1?x", "vault", ""]
        {
            let refused = api(wrong).err().unwrap().to_string();
            assert!(refused.contains("a.b: must be an https URL"), "{wrong}: {refused}");
        }
        let authorities = api("https://127.0.0.1:1").err().unwrap().to_string();
        assert!(authorities.contains("/none"), "{authorities}");
    }
}
