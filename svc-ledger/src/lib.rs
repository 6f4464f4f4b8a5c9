//! svc-ledger
