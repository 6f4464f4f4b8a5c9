//! Who may call what, for whom: every principal × every RPC of the contract × no tenant, its own and another,
//! over real mTLS against the real services. What should come out is written down here by hand, RPC by RPC,
//! and not read from the policy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::{collections::BTreeSet, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use mesh::{
    Call, Clock as _, Fault, Ids as _, RandomIds, Reason, SpiffeId, SystemClock, Upstream,
    pki::CertificateAuthority, tls::Identity,
};
use paymesh::dev::SERVICES;
use serde_json::json;
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use support::{Mesh, VISA, get, id_of, payment_body, post, token};

/// One RPC.
struct Row {
    rpc: &'static str,
    /// Who may call it: E(dge), P(ayments), O(perator), A(nyone of the mesh's own).
    may: &'static str,
    /// What it shows of one tenant to nobody else.
    shows: Shows,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    Nothing,
    Token,
    Payment,
    Calculation,
}

const fn row(rpc: &'static str, may: &'static str, shows: Shows) -> Row {
    Row { rpc, may, shows }
}

const ROWS: [Row; 85] = [
    row("paymesh.crypto.v1.AuditService/VerifyAuditLog", "O", Shows::Nothing),
    row("paymesh.crypto.v1.AuditService/ListAuditRecords", "O", Shows::Nothing),
    row("paymesh.crypto.v1.RootService/GetRootStatus", "O", Shows::Nothing),
    row("paymesh.crypto.v1.RootService/RotateRoot", "O", Shows::Nothing),
    row("paymesh.crypto.v1.RootService/Unseal", "O", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/Encrypt", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/Decrypt", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/Rewrap", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/Translate", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/GenerateDataKey", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/GenerateWrappedDataKey", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/DecryptDataKey", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/ComputeMac", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/VerifyMac", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/BlindIndex", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/EncryptDeterministic", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/EncryptFormat", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/DecryptFormat", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/Sign", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/Verify", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/Batch", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/Stream", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/EncryptLarge", "P", Shows::Nothing),
    row("paymesh.crypto.v1.CryptoService/DecryptLarge", "P", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/CreateKey", "O", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/GetKey", "O", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/ListKeys", "O", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/RotateKey", "O", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/UpdateKey", "O", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/DisableKey", "O", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/EnableKey", "O", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/ScheduleKeyDestruction", "O", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/CancelKeyDestruction", "O", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/GetImportParameters", "O", Shows::Nothing),
    row("paymesh.crypto.v1.KeyService/ImportKey", "O", Shows::Nothing),
    row("paymesh.crypto.v1.VaultService/Tokenize", "EO", Shows::Nothing),
    row("paymesh.crypto.v1.VaultService/GetToken", "EPO", Shows::Token),
    row("paymesh.crypto.v1.VaultService/Detokenize", "P", Shows::Token),
    row("paymesh.crypto.v1.VaultService/BatchDetokenize", "P", Shows::Nothing),
    row("paymesh.crypto.v1.VaultService/BatchGetTokens", "PO", Shows::Nothing),
    row("paymesh.crypto.v1.VaultService/BatchTokenize", "O", Shows::Nothing),
    // Asked for no token: whoever may would delete the one that the others are shown.
    row("paymesh.crypto.v1.VaultService/DeleteToken", "EO", Shows::Nothing),
    row("paymesh.crypto.v1.VaultService/BatchDeleteTokens", "O", Shows::Nothing),
    row("paymesh.echo.v1.EchoService/Echo", "O", Shows::Nothing),
    row("paymesh.echo.v1.EchoService/BatchEcho", "O", Shows::Nothing),
    row("paymesh.fraud.v1.FraudService/Assess", "PO", Shows::Nothing),
    row("paymesh.fraud.v1.FraudService/BatchAssess", "PO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/CreateAccounts", "PO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/CreateTransfers", "PO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/LookupAccounts", "PO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/LookupTransfers", "PO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/ListAccounts", "EO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/GetAccount", "EO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/GetTrialBalance", "EO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/ListAccountTransfers", "EO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/ListAccountBalances", "EO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/GetBalancesAsOf", "EO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/QueryTransfers", "EO", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/SetAccountLimits", "O", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/QueryAccounts", "O", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/StreamTransfers", "O", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/WatchTransfers", "O", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/ExportJournal", "O", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/VerifyJournal", "O", Shows::Nothing),
    row("paymesh.ledger.v1.LedgerService/Audit", "O", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/CreatePayment", "EO", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/GetPayment", "EO", Shows::Payment),
    row("paymesh.payments.v1.PaymentService/ListPayments", "EO", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/ConfirmPayment", "EO", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/ResolveReview", "EO", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/CapturePayment", "EO", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/IncrementAuthorization", "EO", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/ExtendAuthorization", "EO", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/CancelPayment", "EO", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/CreateRefund", "EO", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/GetRefund", "EO", Shows::Nothing),
    row("paymesh.payments.v1.PaymentService/ListRefunds", "EO", Shows::Payment),
    row("paymesh.payments.v1.PaymentService/ListPaymentEvents", "EO", Shows::Payment),
    row("paymesh.payments.v1.PaymentService/WatchPaymentEvents", "EO", Shows::Nothing),
    row("paymesh.payments.v1.WebhookService/ReceiveWebhook", "E", Shows::Nothing),
    row("paymesh.tax.v1.TaxService/Calculate", "EPO", Shows::Nothing),
    row("paymesh.tax.v1.TaxService/GetCalculation", "EPO", Shows::Calculation),
    row("grpc.health.v1.Health/Check", "A", Shows::Nothing),
    row("grpc.health.v1.Health/Watch", "A", Shows::Nothing),
    row("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "O", Shows::Nothing),
];

/// A stranger has a certificate of the mesh's CA and no grant at all.
const PRINCIPALS: [&str; 8] = [
    "edge-gateway",
    "svc-payments",
    "operator",
    "svc-crypto",
    "svc-ledger",
    "svc-fraud",
    "svc-tax",
    "stranger",
];

fn may(row: &Row, principal: &str) -> bool {
    match principal {
        "stranger" => false,
        _ if row.may == "A" => true,
        "edge-gateway" => row.may.contains('E'),
        "svc-payments" => row.may.contains('P'),
        "operator" => row.may.contains('O'),
        _ => false,
    }
}

/// The services to ask: the one of the RPC's package; all of them for what all have. Nobody serves the echo
/// here, so any will do.
fn served_by(rpc: &str) -> Vec<&'static str> {
    match rpc.split('.').nth(1) {
        _ if rpc.starts_with("grpc.") => SERVICES.to_vec(),
        Some("echo") => vec!["svc-tax"],
        area => SERVICES.into_iter().filter(|name| name.strip_prefix("svc-") == area).collect(),
    }
}

