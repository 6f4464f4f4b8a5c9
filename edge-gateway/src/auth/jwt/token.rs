//! A signed token (RFC 7515, RFC 7519): its parts, and what its claims have to say (RFC 9068, RFC 8725). Pure:
//! keys and the time come in.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use money::{TenantId, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::jwk::{Algorithm, Key};
use crate::auth::scope::{SCOPES_MAX, Scope};

/// Longer tokens are not looked at.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// Not three parts of base64url, or no JSON in them.
    Malformed,
    TooLarge,
    /// It demands an extension that is not known (RFC 7515, section 4.1.11).
    Critical,
    /// Its `typ` is not one of an access token.
    Type,
    /// `none`, an HMAC, or not one that its key is for.
    Algorithm,
    UnknownIssuer,
    UnknownKey,
    Signature,
    Expired,
    NotYetValid,
    Audience,
    /// A claim is missing or has not the right type.
    Claims,
    /// The claim that names the tenant is missing or names none that the issuer speaks for.
    Tenant,
    /// The issuer's keys could not be fetched.
    NoKeys,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// A token that was read but not yet checked.
pub(crate) struct Token<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    typ: Option<String>,
    claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl std::fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// What tokens of an issuer have to say.
#[derive(Debug, Clone)]
pub(crate) struct ClaimRules {
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) types: Vec<String>,
    pub(crate) tenant_claim: String,
    /// The only tenants that the issuer speaks for; none: any.
    pub(crate) tenants: Vec<TenantId>,
    pub(crate) scopes_max: Vec<Scope>,
    pub(crate) clock_skew_s: i64,
}

/// Who a token speaks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) tenant: TenantId,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) subject: String,
}

impl<'a> Token<'a> {
    /// Reads a token in the compact form.
    pub(crate) fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let algorithm = Algorithm::from_name(&header.alg).ok_or(TokenError::Algorithm)?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed)?;
        let signature = decode(signature)?;
        Ok(Self { algorithm, kid: header.kid, typ: header.typ, claims, signed, signature })
    }

    /// Whose it says it is: only good for choosing whom to ask for keys.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Checks the signature, and then what is claimed.
    pub(crate) fn verify(&self, key: &Key, rules: &ClaimRules, now: Timestamp) -> Result<Claims, TokenError> {
        if !key.verify(self.algorithm, self.signed.as_bytes(), &self.signature) {
            return Err(TokenError::Signature);
        }
        if self.issuer() != Some(rules.issuer.as_str()) {
            return Err(TokenError::UnknownIssuer);
        }
        self.check_type(&rules.types)?;
        self.check_audience(&rules.audiences)?;
        self.check_times(rules.clock_skew_s, now)?;
        let text = |name: &str| self.claims.get(name).and_then(Value::as_str);
        let ours = |tenant: &TenantId| rules.tenants.is_empty() || rules.tenants.contains(tenant);
        let tenant = text(&rules.tenant_claim).and_then(|text| text.parse().ok()).filter(ours);
        let tenant = tenant.ok_or(TokenError::Tenant)?;
        let subject = text("sub").filter(|text| !text.is_empty()).ok_or(TokenError::Claims)?.to_owned();
        Ok(Claims { tenant, scopes: self.scopes(&rules.scopes_max), subject })
    }

    /// Without regard to case, and `application/` may be left out (RFC 7515, section 4.1.9).
    fn check_type(&self, types: &[String]) -> Result<(), TokenError> {
        let typ = self.typ.as_deref().ok_or(TokenError::Type)?.to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        if types.iter().any(|known| known.eq_ignore_ascii_case(typ)) { Ok(()) } else { Err(TokenError::Type) }
    }

    fn check_audience(&self, audiences: &[String]) -> Result<(), TokenError> {
        let ours = |value: &Value| value.as_str().is_some_and(|text| audiences.iter().any(|own| own == text));
        let found = match self.claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(ours),
            Some(value) => ours(value),
            None => false,
        };
        if found { Ok(()) } else { Err(TokenError::Audience) }
    }

    fn check_times(&self, skew_s: i64, now: Timestamp) -> Result<(), TokenError> {
        let now = now.as_seconds();
        let time = |name: &str| match self.claims.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => seconds(number).map(Some).ok_or(TokenError::Claims),
            Some(_) => Err(TokenError::Claims),
        };
        if time("exp")?.ok_or(TokenError::Claims)? <= now.saturating_sub(skew_s) {
            return Err(TokenError::Expired);
        }
        let latest = now.saturating_add(skew_s);
        if time("nbf")?.is_some_and(|begin| begin > latest) || time("iat")?.is_some_and(|made| made > latest)
        {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }

    /// Of `scope` (RFC 8693, section 4.2) or `scp`, those that are of our form, within what the issuer may
    /// give.
    fn scopes(&self, most: &[Scope]) -> Vec<Scope> {
        let words: Vec<&str> = match self.claims.get("scope").or_else(|| self.claims.get("scp")) {
            Some(Value::String(text)) => text.split(' ').collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let mut scopes = Vec::new();
        for scope in words.into_iter().filter_map(|word| word.parse::<Scope>().ok()).take(SCOPES_MAX) {
            for limit in most {
                if limit.includes(&scope) {
                    scopes.push(scope.clone());
                } else if scope.includes(limit) {
                    scopes.push(limit.clone());
                }
            }
        }
        scopes.sort();
        scopes.dedup();
        scopes
    }
}

/// A NumericDate (RFC 7519, section 2) in whole seconds; some issuers write fractions.
#[allow(clippy::cast_possible_truncation, reason = "the cast saturates, and beyond that no time is near now")]
fn seconds(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64))
}
