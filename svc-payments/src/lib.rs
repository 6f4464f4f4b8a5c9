//! svc-payments
