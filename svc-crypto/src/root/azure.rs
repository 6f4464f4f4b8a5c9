//! Azure Key Vault: an RSA key that never leaves the vault unwraps, `RSA-OAEP-256`.
//!
//! API: <https://learn.microsoft.com/rest/api/keyvault/keys/>, "Wrap Key", "Unwrap Key" and "Get Key", version 7.4; tokens
//! by the OAuth 2.0 client credentials flow of the Microsoft identity platform, with a secret or with a federated
//! token (workload identity). It is held against a double that checks requests by these documents, as no real one
//! could be had.
//!
//! RSA-OAEP binds no context, so the place goes inside: what is wrapped is the key and SHA-256 of the place. Nor does it
//! say who wrapped: whoever can write to the store and knows the public key could put a key of his own in the place of
//! one that is not used yet. Keys that are in use cannot be replaced so, as what they wrapped would not open.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, StatusCode, header};
use mesh::StartError;
use ring::digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    Failure, RootOfTrust,
    api::{Answer, Api, Session, credential, failure, object, unexpected},
};
use crate::domain::{
    canonical,
    rooted::{self, RootName, Stamp},
    secret::{KEY_BYTES, KeyBytes},
};

const API_VERSION: &str = "api-version=7.4";
const ALGORITHM: &str = "RSA-OAEP-256";
const PLACE_LABEL: &[u8] = b"paymesh azure place 1";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A key of Azure Key Vault, as root of trust: RSA, with the operations wrapKey and unwrapKey.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AzureConfig {
    /// Where the vault is: an https URL without a path.
    #[schemars(extend("x-required" = true), example = "https://payments.vault.azure.net")]
    pub address: String,
    /// The key's name.
    #[schemars(extend("x-required" = true), example = &"paymesh")]
    pub key: String,
    /// Which version of the key wraps. All versions that are enabled unwrap what they wrapped. Absent: the newest,
    /// which is asked for each time, and needs the permission to get the key.
    #[schemars(example = "78deebed173b48e48f55abf87ed4cf71")]
    pub key_version: Option<String>,
    /// The directory (tenant) that tokens are asked of: a UUID or a domain.
    #[schemars(extend("x-required" = true), example = "contoso.onmicrosoft.com")]
    pub tenant: String,
    /// The application's id.
    #[schemars(extend("x-required" = true), example = "0c3fd2a8-8a60-43f4-8f9c-2d35ee0ff2c5")]
    pub client_id: String,
    /// A file with the federated token of a workload identity, as Azure's webhook mounts it. Absent:
    /// `client_secret_file` must be there.
    #[schemars(example = "/var/run/secrets/azure/tokens/azure-identity-token")]
    pub federated_token_file: Option<PathBuf>,
    /// A file with the application's secret, where there is no workload identity.
    #[schemars(example = "secrets/azure-client-secret")]
    pub client_secret_file: Option<PathBuf>,
    /// Who gives tokens. Default `https://login.microsoftonline.com`.
    pub authority: String,
    /// What tokens are asked for. Default `https://vault.azure.net/.default`; other clouds have others.
    pub scope: String,
    /// The authorities that certificates are checked against, PEM. Default: those of the system,
    /// `/etc/ssl/certs/ca-certificates.crt`.
    #[schemars(extend("x-file" = "public"))]
    pub ca_file: PathBuf,
}

impl Default for AzureConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            key: String::new(),
            key_version: None,
            tenant: String::new(),
            client_id: String::new(),
            federated_token_file: None,
            client_secret_file: None,
            authority: "https://login.microsoftonline.com".to_owned(),
            scope: "https://vault.azure.net/.default".to_owned(),
            ca_file: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
        }
    }
}

enum Proof {
    Federated(PathBuf),
    Secret(PathBuf),
}

/// The root. Cannot be printed.
pub struct Azure {
    name: RootName,
    vault: Api,
    authority: Api,
    key: String,
    key_version: Option<String>,
    tenant: String,
    client_id: String,
    scope: String,
    proof: Proof,
    session: Session,
}

