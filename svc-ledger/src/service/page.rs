//! Page tokens: where the next page begins, bound to the query that it belongs to.
//!
//! A token is 32 hexadecimal digits: a time, and a fingerprint of the tenant and of the request without its
//! paging. What happens meanwhile is newer than every token of an answer that is newest first, so that pages
//! neither repeat nor skip anything.

use std::mem;

use mesh::Violations;
use money::{TenantId, Timestamp};
use paymesh_proto::ledger::v1 as proto;
use uuid::Uuid;

use crate::store::ports::{Period, Window};

/// The page was asked for with a token that is none, or one of another query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the next_page_token of an earlier answer to the same query")]
pub(super) struct TokenError;

/// How many items a page has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Where none is asked for.
    pub(super) default: usize,
    /// At most.
    pub(super) max: usize,
}

/// What a request says of paging.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    size: i32,
    token: String,
    oldest_first: bool,
    /// Nanoseconds.
    from_ns: i64,
    /// Nanoseconds; 0 for no bound.
    to_ns: i64,
}

/// A request whose answer comes in pages.
pub(super) trait Paged: std::fmt::Debug {
    /// Takes size and token out, so that requests for pages of the same query are the same.
    fn take_paging(&mut self) -> Asked;
}

macro_rules! paged {
    ($($request:ident),+) => {$(
        impl Paged for proto::$request {
            fn take_paging(&mut self) -> Asked {
                let (size, token) = (mem::take(&mut self.page_size), mem::take(&mut self.page_token));
                let Self { oldest_first, from_ns, to_ns, .. } = *self;
                Asked { size, token, oldest_first, from_ns, to_ns }
            }
        }
    )+};
}

paged!(QueryAccountsRequest, QueryTransfersRequest, ListAccountTransfersRequest, ListAccountBalancesRequest);

/// A query whose pages belong together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query([u8; 8]);

impl Query {
    /// `what` is everything of the request but its paging, spelled in one way only.
    pub(super) fn new(tenant: &TenantId, rpc: &str, what: &impl std::fmt::Debug) -> Self {
        let name = format!("{tenant}/{rpc}/{what:?}");
        let (first, _) = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).as_u64_pair();
        Self(first.to_be_bytes())
    }

    /// The token of the page that begins at this time.
    pub(super) fn token(self, at: Timestamp) -> String {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&at.as_nanos().to_be_bytes());
        bytes[8..].copy_from_slice(&self.0);
        Uuid::from_bytes(bytes).simple().to_string()
    }

    /// Where the page of this token begins. Guards against mistakes, not against forgery: the tenant is in the
    /// query itself anyway.
    pub(super) fn position(self, token: &str) -> Result<Timestamp, TokenError> {
        let bytes =
            Some(token).filter(|token| token.len() == 32).and_then(|token| Uuid::try_parse(token).ok());
        let bytes = bytes.ok_or(TokenError)?.into_bytes();
        match bytes.split_first_chunk::<8>() {
            Some((position, fingerprint)) if fingerprint == self.0 => {
                Ok(Timestamp::from_nanos(i64::from_be_bytes(*position)))
            }
            _ => Err(TokenError),
        }
    }

    /// The part of time and the number of items that a page is made of.
    pub(super) fn page(self, asked: &Asked, sizes: Sizes, violations: &mut Violations) -> (Period, Window) {
        let Asked { size, ref token, oldest_first, from_ns, to_ns } = *asked;
        let limit = match usize::try_from(size) {
            Ok(0) => sizes.default,
            Ok(size) if size <= sizes.max => size,
            _ => {
                let Sizes { default, max } = sizes;
                violations.add("page_size", format!("must be from 1 to {max}, or 0 for {default}"));
                default
            }
        };
        let to = if to_ns == 0 { i64::MAX } else { to_ns };
        let mut period = Period { from: Timestamp::from_nanos(from_ns), to: Timestamp::from_nanos(to) };
        if from_ns < 0 {
            violations.add("from_ns", "must not be negative");
        }
        if to < from_ns {
            violations.add("to_ns", "must not be before from_ns");
        }
        let window = Window { newest_first: !oldest_first, limit };
        if !token.is_empty()
            && let Some(at) = violations.check("page_token", self.position(token))
        {
            go_on(&mut period, window, at);
        }
        (period, window)
    }
}

/// Narrows a period to what comes after a page.
pub(super) fn go_on(period: &mut Period, window: Window, resume: Timestamp) {
    if window.newest_first {
        period.to = resume;
    } else {
        period.from = resume;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { default: 20, max: 100 };

    fn asked(token: &str) -> Asked {
        Asked { size: 0, token: token.to_owned(), oldest_first: false, from_ns: 5, to_ns: 0 }
    }

    #[test]
    fn a_token_reads_back_for_its_own_query_only() {
        let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let query = Query::new(&acme, "List", &("EUR", "cash"));
        let at = Timestamp::from_nanos(1_700_000_000_123_456_789);
        let token = query.token(at);
        assert_eq!(query.position(&token), Ok(at));
        for foreign in [
            Query::new(&other, "List", &("EUR", "cash")),
            Query::new(&acme, "Query", &("EUR", "cash")),
            Query::new(&acme, "List", &("EUR", "")),
        ] {
            assert_eq!(foreign.position(&token), Err(TokenError));
        }
        for wrong in ["", "x", &token[1..], &format!("{token}0"), &"z".repeat(32)] {
            assert_eq!(query.position(wrong), Err(TokenError), "{wrong:?}");
        }
    }

    #[test]
    fn a_page_goes_on_where_the_last_one_ended() {
        let query = Query::new(&"acme".parse().unwrap(), "List", &());
        let token = query.token(Timestamp::from_nanos(50));
        let page = |asked: Asked| {
            let mut violations = Violations::new();
            let (period, window) = query.page(&asked, SIZES, &mut violations);
            violations.finish().map(|()| (period.from.as_nanos(), period.to.as_nanos(), window.limit))
        };
        assert_eq!(page(asked("")).unwrap(), (5, i64::MAX, 20));
        assert_eq!(page(asked(&token)).unwrap(), (5, 50, 20));
        assert_eq!(
            page(Asked { oldest_first: true, size: 100, ..asked(&token) }).unwrap(),
            (50, i64::MAX, 100)
        );
        for wrong in [
            Asked { size: 101, ..asked("") },
            Asked { size: -1, ..asked("") },
            Asked { from_ns: -1, ..asked("") },
            Asked { to_ns: 4, ..asked("") },
            asked("no token"),
        ] {
            assert!(page(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
