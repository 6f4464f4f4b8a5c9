//! Page tokens: where the next page begins, bound to the query that it belongs to.
//!
//! A token is 32 hexadecimal digits: the time of opening of the last account shown, and a fingerprint
//! of the tenant and the filters. Accounts opened meanwhile are newer than every token, so that pages
//! neither repeat nor skip an account.

use money::{TenantId, Timestamp};
use uuid::Uuid;

use crate::domain::{Code, LedgerCode};

/// The page was asked for with a token that is none, or one of another query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the next_page_token of an earlier answer to the same query")]
pub(crate) struct TokenError;

/// What a page belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) ledger: Option<LedgerCode>,
    pub(crate) code: Option<&'a Code>,
}

impl Query<'_> {
    /// The token of the page that begins after this account.
    pub(crate) fn token(&self, last: Timestamp) -> String {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&last.as_nanos().to_be_bytes());
        bytes[8..].copy_from_slice(&self.fingerprint());
        Uuid::from_bytes(bytes).simple().to_string()
    }

    /// Where the page of this token begins.
    pub(crate) fn position(&self, token: &str) -> Result<Timestamp, TokenError> {
        if token.len() != 32 {
            return Err(TokenError);
        }
        let bytes = Uuid::try_parse(token).map_err(|_| TokenError)?.into_bytes();
        let (Some((position, fingerprint)), expected) = (bytes.split_first_chunk::<8>(), self.fingerprint())
        else {
            return Err(TokenError);
        };
        if fingerprint != expected {
            return Err(TokenError);
        }
        Ok(Timestamp::from_nanos(i64::from_be_bytes(*position)))
    }

    /// Guards against mistakes, not against forgery: the tenant is in the query itself anyway.
    fn fingerprint(&self) -> [u8; 8] {
        let ledger = self.ledger.as_ref().map_or("", LedgerCode::as_str);
        let code = self.code.map_or("", Code::as_str);
        // None of the three can hold the separator.
        let name = format!("{}/{ledger}/{code}", self.tenant);
        let (first, _) = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).as_u64_pair();
        first.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_for_its_own_query_only() {
        let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let code: Code = "cash".parse().unwrap();
        let query = Query { tenant: &acme, ledger: None, code: Some(&code) };
        let at = Timestamp::from_nanos(1_700_000_000_123_456_789);
        let token = query.token(at);
        assert_eq!(query.position(&token), Ok(at));
        for foreign in [
            Query { tenant: &other, ..query },
            Query { code: None, ..query },
            Query { ledger: "EUR".parse().ok(), ..query },
        ] {
            assert_eq!(foreign.position(&token), Err(TokenError));
        }
        for wrong in ["", "x", &token[1..], &format!("{token}0"), &"z".repeat(32)] {
            assert_eq!(query.position(wrong), Err(TokenError), "{wrong:?}");
        }
    }
}
