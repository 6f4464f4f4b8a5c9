//! The transit secrets engine of HashiCorp Vault and OpenBao: a key that never leaves the server wraps, with the
//! key's place as associated data.
//!
//! API: <https://openbao.org/api-docs/secret/transit/>, "Encrypt data" and "Decrypt data", on a key of an AEAD type
//! (`aes256-gcm96`, `chacha20-poly1305`). The ciphertext names the version of the key, `vault:v3:…`, and is kept
//! as it came.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderName, Method, StatusCode, header};
use mesh::StartError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Failure, RootOfTrust,
    api::{Answer, Api, Session, base64, credential, failure, from_base64, object, unexpected},
};
use crate::domain::{
    rooted::{self, RootName, Stamp},
    secret::KeyBytes,
};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Without it an agent may refuse, to keep pages of browsers away.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
/// What OpenBao and Vault say of a ciphertext that is not of this key, or not for this place, after the cipher's name.
const NOT_AUTHENTIC: &str = "message authentication failed";
/// What every ciphertext of transit begins with; the version of the key follows.
const CIPHERTEXT: &str = "vault:v";

/// A key of the transit secrets engine of HashiCorp Vault or OpenBao, as root of trust.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TransitConfig {
    /// Where the server is: an https URL without a path, or an http one on a loopback address.
    #[schemars(extend("x-required" = true), example = "https://vault.internal:8200")]
    pub address: String,
    /// The namespace, where the server has such.
    #[schemars(example = &"payments")]
    pub namespace: Option<String>,
    /// Where the engine is mounted. Default `transit`.
    pub mount: String,
    /// The key's name. Its type must be `aes256-gcm96` or `chacha20-poly1305`; it is not made from here.
    #[schemars(extend("x-required" = true), example = &"paymesh")]
    pub key: String,
    /// What this root is called wherever something is kept that it wrapped, after `transit:`. Default: the namespace
    /// and `//` where there is one, the mount, and the key's name. Needed where another server has a key in the same
    /// place, and one is to take the other's place; never changed while anything is wrapped under it.
    #[schemars(example = &"vault-b/paymesh")]
    pub name: Option<String>,
    /// A file with the token to ask with, read anew for each request, so that an agent may replace it. Absent:
    /// `kubernetes` must be there.
    #[schemars(example = "secrets/vault-token")]
    pub token_file: Option<PathBuf>,
    /// Logs in as a Kubernetes service account instead.
    pub kubernetes: Option<KubernetesConfig>,
    /// The authorities that the server's certificate is checked against, PEM. Default: those of the system,
    /// `/etc/ssl/certs/ca-certificates.crt`.
    #[schemars(extend("x-file" = "public"))]
    pub ca_file: PathBuf,
}

impl Default for TransitConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            namespace: None,
            mount: "transit".to_owned(),
            key: String::new(),
            name: None,
            token_file: None,
            kubernetes: None,
            ca_file: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
        }
    }
}

/// The auth method `kubernetes` of HashiCorp Vault or OpenBao.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// Where the auth method is mounted. Default `kubernetes`.
    pub mount: String,
    /// The role to log in to.
    #[schemars(extend("x-required" = true), example = "svc-crypto")]
    pub role: String,
    /// The service account's token, read anew for each login. Absent: where Kubernetes mounts it,
    /// `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    #[schemars(example = "/var/run/secrets/tokens/vault")]
    pub jwt_file: Option<PathBuf>,
}

/// Where Kubernetes mounts a service account's token.
const JWT_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self { mount: "kubernetes".to_owned(), role: String::new(), jwt_file: None }
    }
}

enum Login {
    File(PathBuf),
    Kubernetes { path: String, role: String, jwt_file: PathBuf, session: Session },
}

/// The root. Cannot be printed.
pub struct Transit {
    name: RootName,
    api: Api,
    namespace: Option<String>,
    mount: String,
    key: String,
    login: Login,
}

