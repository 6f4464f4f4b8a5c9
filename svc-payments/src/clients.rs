//! The services that a payment needs on its way. Single questions that arrive together travel as one
//! batch RPC; each gets its own answer.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use mesh::{BatchLimits, Batcher, Call, Fault, Reason, Upstream};
use money::{Currency, TenantId, TokenId, TokenRef};
use paymesh_proto::{
    crypto::v1::{
        self as crypto, batch_detokenize_response, batch_get_tokens_response,
        vault_service_client::VaultServiceClient,
    },
    fraud::v1::{self as fraud, batch_assess_response, fraud_service_client::FraudServiceClient},
    ledger::v1::{
        self as ledger, account_result, ledger_service_client::LedgerServiceClient, transfer::TransferFlag,
        transfer_result,
    },
    tax::v1::{self as tax, tax_service_client::TaxServiceClient},
};
use tonic::{Response, Status};

use crate::{
    domain::{
        method::CardSummary,
        posting::{AccountCode, Posting, PostingTransfer, TransferKind},
    },
    processor::ChargeableCard,
};

/// The longest that a call to another service may take, whatever the caller's own deadline.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
const LIMITS: BatchLimits = BatchLimits { items_max: 512, queue_max: 16_384 };
/// How many batches may be under way per service: two keep both ends busy.
const CONCURRENCY: usize = 2;

type Question<T> = (Call, T);
type Batched<T, R> = Batcher<Question<T>, Result<R, Fault>>;

/// Clients of all services that payments call.
pub struct Clients {
    assess: Batched<fraud::AssessRequest, fraud::Assessment>,
    tokens: Batched<(TenantId, TokenRef), crypto::Token>,
    cards: Batched<(TenantId, TokenId), crypto::DetokenizeResponse>,
    transfers: Batched<Vec<ledger::Transfer>, Vec<transfer_result::Code>>,
    ledger: LedgerServiceClient<Upstream>,
    tax: TaxServiceClient<Upstream>,
    /// Which tenants' accounts are known to be open.
    open_accounts: Mutex<HashSet<(TenantId, Currency, AccountCode)>>,
}

/// What became of a posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// The ledger has it.
    Done,
    /// The ledger refuses it, for good.
    Refused(String),
}

impl Clients {
    /// Clients over these upstreams. Must be called within a runtime.
    pub fn new(crypto: Upstream, fraud: Upstream, ledger: Upstream, tax: Upstream) -> Self {
        let vault = VaultServiceClient::new(crypto);
        let cards_vault = vault.clone();
        let fraud_client = FraudServiceClient::new(fraud);
        let ledger_client = LedgerServiceClient::new(ledger);
        let ledger_for_batches = ledger_client.clone();
        Self {
            assess: batched(move |call, items| {
                let mut client = fraud_client.clone();
                async move {
                    let answer =
                        client.batch_assess(request(&call, fraud::BatchAssessRequest { items })).await;
                    items_of(answer.map(|r| r.into_inner().items), |item| match item.result {
                        Some(batch_assess_response::item::Result::Assessment(assessment)) => Ok(assessment),
                        Some(batch_assess_response::item::Result::Reason(reason)) => Err(named(&reason)),
                        None => Err(nonsense("svc-fraud")),
                    })
                }
            }),
            tokens: batched(move |call, ids: Vec<(TenantId, TokenRef)>| {
                let mut client = vault.clone();
                async move {
                    let items = ids
                        .into_iter()
                        .map(|(tenant, id)| crypto::batch_get_tokens_request::Item {
                            id: id.to_string(),
                            tenant: tenant.to_string(),
                        })
                        .collect();
                    let answer = client
                        .batch_get_tokens(request(&call, crypto::BatchGetTokensRequest { items }))
                        .await;
                    items_of(answer.map(|r| r.into_inner().items), |item| match item.result {
                        Some(batch_get_tokens_response::item::Result::Token(token)) => Ok(token),
                        Some(batch_get_tokens_response::item::Result::Reason(reason)) => Err(named(&reason)),
                        None => Err(nonsense("svc-crypto")),
                    })
                }
            }),
            cards: batched(move |call, ids: Vec<(TenantId, TokenId)>| {
                let mut client = cards_vault.clone();
                async move {
                    let items = ids
                        .into_iter()
                        .map(|(tenant, id)| crypto::DetokenizeRequest {
                            token: id.to_string(),
                            tenant: tenant.to_string(),
                            for_authorization: true,
                        })
                        .collect();
                    let answer = client
                        .batch_detokenize(request(&call, crypto::BatchDetokenizeRequest { items }))
                        .await;
                    items_of(answer.map(|r| r.into_inner().items), |item| match item.result {
                        Some(batch_detokenize_response::item::Result::Card(card)) => Ok(card),
                        Some(batch_detokenize_response::item::Result::Reason(reason)) => Err(named(&reason)),
                        None => Err(nonsense("svc-crypto")),
                    })
                }
            }),
            transfers: batched(move |call, chains: Vec<Vec<ledger::Transfer>>| {
                create_transfers(ledger_for_batches.clone(), call, chains)
            }),
            ledger: ledger_client,
            tax: TaxServiceClient::new(tax),
            open_accounts: Mutex::default(),
        }
    }

