//! VaultService: cards in, tokens out, and for those who may, cards out again.

use std::sync::Arc;

use mesh::{
    Call, Clock, Fault, Ids, Reason,
    idempotency::{self, Reuse, Scope},
};
use money::{TenantId, Timestamp, TokenId};
use paymesh_proto::crypto::v1::{
    BatchDetokenizeRequest, BatchDetokenizeResponse, BatchGetTokensRequest, BatchGetTokensResponse,
    CardInput, DetokenizeRequest, DetokenizeResponse, GetTokenRequest, Token as ProtoToken, TokenizeRequest,
    batch_detokenize_response, batch_get_tokens_response, vault_service_server::VaultService,
};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{check_count, convert, reason_of};
use crate::{
    domain::{
        card::{self, Card, Draft, FieldError, Month},
        secret::SecretText,
        token::{self, Shown, Token},
    },
    keyring::{KeyError, Keyring, Missing, VaultKeys},
    random::Random,
    store::{Idempotency, Put, PutCard, PutError, Store, StoredCard},
};

/// Within which idempotency keys are unique.
const TOKENIZE: &str = "paymesh.crypto.v1.VaultService/Tokenize";

/// Answers VaultService.
pub struct VaultHandler<S> {
    store: S,
    keyring: Arc<Keyring<S>>,
    random: Random,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

/// The answer to Tokenize, and whether it was given before.
struct Answer {
    token: ProtoToken,
    replayed: bool,
}

impl<S: Store> VaultHandler<S> {
    /// Keeps cards in `store`, sealed under the keys of `keyring`.
    pub fn new(store: S, keyring: Arc<Keyring<S>>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { store, keyring, random: Random::default(), clock, ids }
    }

    async fn tokenize_card(
        &self,
        tenant: TenantId,
        scope: Option<Scope>,
        input: &Input,
    ) -> Result<Answer, Fault> {
        let now = self.clock.now();
        match card::validate(input.draft(), Month::of(now)) {
            Ok(card) => self.keep(tenant, scope, card, now).await,
            Err(errors) => match self.earlier_answer(&tenant, scope, input).await? {
                Some(answer) => Ok(answer),
                None => Err(refusal(&errors)),
            },
        }
    }

    async fn keep(
        &self,
        tenant: TenantId,
        scope: Option<Scope>,
        card: Card,
        now: Timestamp,
    ) -> Result<Answer, Fault> {
        let keys = self.keyring.vault(&tenant, Missing::Make).await?.ok_or_else(unreadable)?;
        let idempotency = scope.map(|scope| Idempotency {
            scope,
            fingerprint: token::request_tag(&card, &keys.request),
            answer: |token| convert::token(token).encode_to_vec(),
        });
        let (index_tag, shown) =
            (token::index_tag(&card.pan, &keys.index), Shown::of(&card, &keys.fingerprint));
        let salt = self.random.salt().map_err(KeyError::from)?;
        let owner = tenant.clone();
        let put = PutCard {
            tenant,
            index_tag,
            new_id: TokenId::new(self.ids.uuid_v7(now)),
            shown,
            seal: Box::new(move |id| {
                let (_, sealed) =
                    keys.card.seal(salt, &token::context(&owner, id), token::encode(&card).expose())?;
                Ok(sealed)
            }),
            now,
            idempotency,
        };
        match self.store.put_card(put).await.map_err(put_fault)? {
            Put::Stored(token) => Ok(Answer { token: convert::token(&token), replayed: false }),
            Put::Replayed(bytes) => replayed(&bytes),
        }
    }