impl Transit {
    /// Checks the configuration, whose path is `setting`. Nothing is asked yet.
    pub fn new(setting: &str, config: &TransitConfig, timeout: Duration) -> Result<Self, StartError> {
        let wrong = |what: &str| StartError::Config(format!("{setting}.{what}"));
        let path = |text: &str| text.split('/').all(is_segment);
        if !path(&config.mount) {
            return Err(wrong(
                "mount: must be segments of a-z, A-Z, 0-9, '-', '_' and '.', with '/' between them",
            ));
        }
        if !is_segment(&config.key) {
            return Err(wrong("key: must be the key's name, of a-z, A-Z, 0-9, '-', '_' and '.'"));
        }
        let namespace = config.namespace.clone().map(|namespace| namespace.trim_matches('/').to_owned());
        if !namespace.as_deref().is_none_or(path) {
            return Err(wrong(
                "namespace: must be segments of a-z, A-Z, 0-9, '-', '_' and '.', with '/' between",
            ));
        }
        let login = match (&config.token_file, &config.kubernetes) {
            (Some(file), None) => Login::File(file.clone()),
            (None, Some(kubernetes)) if path(&kubernetes.mount) && is_segment(&kubernetes.role) => {
                Login::Kubernetes {
                    path: format!("/v1/auth/{}/login", kubernetes.mount),
                    role: kubernetes.role.clone(),
                    jwt_file: kubernetes.jwt_file.clone().unwrap_or_else(|| JWT_FILE.into()),
                    session: Session::default(),
                }
            }
            (None, Some(_)) => {
                return Err(wrong("kubernetes: mount and role must be names, and role is needed"));
            }
            _ => return Err(wrong("token_file: either this or kubernetes must be given, and not both")),
        };
        let (mount, key) = (config.mount.clone(), config.key.clone());
        if !config.name.as_deref().is_none_or(path) {
            return Err(wrong(
                "name: must be segments of a-z, A-Z, 0-9, '-', '_' and '.', with '/' between them",
            ));
        }
        // No segment is empty: two slashes are nowhere else.
        let within = namespace.as_deref().map(|namespace| format!("{namespace}//")).unwrap_or_default();
        let name = config.name.clone().unwrap_or_else(|| format!("{within}{mount}/{key}"));
        let name = RootName::parse(&format!("transit:{name}"))
            .map_err(|error| wrong(&format!("key: the name with namespace and mount {error}")))?;
        let api = Api::new(&format!("{setting}.address"), &config.address, &config.ca_file, timeout)?;
        Ok(Self { name, api, namespace, mount, key, login })
    }

    /// Asks with the token, and where it came from a login and is refused, once more with another.
    async fn ask(&self, verb: &str, fields: &[(&str, &str)]) -> Result<Answer, Failure> {
        let path = format!("/v1/{}/{verb}/{}", self.mount, self.key);
        let token = match &self.login {
            Login::File(file) => credential(file)?,
            Login::Kubernetes { path, role, jwt_file, session } => {
                session.token(self.log_in(path, role, jwt_file)).await?
            }
        };
        let answer = self.post(&path, Some(&token), fields).await?;
        let Login::Kubernetes { path: login, role, jwt_file, session } = &self.login else {
            return Ok(answer);
        };
        if answer.status != StatusCode::FORBIDDEN {
            return Ok(answer);
        }
        match session.another(&token, self.log_in(login, role, jwt_file)).await? {
            Some(token) => self.post(&path, Some(&token), fields).await,
            None => Ok(answer),
        }
    }

    async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        fields: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        let mut headers = vec![(header::CONTENT_TYPE, "application/json"), (REQUEST, "true")];
        headers.extend(token.map(|token| (TOKEN, token)));
        headers.extend(self.namespace.as_deref().map(|namespace| (NAMESPACE, namespace)));
        self.api.send(Method::POST, path, &headers, object(fields)).await
    }

    async fn log_in(
        &self,
        path: &str,
        role: &str,
        jwt_file: &Path,
    ) -> Result<(Zeroizing<String>, Duration), Failure> {
        #[derive(Deserialize)]
        struct Said {
            auth: Auth,
        }
        #[derive(Deserialize)]
        struct Auth {
            client_token: String,
            lease_duration: u32,
        }
        let jwt = credential(jwt_file)?;
        let legal =
            jwt.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if !legal {
            return Err(Failure::Refused("the service account's token is no JWT".into()));
        }
        let answer = self.post(path, None, &[("role", role), ("jwt", &jwt)]).await?;
        if answer.status != StatusCode::OK {
            return Err(failure(&answer));
        }
        let said: Said = serde_json::from_slice(answer.body()).map_err(|_| unexpected())?;
        Ok((Zeroizing::new(said.auth.client_token), Duration::from_secs(said.auth.lease_duration.into())))
    }
}

/// One segment of a path, which needs no escaping and leads nowhere else.
fn is_segment(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.bytes().all(legal) && !text.bytes().all(|byte| byte == b'.')
}

/// The version in `vault:v3:…`.
fn version_of(ciphertext: &str) -> Option<&str> {
    let (version, rest) = ciphertext.strip_prefix(CIPHERTEXT)?.split_once(':')?;
    let legal = (1..=10).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_digit());
    (legal && !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'))
        .then_some(version)
}

/// Whether an error says that a ciphertext is not authentic.
fn is_not_authentic(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Said {
        errors: Vec<String>,
    }
    serde_json::from_slice(body)
        .is_ok_and(|said: Said| said.errors.iter().any(|error| error.contains(NOT_AUTHENTIC)))
}

#[tonic::async_trait]
impl RootOfTrust for Transit {
    fn name(&self) -> &RootName {
        &self.name
    }

