//! svc-tax