#[tokio::test]
async fn every_cell_is_as_written() {
    let written: BTreeSet<String> = ROWS.iter().map(|row| row.rpc.to_owned()).collect();
    let pool = paymesh_proto::descriptor_pool();
    let contract = pool.services().flat_map(|service| {
        let name = service.full_name().to_owned();
        service.methods().map(|method| format!("{name}/{}", method.name())).collect::<Vec<_>>()
    });
    let standard = ROWS.iter().map(|row| row.rpc.to_owned()).filter(|rpc| rpc.starts_with("grpc."));
    assert_eq!(written, contract.chain(standard).collect(), "every RPC of the contract has its row");

    let mesh = Mesh::start_for(&["acme", "umbrella"]).await;
    let rest = mesh.rest_of("acme");
    let card = token(&rest, VISA).await;
    let payment = post(&rest, "/v1/payments", "k1", &payment_body(&card, 1_000, "EUR", "AUTOMATIC")).await;
    let lines = json!({"currency": "EUR", "ship_to": {"country": "DE"}, "lines": [{"amount": 1_000}]});
    let calculation = post(&rest, "/v1/tax/calculations", "k2", &lines).await;
    get(&rest, &format!("/v1/payments/{}", id_of(&payment))).await;

    let pki = CertificateAuthority::open_or_create(&mesh.dir.path().join("pki"), SystemClock.now()).unwrap();
    let (mut cells, mut wrong) = (0, Vec::new());
    for principal in PRINCIPALS {
        let identity = Identity::load(&pki.issue(principal, SystemClock.now()).unwrap()).unwrap();
        for row in &ROWS {
            let id = match row.shows {
                Shows::Nothing => String::new(),
                Shows::Token => card.clone(),
                Shows::Payment => id_of(&payment),
                Shows::Calculation => id_of(&calculation),
            };
            for service in served_by(row.rpc) {
                let address = &mesh.dev.description().services[service];
                let upstream = Upstream::new(&identity, &SpiffeId::of(service).unwrap(), address).unwrap();
                for tenant in [None, Some("acme"), Some("umbrella")] {
                    let answer = call(upstream.clone(), row.rpc, tenant, &id).await;
                    cells += 1;
                    if let Err(told) = judge(row, may(row, principal), tenant, &answer) {
                        wrong.push(format!("{principal} × {} at {service} × {tenant:?}: {told}", row.rpc));
                    }
                }
            }
        }
    }
    println!("{cells} cells");
    assert!(wrong.is_empty(), "{} of {cells} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
    mesh.dev.stop().await;
}

/// What is wrong with an answer, if anything.
fn judge(row: &Row, may: bool, tenant: Option<&str>, answer: &Result<(), Status>) -> Result<(), String> {
    let reason = answer.as_ref().err().map(|status| Fault::from_status(status).reason());
    let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
    let said = || format!("answered {code:?} {reason:?}");
    let right = match (may, row.shows, tenant) {
        (false, ..) => code == Code::PermissionDenied && reason == Some(Reason::PermissionDenied),
        (true, Shows::Nothing, _) => !matches!(
            code,
            Code::PermissionDenied | Code::Unauthenticated | Code::Unavailable | Code::Internal
        ),
        (true, _, None) => reason == Some(Reason::TenantRequired),
        (true, _, Some("acme")) => code == Code::Ok,
        (true, _, Some(_)) => code == Code::NotFound,
    };
    if right { Ok(()) } else { Err(said()) }
}

/// A request whose first field is `id`, or an empty one; the first message of the answer counts.
async fn call(upstream: Upstream, rpc: &str, tenant: Option<&str>, id: &str) -> Result<(), Status> {
    let tenant = tenant.map(|tenant| tenant.parse().unwrap());
    let fresh = RandomIds.uuid_v7(SystemClock.now());
    let call = Call::begin(SpiffeId::of("operator").unwrap(), tenant, fresh);
    let mut message = Vec::new();
    if !id.is_empty() {
        // Field 1, length-delimited; ids are shorter than 128 bytes.
        message.extend([0x0a, u8::try_from(id.len()).unwrap()]);
        message.extend(id.as_bytes());
    }
    let mut request = call.request(tonic::codegen::tokio_stream::once(Bytes::from(message)));
    request.set_timeout(Duration::from_secs(20));
    let mut client = tonic::client::Grpc::new(upstream);
    client.ready().await?;
    let path = format!("/{rpc}").parse().unwrap();
    let mut answers = client.streaming(request, path, Raw).await?.into_inner();
    answers.message().await.map(|_| ())
}

/// Messages as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}