    /// Assesses a payment.
    pub async fn assess(
        &self,
        call: &Call,
        question: fraud::AssessRequest,
    ) -> Result<fraud::Assessment, Fault> {
        self.assess.call((call.in_span(), question)).await?
    }

    /// The token that every card has, for either that was given, and what may be known of the card.
    pub async fn card_summary(
        &self,
        call: &Call,
        tenant: &TenantId,
        token: TokenRef,
    ) -> Result<(TokenId, CardSummary), Fault> {
        let token = self.tokens.call((call.in_span(), (tenant.clone(), token))).await??;
        let id = token.id.parse().map_err(|_| nonsense("svc-crypto"))?;
        let card = token.card.ok_or_else(|| nonsense("svc-crypto"))?;
        let brand = card.brand().as_str_name().to_owned();
        Ok((id, CardSummary { brand, bin: card.bin, last4: card.last4, fingerprint: card.fingerprint }))
    }

    /// The card itself, for the processor call that authorizes a payment: the verification code, if there is one, is
    /// given out with it and then gone.
    pub async fn card(&self, call: &Call, tenant: &TenantId, id: TokenId) -> Result<ChargeableCard, Fault> {
        let card = self.cards.call((call.in_span(), (tenant.clone(), id))).await??;
        Ok(ChargeableCard::new(card.number, card.cvc))
    }

    /// Calculates tax.
    pub async fn tax(&self, call: &Call, question: tax::CalculateRequest) -> Result<tax::Calculation, Fault> {
        let answer = self.tax.clone().calculate(request(call, question)).await;
        answer.map(Response::into_inner).map_err(|status| Fault::from_status(&status))
    }

    /// Has the ledger make a posting's transfers: all of them or none, once however often it is asked.
    pub async fn post(&self, call: &Call, posting: &Posting) -> Result<Posted, Fault> {
        self.open_accounts(call, posting).await?;
        let last = posting.transfers.len().saturating_sub(1);
        let chain =
            posting.transfers.iter().enumerate().map(|(n, t)| to_proto(posting, t, n < last)).collect();
        let codes = self.transfers.call((call.in_span(), chain)).await??;
        Ok(judge(&codes))
    }

    /// Opens the accounts that every payment has, and those that this posting is about.
    async fn open_accounts(&self, call: &Call, posting: &Posting) -> Result<(), Fault> {
        let (tenant, currency) = (&posting.tenant, posting.currency);
        let moved = posting.transfers.iter().flat_map(|transfer| [transfer.debit, transfer.credit]);
        let mut codes: Vec<AccountCode> = AccountCode::OF_EVERY_PAYMENT.into_iter().chain(moved).collect();
        if let Ok(open) = self.open_accounts.lock() {
            codes.retain(|code| !open.contains(&(tenant.clone(), currency, *code)));
        }
        if codes.is_empty() {
            return Ok(());
        }
        codes.sort_by_key(|code| code.name());
        codes.dedup();
        let account = |code: &AccountCode| ledger::Account {
            id: code.account_id(tenant, currency).to_string(),
            ledger: currency.code().to_owned(),
            code: code.name().to_owned(),
            tenant: tenant.to_string(),
            ..Default::default()
        };
        let accounts = codes.iter().map(account).collect();
        let answer = self
            .ledger
            .clone()
            .create_accounts(request(call, ledger::CreateAccountsRequest { accounts }))
            .await;
        let results = answer.map_err(|status| Fault::from_status(&status))?.into_inner().results;
        for result in &results {
            if !matches!(result.code(), account_result::Code::Created | account_result::Code::Exists) {
                let code = result.code().as_str_name();
                return Err(Fault::new(
                    Reason::LedgerRejected,
                    format!("The ledger did not open an account: {code}."),
                ));
            }
        }
        if let Ok(mut open) = self.open_accounts.lock() {
            open.extend(codes.into_iter().map(|code| (tenant.clone(), currency, code)));
        }
        Ok(())
    }
}

