//! The one policy table: which workload may call which RPC. What is not in it is denied.

use std::collections::{HashMap, HashSet};

use crate::identity::SpiffeId;

/// Who may call, and what: a gRPC service with `*` for all of its RPCs, or one RPC.
type Grant = (&'static str, &'static [&'static str]);

const EDGE: &str = "edge-gateway";
const CRYPTO: &str = "svc-crypto";
const LEDGER: &str = "svc-ledger";
const PAYMENTS: &str = "svc-payments";
const FRAUD: &str = "svc-fraud";
const TAX: &str = "svc-tax";
const OPERATOR: &str = "operator";

const GRANTS: &[Grant] = &[
    (
        EDGE,
        &[
            "paymesh.crypto.v1.VaultService/Tokenize",
            "paymesh.crypto.v1.VaultService/GetToken",
            "paymesh.payments.v1.PaymentService/*",
            "paymesh.payments.v1.WebhookService/ReceiveWebhook",
            "paymesh.tax.v1.TaxService/*",
            "paymesh.ledger.v1.LedgerService/ListAccounts",
            "paymesh.ledger.v1.LedgerService/GetAccount",
            "paymesh.ledger.v1.LedgerService/GetTrialBalance",
            "grpc.health.v1.Health/*",
        ],
    ),
    (
        PAYMENTS,
        &[
            // The only workload that may see a card number.
            "paymesh.crypto.v1.VaultService/Detokenize",
            "paymesh.crypto.v1.VaultService/BatchDetokenize",
            "paymesh.crypto.v1.VaultService/BatchGetTokens",
            "paymesh.crypto.v1.VaultService/GetToken",
            "paymesh.crypto.v1.CryptoService/*",
            "paymesh.ledger.v1.LedgerService/CreateAccounts",
            "paymesh.ledger.v1.LedgerService/CreateTransfers",
            "paymesh.ledger.v1.LedgerService/LookupAccounts",
            "paymesh.ledger.v1.LedgerService/LookupTransfers",
            "paymesh.fraud.v1.FraudService/*",
            "paymesh.tax.v1.TaxService/*",
            "grpc.health.v1.Health/*",
        ],
    ),
    (CRYPTO, &["grpc.health.v1.Health/*"]),
    (LEDGER, &["grpc.health.v1.Health/*"]),
    (FRAUD, &["grpc.health.v1.Health/*"]),
    (TAX, &["grpc.health.v1.Health/*"]),
    // A person with a certificate: everything but card numbers and the tenants' own data keys.
    (
        OPERATOR,
        &[
            "paymesh.crypto.v1.VaultService/Tokenize",
            "paymesh.crypto.v1.VaultService/GetToken",
            "paymesh.crypto.v1.VaultService/BatchGetTokens",
            "paymesh.ledger.v1.LedgerService/*",
            "paymesh.payments.v1.PaymentService/*",
            "paymesh.fraud.v1.FraudService/*",
            "paymesh.tax.v1.TaxService/*",
            "paymesh.echo.v1.EchoService/*",
            "grpc.health.v1.Health/*",
            "grpc.reflection.v1.ServerReflection/*",
        ],
    ),
];

/// Identity × RPC → allow. Deny by default.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Workload name → the grants it has, as `service/method` or `service/*`.
    grants: HashMap<&'static str, HashSet<&'static str>>,
}

impl Policy {
    /// The mesh's own table.
    pub fn standard() -> Self {
        Self { grants: GRANTS.iter().map(|(name, rpcs)| (*name, rpcs.iter().copied().collect())).collect() }
    }

    /// Whether the caller may call `path`, the `:path` of a gRPC request: `/package.Service/Method`.
    pub fn allows(&self, caller: &SpiffeId, path: &str) -> bool {
        let Some(rpc) = path.strip_prefix('/') else { return false };
        let Some((service, method)) = rpc.split_once('/') else { return false };
        if method.is_empty() || method.contains('/') {
            return false;
        }
        let Some(grants) = self.grants.get(caller.name()) else { return false };
        grants.contains(rpc) || grants.iter().any(|grant| grant.strip_suffix("/*") == Some(service))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> SpiffeId {
        SpiffeId::of(name).unwrap()
    }

    #[test]
    fn a_card_number_is_for_payments_only() {
        let policy = Policy::standard();
        for rpc in ["Detokenize", "BatchDetokenize"] {
            let path = format!("/paymesh.crypto.v1.VaultService/{rpc}");
            for name in [EDGE, CRYPTO, LEDGER, FRAUD, TAX, OPERATOR, "stranger"] {
                assert!(!policy.allows(&id(name), &path), "{name} {path}");
            }
            assert!(policy.allows(&id(PAYMENTS), &path));
        }
    }

    #[test]
    fn what_is_not_granted_is_denied_and_a_grant_is_not_a_prefix() {
        let policy = Policy::standard();
        assert!(!policy.allows(&id("stranger"), "/grpc.health.v1.Health/Check"));
        for path in [
            "",
            "/",
            "grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/",
            "/grpc.health.v1.Health/*/x",
            "/grpc.health.v1.HealthX/Check",
            "//grpc.health.v1.Health/Check",
        ] {
            assert!(!policy.allows(&id(OPERATOR), path), "{path}");
        }
    }

    /// A grant for an RPC that does not exist is a typing error; an annotated RPC that the edge may not
    /// call is a hole in the REST API.
    #[test]
    fn the_table_agrees_with_the_contract() {
        let pool = paymesh_proto::descriptor_pool();
        let mut known = HashSet::new();
        for service in pool.services() {
            known.insert(format!("{}/*", service.full_name()));
            known.extend(service.methods().map(|m| format!("{}/{}", service.full_name(), m.name())));
        }
        for (name, rpcs) in GRANTS {
            for rpc in rpcs.iter().filter(|rpc| rpc.starts_with("paymesh.")) {
                assert!(known.contains(*rpc), "{name} is granted {rpc}, which does not exist");
            }
        }
        let policy = Policy::standard();
        let http = pool.get_extension_by_name("google.api.http").unwrap();
        for method in pool.services().flat_map(|s| s.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            assert_eq!(method.options().has_extension(&http), policy.allows(&id(EDGE), &path), "{path}");
        }
    }
}
