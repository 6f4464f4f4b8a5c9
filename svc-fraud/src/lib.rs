//! svc-fraud
