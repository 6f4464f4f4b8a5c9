//! The card vault with an audit log: each RPC is carried out, put on record, and then answered.

use mesh::{Call, Fault, Reason};
use money::{TenantId, TokenRef};
use paymesh_proto::crypto::v1::{
    BatchDeleteTokensRequest, BatchDeleteTokensResponse, BatchDetokenizeRequest, BatchDetokenizeResponse,
    BatchGetTokensRequest, BatchGetTokensResponse, BatchTokenizeRequest, BatchTokenizeResponse,
    DeleteTokenRequest, DeleteTokenResponse, DetokenizeRequest, DetokenizeResponse, GetTokenRequest,
    Token as ProtoToken, TokenizeRequest, batch_delete_tokens_response, batch_detokenize_response,
    batch_get_tokens_response, batch_tokenize_response, vault_service_server::VaultService,
};
use tonic::{Request, Response, Status};

use crate::{
    audit::Recorder,
    domain::{
        algorithm::Verb,
        audit::{Act, Entry, Outcome, Subject},
    },
};

/// A vault whose answers are given only once what was done is on record.
pub struct Audited<V> {
    vault: V,
    recorder: Recorder,
}

impl<V> Audited<V> {
    /// Puts what `vault` does on record.
    pub fn new(vault: V, recorder: Recorder) -> Self {
        Self { vault, recorder }
    }
}

/// What an item of a request names.
struct Item {
    tenant: Option<TenantId>,
    token: Option<TokenRef>,
}

impl Item {
    /// `tenant`: empty for the call's own. What is no token or tenant is not kept: it may be anything.
    fn of(call: &Call, tenant: &str, token: &str) -> Self {
        Self { tenant: call.tenant_of_item(tenant).ok(), token: token.parse().ok() }
    }

    fn entry(self, call: &Call, verb: Verb, outcome: Outcome) -> Entry {
        let act = Act {
            workload: call.peer().clone(),
            tenant: self.tenant,
            subject: self.token.map_or(Subject::None, Subject::Token),
            key: None,
            verb,
            outcome,
        };
        Entry { act, count: 1, bytes: 0 }
    }

    /// The same for one of many: refusals and looks are counted, and not kept by card.
    fn entry_of_many(mut self, call: &Call, verb: Verb, outcome: Outcome) -> Entry {
        if outcome != Outcome::Done || verb == Verb::GetToken {
            self.token = None;
        }
        self.entry(call, verb, outcome)
    }
}

/// Of an item of a batch: the reason in its place, or nothing.
fn outcome_of(reason: Option<&str>) -> Outcome {
    reason.map_or(Outcome::Done, |name| {
        let reason = Reason::from_name(name).unwrap_or(Reason::Internal);
        Outcome::Refused(reason.as_str().into())
    })
}

fn refused(status: &Status) -> Outcome {
    Outcome::Refused(Fault::from_status(status).reason().as_str().into())
}

impl<V> Audited<V> {
    async fn one<T>(
        &self,
        call: &Call,
        verb: Verb,
        item: Item,
        result: Result<Response<T>, Status>,
    ) -> Result<Response<T>, Status> {
        let outcome = result.as_ref().err().map_or(Outcome::Done, refused);
        self.recorder.submit(item.entry(call, verb, outcome)).await?;
        result
    }

    /// `reasons`: of each item of the answer, why it was refused.
    async fn many<T>(
        &self,
        call: &Call,
        verb: Verb,
        items: Vec<Item>,
        result: Result<Response<T>, Status>,
        outcomes: impl Fn(&T) -> Vec<Outcome>,
    ) -> Result<Response<T>, Status> {
        let entries = match &result {
            Ok(answer) => {
                let outcomes = outcomes(answer.get_ref());
                items
                    .into_iter()
                    .zip(outcomes)
                    .map(|(item, outcome)| item.entry_of_many(call, verb, outcome))
                    .collect()
            }
            Err(status) => {
                let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
                vec![Entry { count, ..Item::of(call, "", "").entry(call, verb, refused(status)) }]
            }
        };
        self.recorder.submit(entries).await?;
        result
    }
}

#[tonic::async_trait]
impl<V: VaultService> VaultService for Audited<V> {
    async fn tokenize(&self, request: Request<TokenizeRequest>) -> Result<Response<ProtoToken>, Status> {
        let call = Call::of(&request)?;
        let result = self.vault.tokenize(request).await;
        let token = result.as_ref().map_or("", |answer| &answer.get_ref().id);
        let item = Item::of(&call, "", token);
        self.one(&call, Verb::Tokenize, item, result).await
    }

    async fn get_token(&self, request: Request<GetTokenRequest>) -> Result<Response<ProtoToken>, Status> {
        let call = Call::of(&request)?;
        let item = Item::of(&call, "", &request.get_ref().id);
        let result = self.vault.get_token(request).await;
        self.one(&call, Verb::GetToken, item, result).await
    }