impl Azure {
    /// Checks the configuration, whose path is `setting`. Nothing is asked yet.
    pub fn new(setting: &str, config: &AzureConfig, timeout: Duration) -> Result<Self, StartError> {
        let wrong = |what: &str| StartError::Config(format!("{setting}.{what}"));
        let named = |text: &str, more: &[u8]| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || more.contains(&byte);
            (1..=127).contains(&text.len()) && text.bytes().all(legal)
        };
        if !named(&config.key, b"") {
            return Err(wrong("key: must be the key's name, of a-z, A-Z, 0-9 and '-'"));
        }
        if !config.key_version.as_deref().is_none_or(is_version) {
            return Err(wrong("key_version: must be 32 lower-case hexadecimal digits"));
        }
        if !named(&config.tenant, b".") || config.tenant.bytes().all(|byte| byte == b'.') {
            return Err(wrong("tenant: must be a UUID or a domain"));
        }
        if !named(&config.client_id, b"") {
            return Err(wrong("client_id: must be the application's UUID"));
        }
        let proof = match (&config.federated_token_file, &config.client_secret_file) {
            (Some(file), None) => Proof::Federated(file.clone()),
            (None, Some(file)) => Proof::Secret(file.clone()),
            _ => {
                return Err(wrong(
                    "federated_token_file: either this or client_secret_file must be given, and not both",
                ));
            }
        };
        let api = |name: &str, address: &str| {
            Api::new(&format!("{setting}.{name}"), address, &config.ca_file, timeout)
        };
        let (vault, authority) = (api("address", &config.address)?, api("authority", &config.authority)?);
        let name = RootName::parse(&format!("azure:{}/{}", vault.host(), config.key))
            .map_err(|error| wrong(&format!("key: the name with the vault's {error}")))?;
        Ok(Self {
            name,
            vault,
            authority,
            key: config.key.clone(),
            key_version: config.key_version.clone(),
            tenant: config.tenant.clone(),
            client_id: config.client_id.clone(),
            scope: config.scope.clone(),
            proof,
            session: Session::default(),
        })
    }

    /// Asks with the token, and where it is refused, once more with another.
    async fn ask(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Result<Answer, Failure> {
        let token = self.session.token(None, self.log_in()).await?;
        let answer = self.ask_with(&token, method.clone(), path, fields).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = self.session.token(Some(&token), self.log_in()).await?;
        self.ask_with(&token, method, path, fields).await
    }

    async fn ask_with(
        &self,
        token: &str,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        let bearer = Zeroizing::new(["Bearer ", token].concat());
        let headers = [(header::AUTHORIZATION, bearer.as_str()), (header::CONTENT_TYPE, "application/json")];
        let body = if method == Method::GET { Zeroizing::default() } else { object(fields) };
        self.vault.send(method, path, &headers, body).await
    }

    async fn log_in(&self) -> Result<(Zeroizing<String>, Duration), Failure> {
        #[derive(Deserialize)]
        struct Said {
            access_token: String,
            expires_in: u32,
        }
        let mut form = vec![
            ("client_id", Zeroizing::new(self.client_id.clone())),
            ("scope", Zeroizing::new(self.scope.clone())),
            ("grant_type", Zeroizing::new("client_credentials".to_owned())),
        ];
        match &self.proof {
            Proof::Federated(file) => {
                form.push(("client_assertion_type", Zeroizing::new(ASSERTION.to_owned())));
                form.push(("client_assertion", credential(file)?));
            }
            Proof::Secret(file) => form.push(("client_secret", credential(file)?)),
        }
        let headers = [(header::CONTENT_TYPE, "application/x-www-form-urlencoded")];
        let path = format!("/{}/oauth2/v2.0/token", self.tenant);
        let answer = self.authority.send(Method::POST, &path, &headers, encoded(&form)).await?;
        if answer.status != StatusCode::OK {
            return Err(failure(answer.status));
        }
        let said: Said = serde_json::from_slice(answer.body()).map_err(|_| unexpected())?;
        Ok((Zeroizing::new(said.access_token), Duration::from_secs(said.expires_in.into())))
    }

    /// The version that wraps.
    async fn version(&self) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Said {
            key: Key,
        }
        #[derive(Deserialize)]
        struct Key {
            kid: String,
        }
        if let Some(version) = &self.key_version {
            return Ok(version.clone());
        }
        let answer = self.ask(Method::GET, &format!("/keys/{}?{API_VERSION}", self.key), &[]).await?;
        if answer.status != StatusCode::OK {
            return Err(failure(answer.status));
        }
        let said: Said = serde_json::from_slice(answer.body()).map_err(|_| unexpected())?;
        let version = said.key.kid.rsplit('/').next().filter(|version| is_version(version));
        version.map(str::to_owned).ok_or_else(unexpected)
    }

    async fn operate(&self, version: &str, operation: &str, value: &[u8]) -> Result<Answer, Failure> {
        let value = Zeroizing::new(URL_SAFE_NO_PAD.encode(value));
        let path = format!("/keys/{}/{version}/{operation}?{API_VERSION}", self.key);
        self.ask(Method::POST, &path, &[("alg", ALGORITHM), ("value", &value)]).await
    }
}

