//! What roots behind an HTTP API share: one request with its answer, and a credential from a file.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use mesh::{
    StartError,
    outbound::{Outbound, OutboundError, Target},
};
use serde::{Deserialize, de::IgnoredAny};
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
    since: Instant,
    until: Instant,
}

/// How soon after a login a token that is refused is worth another: what a policy does not allow, it does not allow the
/// next one either.
const LOGIN_AGAIN: Duration = Duration::from_secs(30);

impl Session {
    /// The token that is held, as long as it is good; else that of a new login, which also says for how long it is. It
    /// is used for two thirds of that.
    pub(super) async fn token(
        &self,
        log_in: impl Future<Output = Result<(Zeroizing<String>, Duration), Failure>>,
    ) -> Result<Zeroizing<String>, Failure> {
        let mut held = self.0.lock().await;
        match held.as_ref().filter(|held| held.until > Instant::now()) {
            Some(held) => Ok(held.token.clone()),
            None => Self::renew(&mut held, log_in).await,
        }
    }

    /// Another token than the one that was `refused`; `None` where that one is too young for another login.
    pub(super) async fn another(
        &self,
        refused: &str,
        log_in: impl Future<Output = Result<(Zeroizing<String>, Duration), Failure>>,
    ) -> Result<Option<Zeroizing<String>>, Failure> {
        let mut held = self.0.lock().await;
        match held.as_ref() {
            // Somebody else was quicker.
            Some(held) if *held.token != refused => return Ok(Some(held.token.clone())),
            Some(held) if held.since.elapsed() < LOGIN_AGAIN => return Ok(None),
            _ => {}
        }
        Self::renew(&mut held, log_in).await.map(Some)
    }

    async fn renew(
        held: &mut Option<Held>,
        log_in: impl Future<Output = Result<(Zeroizing<String>, Duration), Failure>>,
    ) -> Result<Zeroizing<String>, Failure> {
        let since = Instant::now();
        let (token, lease) = log_in.await?;
        *held = Some(Held { token: token.clone(), since, until: since + lease * 2 / 3 });
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

/// What an answer other than success says of a request. Whatever stands in between (a proxy, a load balancer, a page to
/// log in at) may answer with any status, so that the API refuses is taken from its own form of an error alone; all else
/// may pass.
pub(super) fn failure(answer: &Answer) -> Failure {
    #[derive(Deserialize)]
    struct Said {
        /// Vault and OpenBao.
        errors: Option<Vec<IgnoredAny>>,
        /// Azure and who gives its tokens.
        error: Option<IgnoredAny>,
    }
    let code = answer.status.as_u16();
    let said = serde_json::from_slice(answer.body());
    let is_its_own = said.is_ok_and(|said: Said| said.errors.is_some() || said.error.is_some());
    match code {
        400 if is_its_own => Failure::Refused("it takes the request for wrong (HTTP 400)".into()),
        401 | 403 if is_its_own => {
            Failure::Refused(format!("the credential does not allow it (HTTP {code})").into())
        }
        404 if is_its_own => Failure::Refused("there is no such key or path (HTTP 404)".into()),
        _ => Failure::Unreachable(format!("HTTP {code}").into()),
    }
}

/// An answer that is not what the API says it is: somebody else answered.
pub(super) fn unexpected() -> Failure {
    Failure::Unreachable("the answer is not what this API answers".into())
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
        let said = |code: u16, body: &'static str| {
            failure(&Answer { status: StatusCode::from_u16(code).unwrap(), body: Bytes::from(body) })
        };
        let own =
            [r#"{"errors":["permission denied"]}"#, r#"{"errors":[]}"#, r#"{"error":{"code":"Forbidden"}}"#];
        for body in own {
            for code in [301, 412, 429, 472, 473, 500, 502, 503] {
                assert!(matches!(said(code, body), Failure::Unreachable(_)), "{code}");
            }
            for code in [400, 401, 403, 404] {
                assert!(matches!(said(code, body), Failure::Refused(_)), "{code} {body}");
            }
        }
        for body in [
            "",
            "<html>403 Forbidden</html>",
            "[]",
            "{}",
            r#""denied""#,
            r#"{"message":"no healthy upstream"}"#,
        ] {
            for code in [400, 401, 403, 404] {
                assert!(matches!(said(code, body), Failure::Unreachable(_)), "{code} {body}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_worth_another_login_once_it_is_old_enough() {
        let (session, logins) = (Session::default(), std::cell::Cell::new(0));
        let log_in = || async {
            logins.set(logins.get() + 1);
            Ok((Zeroizing::new(format!("t{}", logins.get())), Duration::from_secs(3_000)))
        };
        for _ in 0..3 {
            assert_eq!(*session.token(log_in()).await.unwrap(), "t1");
        }
        for _ in 0..3 {
            assert_eq!(session.another("t1", log_in()).await.unwrap(), None, "it was got just now");
        }
        tokio::time::advance(LOGIN_AGAIN).await;
        for _ in 0..3 {
            assert_eq!(
                **session.another("t1", log_in()).await.unwrap().as_ref().unwrap(),
                "t2",
                "by one of them"
            );
        }
        assert_eq!(session.another("t2", log_in()).await.unwrap(), None);
        tokio::time::advance(Duration::from_secs(2_001)).await;
        assert_eq!((&**session.token(log_in()).await.unwrap(), logins.get()), ("t3", 3), "after two thirds");
        let fails = async { Err(Failure::Unreachable("planted".into())) };
        tokio::time::advance(Duration::from_secs(2_001)).await;
        assert!(session.token(fails).await.is_err());
        assert_eq!(*session.token(log_in()).await.unwrap(), "t4");
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