    /// A request that is refused today may have been accepted before its card expired: then it has its
    /// answer, and a repetition gets that.
    async fn earlier_answer(
        &self,
        tenant: &TenantId,
        scope: Option<Scope>,
        input: &Input,
    ) -> Result<Option<Answer>, Fault> {
        let (Some(scope), Ok(card)) = (scope, card::validate_before_expiry(input.draft())) else {
            return Ok(None);
        };
        let Some(keys) = self.keyring.vault(tenant, Missing::Leave).await? else { return Ok(None) };
        match self.store.replay(scope, token::request_tag(&card, &keys.request)).await {
            Ok(Some(bytes)) => replayed(&bytes).map(Some),
            // What is wrong with the card says more than that the key is taken.
            Ok(None) | Err(Reuse::OtherRequest) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Cards by token and tenant (empty: the call's own), in the order asked, in one read.
    async fn find<'a>(
        &self,
        call: &Call,
        items: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<Result<(TenantId, StoredCard), Fault>>, Fault> {
        let ids: Vec<Result<(TenantId, TokenId), Fault>> = items
            .map(|(token, tenant)| {
                // What is no token's id is no token of anyone.
                let token = token.parse().map_err(|_| not_found())?;
                Ok((call.tenant_of_item(tenant)?, token))
            })
            .collect();
        let known = ids.iter().filter_map(|id| id.as_ref().ok().cloned()).collect();
        let mut cards = self.store.cards(known).await?.into_iter();
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.push(match id {
                Ok((tenant, _)) => cards.next().flatten().map(|card| (tenant, card)).ok_or_else(not_found),
                Err(fault) => Err(fault),
            });
        }
        Ok(found)
    }

    async fn open(&self, tenant: &TenantId, stored: &StoredCard) -> Result<DetokenizeResponse, Fault> {
        let keys = self.keyring.vault(tenant, Missing::Leave).await?.ok_or_else(unreadable)?;
        open_with(&keys, tenant, stored)
    }
}

#[tonic::async_trait]
impl<S: Store> VaultService for VaultHandler<S> {
    async fn tokenize(&self, request: Request<TokenizeRequest>) -> Result<Response<ProtoToken>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let scope = call.idempotency_key().map(|key| Scope {
            tenant: tenant.clone(),
            rpc: TOKENIZE,
            key: key.clone(),
        });
        let card = request.into_inner().card.ok_or_else(|| Fault::invalid("card", "must be given"))?;
        let answer = self.tokenize_card(tenant, scope, &Input::take(card)).await?;
        let mut response = Response::new(answer.token);
        if answer.replayed {
            idempotency::mark_replayed(&mut response);
        }
        Ok(response)
    }

    async fn get_token(&self, request: Request<GetTokenRequest>) -> Result<Response<ProtoToken>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let found = self.find(&call, [(request.get_ref().id.as_str(), "")].into_iter()).await?;
        let (_, stored) = only(found)?;
        Ok(Response::new(convert::token(&stored.token)))
    }

    async fn detokenize(
        &self,
        request: Request<DetokenizeRequest>,
    ) -> Result<Response<DetokenizeResponse>, Status> {
        let call = Call::of(&request)?;
        let item = request.get_ref();
        let found = self.find(&call, [(item.token.as_str(), item.tenant.as_str())].into_iter()).await?;
        let (tenant, stored) = only(found)?;
        Ok(Response::new(self.open(&tenant, &stored).await?))
    }

    async fn batch_detokenize(
        &self,
        request: Request<BatchDetokenizeRequest>,
    ) -> Result<Response<BatchDetokenizeResponse>, Status> {
        use batch_detokenize_response::{Item, item::Result};
        let call = Call::of(&request)?;
        let asked = &request.get_ref().items;
        check_count("items", asked.len())?;
        let found =
            self.find(&call, asked.iter().map(|item| (item.token.as_str(), item.tenant.as_str()))).await?;
        let mut items = Vec::with_capacity(found.len());
        for item in found {
            let opened = match item {
                Ok((tenant, stored)) => self.open(&tenant, &stored).await,
                Err(fault) => Err(fault),
            };
            let result = opened.map_or_else(|fault| Result::Reason(reason_of(&fault)), Result::Card);
            items.push(Item { result: Some(result) });
        }
        Ok(Response::new(BatchDetokenizeResponse { items }))
    }