/// The value that an operation answers with.
fn value_of(answer: &Answer) -> Result<Zeroizing<Vec<u8>>, Failure> {
    #[derive(Deserialize)]
    struct Said<'a> {
        value: &'a str,
    }
    let said: Said<'_> = serde_json::from_slice(answer.body()).map_err(|_| unexpected())?;
    URL_SAFE_NO_PAD.decode(said.value).map(Zeroizing::new).map_err(|_| unexpected())
}

fn is_version(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn place(context: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, &canonical::encode(&[PLACE_LABEL, context]))
}

/// `application/x-www-form-urlencoded`: everything but letters, digits, `-`, `.` and `_` as `%` and its byte.
fn encoded(form: &[(&str, Zeroizing<String>)]) -> Zeroizing<Vec<u8>> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let length: usize = form.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(length));
    for (place, (name, value)) in form.iter().enumerate() {
        if place > 0 {
            text.push(b'&');
        }
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
                text.push(byte);
            } else {
                let digit = |at: u8| DIGITS[usize::from(at & 0xf)];
                text.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
            }
        }
    }
    text
}

#[tonic::async_trait]
impl RootOfTrust for Azure {
    fn name(&self) -> &RootName {
        &self.name
    }

    async fn wrap(&self, context: &[u8], key: &KeyBytes) -> Result<Vec<u8>, Failure> {
        let version = self.version().await?;
        let mut value = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES));
        value.extend_from_slice(key.expose());
        value.extend_from_slice(place(context).as_ref());
        let answer = self.operate(&version, "wrapkey", &value).await?;
        if answer.status != StatusCode::OK {
            return Err(failure(answer.status));
        }
        let body = value_of(&answer)?;
        let stamp = Stamp::new(self.name.clone(), &version).ok_or_else(unexpected)?;
        Ok(rooted::encode(&stamp, &body))
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<KeyBytes, Failure> {
        let (stamp, body) = rooted::read(wrapped).ok_or(Failure::Tampered)?;
        if !is_version(&stamp.version) {
            return Err(Failure::Tampered);
        }
        let answer = self.operate(&stamp.version, "unwrapkey", body).await?;
        match answer.status {
            StatusCode::OK => {}
            // What it says of a ciphertext that is not of this key.
            StatusCode::BAD_REQUEST => return Err(Failure::Tampered),
            status => return Err(failure(status)),
        }
        let value = value_of(&answer)?;
        let (key, bound) = value.split_at_checked(KEY_BYTES).ok_or(Failure::Tampered)?;
        if !bool::from(bound.ct_eq(place(context).as_ref())) {
            return Err(Failure::Tampered);
        }
        KeyBytes::from_slice(key).ok_or(Failure::Tampered)
    }
}

#[cfg(test)]
mod tests;