    async fn wrap(&self, context: &[u8], key: &KeyBytes) -> Result<Vec<u8>, Failure> {
        #[derive(Deserialize)]
        struct Said {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            ciphertext: String,
        }
        let (plaintext, context) = (base64(key.expose()), base64(context));
        let fields = [("plaintext", plaintext.as_str()), ("associated_data", context.as_str())];
        let answer = self.ask("encrypt", &fields).await?;
        if answer.status != StatusCode::OK {
            return Err(failure(&answer));
        }
        let said: Said = serde_json::from_slice(answer.body()).map_err(|_| unexpected())?;
        let ciphertext = said.data.ciphertext;
        let version = version_of(&ciphertext).ok_or_else(unexpected)?;
        let stamp = Stamp::new(self.name.clone(), version).ok_or_else(unexpected)?;
        Ok(rooted::encode(&stamp, ciphertext.as_bytes()))
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<KeyBytes, Failure> {
        #[derive(Deserialize)]
        struct Said<'a> {
            #[serde(borrow)]
            data: Data<'a>,
        }
        #[derive(Deserialize)]
        struct Data<'a> {
            plaintext: &'a str,
        }
        let (_, body) = rooted::read(wrapped).ok_or(Failure::Tampered)?;
        let ciphertext = std::str::from_utf8(body).ok().filter(|text| version_of(text).is_some());
        let ciphertext = ciphertext.ok_or(Failure::Tampered)?;
        let context = base64(context);
        let fields = [("ciphertext", ciphertext), ("associated_data", context.as_str())];
        let answer = self.ask("decrypt", &fields).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST if is_not_authentic(answer.body()) => return Err(Failure::Tampered),
            _ => return Err(failure(&answer)),
        }
        let said: Said<'_> = serde_json::from_slice(answer.body()).map_err(|_| unexpected())?;
        let plaintext = from_base64(said.data.plaintext).ok_or_else(unexpected)?;
        KeyBytes::from_slice(&plaintext).ok_or(Failure::Tampered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TransitConfig {
        TransitConfig {
            address: "http://127.0.0.1:8200".into(),
            key: "paymesh".into(),
            token_file: Some("token".into()),
            ..TransitConfig::default()
        }
    }

    fn refused(config: &TransitConfig) -> String {
        Transit::new("root.transit", config, Duration::from_secs(1)).err().unwrap().to_string()
    }

    #[test]
    fn its_name_says_which_key() {
        let name = |config: &TransitConfig| {
            Transit::new("root.transit", config, Duration::from_secs(1)).unwrap().name().to_string()
        };
        assert_eq!(name(&config()), "transit:transit/paymesh");
        let within = TransitConfig { namespace: Some("/a/b/".into()), mount: "x/y".into(), ..config() };
        assert_eq!(name(&within), "transit:a/b//x/y/paymesh");
        let other = TransitConfig { namespace: Some("a".into()), mount: "b/x/y".into(), ..config() };
        assert_ne!(name(&within), name(&other), "another namespace is another root");
        let named = TransitConfig { name: Some("b/paymesh".into()), ..within };
        assert_eq!(name(&named), "transit:b/paymesh");
    }

    #[test]
    fn what_cannot_be_is_named() {
        let kubernetes = || Some(KubernetesConfig { role: "r".into(), ..KubernetesConfig::default() });
        for (config, expected) in [
            (TransitConfig { key: "a/b".into(), ..config() }, "root.transit.key"),
            (TransitConfig { key: "..".into(), ..config() }, "root.transit.key"),
            (TransitConfig { mount: "a//b".into(), ..config() }, "root.transit.mount"),
            (TransitConfig { namespace: Some("a b".into()), ..config() }, "root.transit.namespace"),
            (TransitConfig { name: Some("a//b".into()), ..config() }, "root.transit.name"),
            (TransitConfig { token_file: None, ..config() }, "root.transit.token_file"),
            (TransitConfig { kubernetes: kubernetes(), ..config() }, "root.transit.token_file"),
            (TransitConfig { address: "http://10.0.0.1".into(), ..config() }, "root.transit.address"),
        ] {
            let refused = refused(&config);
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn tampering_is_known_by_what_either_cipher_says() {
        for said in
            ["cipher: message authentication failed", "chacha20poly1305: message authentication failed"]
        {
            assert!(is_not_authentic(format!("{{\"errors\":[\"{said}\"]}}").as_bytes()), "{said}");
        }
        for said in
            [r#"{"errors":["permission denied"]}"#, "message authentication failed", r#"{"errors":[]}"#]
        {
            assert!(!is_not_authentic(said.as_bytes()), "{said}");
        }
    }

    #[test]
    fn versions_are_read_from_ciphertexts() {
        assert_eq!(version_of("vault:v12:AAA="), Some("12"));
        for wrong in ["vault:v:AAA=", "vault:v1", "vault:v1:", "vault:vx:A", "v1:A", "vault:v1:a\"b", ""] {
            assert_eq!(version_of(wrong), None, "{wrong}");
        }
    }
}