/// A batcher whose batches are one RPC on behalf of the first caller: with one in flight, its request
/// id and trace go all the way.
fn batched<T, R, W, F>(work: W) -> Batched<T, R>
where
    T: Send + 'static,
    R: Send + 'static,
    W: Fn(Call, Vec<T>) -> F + Send + Sync + Clone + 'static,
    F: Future<Output = Result<Vec<Result<R, Fault>>, Fault>> + Send + 'static,
{
    Batcher::on_task(LIMITS, CONCURRENCY, move |questions: Vec<Question<T>>| {
        let count = questions.len();
        let (calls, items): (Vec<Call>, Vec<T>) = questions.into_iter().unzip();
        let answers = calls.into_iter().next().map(|call| work(call, items));
        async move {
            let answers = match answers {
                Some(answers) => answers.await,
                None => Ok(Vec::new()),
            };
            match answers {
                Ok(answers) if answers.len() == count => answers,
                Ok(_) => (0..count).map(|_| Err(nonsense("a batch RPC"))).collect(),
                Err(fault) => (0..count).map(|_| Err(fault.clone())).collect(),
            }
        }
    })
}

fn request<T>(call: &Call, message: T) -> tonic::Request<T> {
    let mut request = call.request(message);
    // A batch serves others too, so the first caller's deadline is not the batch's.
    request.set_timeout(CALL_DEADLINE);
    request
}

fn items_of<I, R>(
    answer: Result<Vec<I>, Status>,
    read: impl FnMut(I) -> Result<R, Fault>,
) -> Result<Vec<Result<R, Fault>>, Fault> {
    let items = answer.map_err(|status| Fault::from_status(&status))?;
    Ok(items.into_iter().map(read).collect())
}

fn named(reason: &str) -> Fault {
    Reason::from_name(reason).map_or_else(
        || nonsense("a batch RPC"),
        |reason| Fault::new(reason, "An item of a batch was refused."),
    )
}

fn nonsense(who: &str) -> Fault {
    Fault::new(Reason::Internal, format!("{who} gave an answer that cannot be understood."))
}

async fn create_transfers(
    mut client: LedgerServiceClient<Upstream>,
    call: Call,
    chains: Vec<Vec<ledger::Transfer>>,
) -> Result<Vec<Result<Vec<transfer_result::Code>, Fault>>, Fault> {
    let lengths: Vec<usize> = chains.iter().map(Vec::len).collect();
    let transfers = chains.into_iter().flatten().collect();
    let answer = client.create_transfers(request(&call, ledger::CreateTransfersRequest { transfers })).await;
    let results = answer.map_err(|status| Fault::from_status(&status))?.into_inner().results;
    let mut results = results.iter().map(ledger::TransferResult::code);
    Ok(lengths
        .into_iter()
        .map(|length| {
            let codes: Vec<_> = results.by_ref().take(length).collect();
            if codes.len() == length { Ok(codes) } else { Err(nonsense("svc-ledger")) }
        })
        .collect())
}

fn to_proto(posting: &Posting, transfer: &PostingTransfer, linked: bool) -> ledger::Transfer {
    let account = |code: AccountCode| code.account_id(&posting.tenant, posting.currency).to_string();
    let (flag, pending_id) = match transfer.kind {
        TransferKind::Plain => (None, None),
        TransferKind::Pending => (Some(TransferFlag::Pending), None),
        TransferKind::Post { pending_id } => (Some(TransferFlag::PostPending), Some(pending_id)),
        TransferKind::Void { pending_id } => (Some(TransferFlag::VoidPending), Some(pending_id)),
    };
    let linked = linked.then_some(TransferFlag::Linked);
    ledger::Transfer {
        id: transfer.id.to_string(),
        debit_account_id: account(transfer.debit),
        credit_account_id: account(transfer.credit),
        amount: transfer.amount,
        ledger: posting.currency.code().to_owned(),
        code: transfer.code.clone(),
        flags: linked.into_iter().chain(flag).map(i32::from).collect(),
        pending_id: pending_id.map(|id| id.to_string()).unwrap_or_default(),
        reference: posting.payment.to_string(),
        tenant: posting.tenant.to_string(),
        ..Default::default()
    }
}

/// A chain that was made before is EXISTS in every item.
fn judge(codes: &[transfer_result::Code]) -> Posted {
    use transfer_result::Code;
    let made = |code: &Code| matches!(code, Code::Created | Code::Exists);
    match codes.iter().find(|code| !made(code) && **code != Code::LinkedEventFailed) {
        None if codes.iter().all(made) => Posted::Done,
        None => Posted::Refused(Code::LinkedEventFailed.as_str_name().to_owned()),
        Some(culprit) => Posted::Refused(culprit.as_str_name().to_owned()),
    }
}
