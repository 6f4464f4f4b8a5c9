//! Azure Key Vault: an RSA key that never leaves the vault unwraps, `RSA-OAEP-256`, and another signs what was wrapped,
//! `PS256`.
//!
//! API: <https://learn.microsoft.com/rest/api/keyvault/keys/>, "Wrap Key", "Unwrap Key", "Sign" and "Get Key", version 7.4;
//! tokens by the OAuth 2.0 client credentials flow of the Microsoft identity platform, with a secret or with a federated
//! token (workload identity). It is held against a double that checks requests by these documents, as no real one
//! could be had.
//!
//! RSA-OAEP is public-key encryption: everybody can wrap, and it binds no context. So the vault signs what it wrapped,
//! with its place, and nothing is unwrapped whose signature is not good. Signatures are verified here, with the public
//! half as the vault gives it.
//!
//! Version of what is kept: that of the wrapping key, a dot, and that of the signing key. Body: the length of the
//! signature, 16 bits, big endian; the signature; what RSA-OAEP made.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, StatusCode, header};
use mesh::StartError;
use ring::{
    digest,
    signature::{RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Failure, RootOfTrust,
    api::{Answer, Api, Session, credential, failure, object, unexpected},
};
use crate::domain::{
    canonical,
    rooted::{self, RootName, Stamp},
    secret::KeyBytes,
};

const API_VERSION: &str = "api-version=7.4";
const WRAPS_BY: &str = "RSA-OAEP-256";
const SIGNS_BY: &str = "PS256";
const SIGNED_LABEL: &[u8] = b"paymesh azure wrapped key 1";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Two RSA keys of Azure Key Vault, as root of trust: one wraps, the other signs what was wrapped.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AzureConfig {
    /// Where the vault is: an https URL without a path.
    #[schemars(extend("x-required" = true), example = "https://payments.vault.azure.net")]
    pub address: String,
    /// The name of the key that wraps, with the operations wrapKey and unwrapKey.
    #[schemars(extend("x-required" = true), example = &"paymesh")]
    pub key: String,
    /// The name of the key that signs, with the operation sign; another than the one that wraps. Its newest version
    /// signs, and each that is enabled vouches for what it signed.
    #[schemars(extend("x-required" = true), example = &"paymesh-signing")]
    pub signing_key: String,
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
            signing_key: String::new(),
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
    signing_key: String,
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
        if !named(&config.signing_key, b"") || config.signing_key.eq_ignore_ascii_case(&config.key) {
            return Err(wrong(
                "signing_key: must be the name of another key than key, of a-z, A-Z, 0-9 and '-'",
            ));
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
        // Whose signatures count is part of which root it is.
        let name = format!("azure:{}/{}/{}", vault.host(), config.key, config.signing_key);
        let name = RootName::parse(&name)
            .map_err(|error| wrong(&format!("key: the name with the vault's {error}")))?;
        Ok(Self {
            name,
            vault,
            authority,
            key: config.key.clone(),
            signing_key: config.signing_key.clone(),
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
        let token = self.session.token(self.log_in()).await?;
        let answer = self.ask_with(&token, method.clone(), path, fields).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.session.another(&token, self.log_in()).await? {
            Some(token) => self.ask_with(&token, method, path, fields).await,
            None => Ok(answer),
        }
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
            return Err(failure(&answer));
        }
        let said: Said = serde_json::from_slice(answer.body()).map_err(|_| unexpected())?;
        Ok((Zeroizing::new(said.access_token), Duration::from_secs(said.expires_in.into())))
    }

    /// A key of the vault, in this version or the newest.
    async fn get(&self, key: &str, version: Option<&str>) -> Result<Got, Failure> {
        #[derive(Deserialize)]
        struct Said {
            key: Key,
        }
        #[derive(Deserialize)]
        struct Key {
            kid: String,
            #[serde(default)]
            n: String,
            #[serde(default)]
            e: String,
        }
        let version = version.map(|version| format!("/{version}")).unwrap_or_default();
        let answer = self.ask(Method::GET, &format!("/keys/{key}{version}?{API_VERSION}"), &[]).await?;
        if answer.status != StatusCode::OK {
            return Err(failure(&answer));
        }
        let said: Said = serde_json::from_slice(answer.body()).map_err(|_| unexpected())?;
        let version = said.key.kid.rsplit('/').next().filter(|version| is_version(version));
        let version = version.ok_or_else(unexpected)?.to_owned();
        let number = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| unexpected());
        Ok(Got {
            version,
            public: RsaPublicKeyComponents { n: number(&said.key.n)?, e: number(&said.key.e)? },
        })
    }

    /// What an operation makes of a value.
    async fn operate(
        &self,
        (key, version): (&str, &str),
        operation: &str,
        (algorithm, value): (&str, &[u8]),
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let value = Zeroizing::new(URL_SAFE_NO_PAD.encode(value));
        let path = format!("/keys/{key}/{version}/{operation}?{API_VERSION}");
        let answer = self.ask(Method::POST, &path, &[("alg", algorithm), ("value", &value)]).await?;
        if answer.status == StatusCode::OK { value_of(&answer) } else { Err(failure(&answer)) }
    }

    /// What is signed: a signature is good for this root, place, pair of versions and ciphertext alone.
    fn signed(&self, context: &[u8], versions: &str, wrapped: &[u8]) -> Vec<u8> {
        canonical::encode(&[
            SIGNED_LABEL,
            self.name.as_str().as_bytes(),
            context,
            versions.as_bytes(),
            wrapped,
        ])
    }
}

/// A key as the vault gives it.
struct Got {
    version: String,
    /// Empty where it is not of RSA.
    public: RsaPublicKeyComponents<Vec<u8>>,
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
        let version = match &self.key_version {
            Some(version) => version.clone(),
            None => self.get(&self.key, None).await?.version,
        };
        let wrapped = self.operate((&self.key, &version), "wrapkey", (WRAPS_BY, key.expose())).await?;
        let signing = self.get(&self.signing_key, None).await?;
        let versions = format!("{version}.{}", signing.version);
        let signed = self.signed(context, &versions, &wrapped);
        let digest = digest::digest(&digest::SHA256, &signed);
        let by = (&*self.signing_key, &*signing.version);
        let signature = self.operate(by, "sign", (SIGNS_BY, digest.as_ref())).await?;
        // What is kept is what will be believed.
        signing.public.verify(&RSA_PSS_2048_8192_SHA256, &signed, &signature).map_err(|_| {
            Failure::Refused("the signing key must be of RSA, of 2048 bits or more, and sign by PS256".into())
        })?;
        let length = u16::try_from(signature.len()).map_err(|_| unexpected())?;
        let stamp = Stamp::new(self.name.clone(), &versions).ok_or_else(unexpected)?;
        Ok(rooted::encode(&stamp, &[&length.to_be_bytes()[..], &signature, &wrapped].concat()))
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<KeyBytes, Failure> {
        let (stamp, body) = rooted::read(wrapped).ok_or(Failure::Tampered)?;
        let versions = stamp.version.split_once('.').filter(|(a, b)| is_version(a) && is_version(b));
        let (version, signing) = versions.ok_or(Failure::Tampered)?;
        let (length, rest) = body.split_first_chunk().ok_or(Failure::Tampered)?;
        let (signature, wrapped) =
            rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(Failure::Tampered)?;
        let signing = self.get(&self.signing_key, Some(signing)).await?;
        let signed = self.signed(context, &stamp.version, wrapped);
        let verified = signing.public.verify(&RSA_PSS_2048_8192_SHA256, &signed, signature);
        verified.map_err(|_| Failure::Tampered)?;
        let key = self.operate((&self.key, version), "unwrapkey", (WRAPS_BY, wrapped)).await?;
        KeyBytes::from_slice(&key).ok_or(Failure::Tampered)
    }
}

#[cfg(test)]
mod tests;
