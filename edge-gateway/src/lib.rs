//! edge-gateway
