//! The built-in table: who calls what where no policy file says otherwise.

/// A workload, and what it may call: a gRPC service with `*` for all of its RPCs, or one RPC.
pub(super) type Grant = (&'static str, &'static [&'static str]);

const EDGE: &str = "edge-gateway";
const CRYPTO: &str = "svc-crypto";
const LEDGER: &str = "svc-ledger";
/// The only workload that sees a card number.
pub(super) const PAYMENTS: &str = "svc-payments";
const FRAUD: &str = "svc-fraud";
const TAX: &str = "svc-tax";
const OPERATOR: &str = "operator";

pub(super) const GRANTS: &[Grant] = &[
    (
        EDGE,
        &[
            "paymesh.crypto.v1.VaultService/Tokenize",
            "paymesh.crypto.v1.VaultService/GetToken",
            "paymesh.crypto.v1.VaultService/DeleteToken",
            "paymesh.payments.v1.PaymentService/*",
            "paymesh.payments.v1.WebhookService/ReceiveWebhook",
            "paymesh.tax.v1.TaxService/*",
            "paymesh.ledger.v1.LedgerService/ListAccounts",
            "paymesh.ledger.v1.LedgerService/GetAccount",
            "paymesh.ledger.v1.LedgerService/GetTrialBalance",
            "paymesh.ledger.v1.LedgerService/ListAccountTransfers",
            "paymesh.ledger.v1.LedgerService/ListAccountBalances",
            "paymesh.ledger.v1.LedgerService/GetBalancesAsOf",
            "paymesh.ledger.v1.LedgerService/QueryTransfers",
            "grpc.health.v1.Health/*",
        ],
    ),
    (
        PAYMENTS,
        &[
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
    // A person with a certificate: everything but card numbers and what tenants' keys encrypt.
    (
        OPERATOR,
        &[
            "paymesh.crypto.v1.VaultService/Tokenize",
            "paymesh.crypto.v1.VaultService/BatchTokenize",
            "paymesh.crypto.v1.VaultService/GetToken",
            "paymesh.crypto.v1.VaultService/BatchGetTokens",
            "paymesh.crypto.v1.VaultService/DeleteToken",
            "paymesh.crypto.v1.VaultService/BatchDeleteTokens",
            "paymesh.crypto.v1.KeyService/*",
            "paymesh.crypto.v1.AuditService/*",
            "paymesh.crypto.v1.RootService/*",
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
