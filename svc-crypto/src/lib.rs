//! svc-crypto