    async fn batch_get_tokens(
        &self,
        request: Request<BatchGetTokensRequest>,
    ) -> Result<Response<BatchGetTokensResponse>, Status> {
        use batch_get_tokens_response::{Item, item::Result};
        let call = Call::of(&request)?;
        let asked = &request.get_ref().items;
        check_count("items", asked.len())?;
        let found =
            self.find(&call, asked.iter().map(|item| (item.id.as_str(), item.tenant.as_str()))).await?;
        let item = |found: std::result::Result<(TenantId, StoredCard), Fault>| match found {
            Ok((_, stored)) => Item { result: Some(Result::Token(convert::token(&stored.token))) },
            Err(fault) => Item { result: Some(Result::Reason(reason_of(&fault))) },
        };
        Ok(Response::new(BatchGetTokensResponse { items: found.into_iter().map(item).collect() }))
    }
}

/// A card as it came over the wire, in memory that is wiped.
struct Input {
    number: SecretText,
    exp_month: i32,
    exp_year: i32,
    cvc: SecretText,
    holder_name: SecretText,
}

impl Input {
    fn take(card: CardInput) -> Self {
        let CardInput { number, exp_month, exp_year, cvc, holder_name } = card;
        let [number, cvc, holder_name] = [number, cvc, holder_name].map(SecretText::new);
        Self { number, exp_month, exp_year, cvc, holder_name }
    }

    fn draft(&self) -> Draft<'_> {
        Draft {
            number: self.number.expose(),
            exp_month: self.exp_month,
            exp_year: self.exp_year,
            cvc: self.cvc.expose(),
            holder_name: self.holder_name.expose(),
        }
    }
}

fn open_with(keys: &VaultKeys, tenant: &TenantId, stored: &StoredCard) -> Result<DetokenizeResponse, Fault> {
    let Token { id, shown, .. } = &stored.token;
    let opened = keys.card.open(&stored.sealed, &token::context(tenant, *id)).map_err(|error| {
        tracing::error!(%tenant, token = %id, %error, "a stored card does not open");
        unreadable()
    })?;
    let card = token::decode(&opened.1).map_err(|error| {
        tracing::error!(%tenant, token = %id, %error, "a stored card cannot be read");
        unreadable()
    })?;
    Ok(DetokenizeResponse {
        number: card.pan.digits().to_owned(),
        exp_month: shown.expiry.month.into(),
        exp_year: shown.expiry.year,
        holder_name: card.holder_name.expose().to_owned(),
        card: Some(convert::card(shown)),
    })
}

fn replayed(bytes: &[u8]) -> Result<Answer, Fault> {
    match ProtoToken::decode(bytes) {
        Ok(token) => Ok(Answer { token, replayed: true }),
        Err(error) => {
            tracing::error!(%error, "a kept answer cannot be read");
            Err(Fault::new(Reason::Internal, "The earlier answer to this request cannot be read."))
        }
    }
}

fn only<T>(found: Vec<Result<T, Fault>>) -> Result<T, Fault> {
    found.into_iter().next().unwrap_or_else(|| Err(not_found()))
}

fn refusal(errors: &[FieldError]) -> Fault {
    let fault = Fault::new(Reason::InvalidRequest, "The card cannot be stored.");
    errors.iter().fold(fault, |fault, (field, error)| fault.violating(*field, error.to_string()))
}

fn put_fault(error: PutError) -> Fault {
    match error {
        PutError::Reuse(reuse) => reuse.into(),
        PutError::Underway => idempotency::in_progress(),
        PutError::Seal(error) => KeyError::from(error).into(),
    }
}

fn not_found() -> Fault {
    Fault::new(Reason::TokenNotFound, "There is no such token.")
}

fn unreadable() -> Fault {
    Fault::new(Reason::Internal, "The card cannot be read.")
}