    async fn detokenize(
        &self,
        request: Request<DetokenizeRequest>,
    ) -> Result<Response<DetokenizeResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.get_ref();
        let named = || Item::of(&call, &asked.tenant, &asked.token);
        let (item, code) = (named(), named());
        let result = self.vault.detokenize(request).await;
        if result.as_ref().is_ok_and(|answer| !answer.get_ref().cvc.is_empty()) {
            self.recorder.submit(code.entry(&call, Verb::TakeVerificationCode, Outcome::Done)).await?;
        }
        self.one(&call, Verb::Detokenize, item, result).await
    }

    async fn batch_detokenize(
        &self,
        request: Request<BatchDetokenizeRequest>,
    ) -> Result<Response<BatchDetokenizeResponse>, Status> {
        use batch_detokenize_response::item::Result;
        let call = Call::of(&request)?;
        let named = || {
            let items = request.get_ref().items.iter();
            items.map(|item| Item::of(&call, &item.tenant, &item.token)).collect::<Vec<_>>()
        };
        let (items, codes) = (named(), named());
        let result = self.vault.batch_detokenize(request).await;
        if let Ok(answer) = &result {
            let taken = codes.into_iter().zip(&answer.get_ref().items).filter_map(|(item, answer)| {
                let taken = matches!(&answer.result, Some(Result::Card(card)) if !card.cvc.is_empty());
                taken.then(|| item.entry(&call, Verb::TakeVerificationCode, Outcome::Done))
            });
            self.recorder.submit(taken.collect::<Vec<_>>()).await?;
        }
        let outcomes = |answer: &BatchDetokenizeResponse| {
            let reason = |item: &batch_detokenize_response::Item| match &item.result {
                Some(Result::Reason(reason)) => outcome_of(Some(reason)),
                _ => Outcome::Done,
            };
            answer.items.iter().map(reason).collect()
        };
        self.many(&call, Verb::Detokenize, items, result, outcomes).await
    }

    async fn batch_get_tokens(
        &self,
        request: Request<BatchGetTokensRequest>,
    ) -> Result<Response<BatchGetTokensResponse>, Status> {
        use batch_get_tokens_response::item::Result;
        let call = Call::of(&request)?;
        let items =
            request.get_ref().items.iter().map(|item| Item::of(&call, &item.tenant, &item.id)).collect();
        let result = self.vault.batch_get_tokens(request).await;
        let outcomes = |answer: &BatchGetTokensResponse| {
            let reason = |item: &batch_get_tokens_response::Item| match &item.result {
                Some(Result::Reason(reason)) => outcome_of(Some(reason)),
                _ => Outcome::Done,
            };
            answer.items.iter().map(reason).collect()
        };
        self.many(&call, Verb::GetToken, items, result, outcomes).await
    }

    async fn batch_tokenize(
        &self,
        request: Request<BatchTokenizeRequest>,
    ) -> Result<Response<BatchTokenizeResponse>, Status> {
        use batch_tokenize_response::item::Result;
        let call = Call::of(&request)?;
        let mut items: Vec<Item> =
            request.get_ref().items.iter().map(|item| Item::of(&call, &item.tenant, "")).collect();
        let result = self.vault.batch_tokenize(request).await;
        if let Ok(answer) = &result {
            for (item, answer) in items.iter_mut().zip(&answer.get_ref().items) {
                if let Some(Result::Token(token)) = &answer.result {
                    item.token = token.id.parse().ok();
                }
            }
        }
        let outcomes = |answer: &BatchTokenizeResponse| {
            let reason = |item: &batch_tokenize_response::Item| match &item.result {
                Some(Result::Reason(reason)) => outcome_of(Some(reason)),
                _ => Outcome::Done,
            };
            answer.items.iter().map(reason).collect()
        };
        self.many(&call, Verb::Tokenize, items, result, outcomes).await
    }

    async fn delete_token(
        &self,
        request: Request<DeleteTokenRequest>,
    ) -> Result<Response<DeleteTokenResponse>, Status> {
        let call = Call::of(&request)?;
        let item = Item::of(&call, "", &request.get_ref().id);
        let result = self.vault.delete_token(request).await;
        self.one(&call, Verb::DeleteToken, item, result).await
    }

    async fn batch_delete_tokens(
        &self,
        request: Request<BatchDeleteTokensRequest>,
    ) -> Result<Response<BatchDeleteTokensResponse>, Status> {
        use batch_delete_tokens_response::item::Result;
        let call = Call::of(&request)?;
        let items =
            request.get_ref().items.iter().map(|item| Item::of(&call, &item.tenant, &item.id)).collect();
        let result = self.vault.batch_delete_tokens(request).await;
        let outcomes = |answer: &BatchDeleteTokensResponse| {
            let reason = |item: &batch_delete_tokens_response::Item| match &item.result {
                Some(Result::Reason(reason)) => outcome_of(Some(reason)),
                _ => Outcome::Done,
            };
            answer.items.iter().map(reason).collect()
        };
        self.many(&call, Verb::DeleteToken, items, result, outcomes).await
    }
}
