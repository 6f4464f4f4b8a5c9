//! Access tokens of OpenID Connect providers: JWT (RFC 7519) in the profile of RFC 9068, checked as RFC 8725
//! advises.
//!
//! Which issuers are trusted, for which audience, and what their tokens may at most do is said by the
//! configuration; keys come from the issuer alone, never from a token's header (`jku`, `x5u` and `jwk` are not
//! looked at). The verifier is our own over ring: the well-known crate has no ring behind it.

mod fetch;
mod issuer;
mod jwk;
mod token;

pub(crate) use self::{
    issuer::Issuer,
    token::{Claims, Token, TokenError},
};

#[cfg(test)]
mod tests;
