//! VaultService: cards in, tokens out, and for those who may, cards out again.

mod input;
mod named;
mod quota;

use std::sync::{Arc, Mutex};

use mesh::{
    Call, Clock, Fault, Ids, Reason,
    idempotency::{self, Reuse, Scope},
};
use money::{TenantId, Timestamp, TokenId};
use paymesh_proto::crypto::v1::{
    BatchDeleteTokensRequest, BatchDeleteTokensResponse, BatchDetokenizeRequest, BatchDetokenizeResponse,
    BatchGetTokensRequest, BatchGetTokensResponse, BatchTokenizeRequest, BatchTokenizeResponse,
    DeleteTokenRequest, DeleteTokenResponse, DetokenizeRequest, DetokenizeResponse, GetTokenRequest,
    Token as ProtoToken, TokenizeRequest, batch_delete_tokens_response, batch_detokenize_response,
    batch_get_tokens_response, vault_service_server::VaultService,
};
use prost::Message as _;
use tonic::{Request, Response, Status};

use self::{
    input::Input,
    named::{in_place, names, only},
};
use super::{check_count, convert, reason_of};
use crate::{
    codes::HeldCodes,
    domain::{
        card::{self, Card, FieldError, Month},
        digits,
        quota::Quota,
        token::{self, Format, Shown, Token},
        verification::VerificationCode,
    },
    keyring::{KeyError, Keyring, Missing, VaultKeys},
    random::Random,
    store::{Deletion, Draw, Idempotency, Put, PutCard, PutError, Store, StoredCard},
};

/// Within which idempotency keys are unique.
const TOKENIZE: &str = "paymesh.crypto.v1.VaultService/Tokenize";

/// Answers VaultService.
pub struct VaultHandler<S> {
    store: S,
    keyring: Arc<Keyring<S>>,
    random: Random,
    codes: Arc<HeldCodes>,
    quota: Mutex<Quota>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

/// The answer to Tokenize, and whether it was given before.
struct Answer {
    token: ProtoToken,
    replayed: bool,
}

impl<S: Store> VaultHandler<S> {
    /// Keeps cards in `store`, sealed under the keys of `keyring`, and their verification codes in `codes` alone;
    /// gives out as many cards as `quota` allows.
    pub fn new(
        store: S,
        keyring: Arc<Keyring<S>>,
        codes: Arc<HeldCodes>,
        quota: Quota,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Self {
        Self { store, keyring, random: Random::default(), codes, quota: Mutex::new(quota), clock, ids }
    }

    async fn tokenize_card(
        &self,
        tenant: TenantId,
        scope: Option<Scope>,
        input: &Input,
    ) -> Result<Answer, Fault> {
        let now = self.clock.now();
        let answer = match card::validate(input.draft(), Month::of(now)) {
            Ok(card) => {
                let put = self.put_of(tenant.clone(), scope, card, input.format, now).await?;
                answer_of(self.store.put_card(put).await)?
            }
            Err(errors) => match self.earlier_answer(&tenant, scope, input).await? {
                Some(answer) => answer,
                None => return Err(refusal(&errors)),
            },
        };
        self.hold_code(&tenant, &answer.token, input);
        Ok(answer)
    }

    /// What the store is told of a card that can be kept.
    async fn put_of(
        &self,
        tenant: TenantId,
        scope: Option<Scope>,
        card: Card,
        format: Format,
        now: Timestamp,
    ) -> Result<PutCard, Fault> {
        let keys = self.keyring.vault(&tenant, Missing::Make).await?.ok_or_else(unreadable)?;
        let idempotency = scope.map(|scope| Idempotency {
            scope,
            fingerprint: token::request_tag(&card, format, &keys.request),
            answer: |token| convert::token(token).encode_to_vec(),
        });
        let (index_tag, shown) =
            (token::index_tag(&card.pan, &keys.index), Shown::of(&card, &keys.fingerprint));
        let salt = self.random.salt().map_err(KeyError::from)?;
        let (owner, random, pan) = (tenant.clone(), self.random.clone(), card.pan.clone());
        let draw: Draw = Box::new(move || Ok(digits::draw(&pan, &random.draw()?)));
        Ok(PutCard {
            tenant,
            index_tag,
            new_id: TokenId::new(self.ids.uuid_v7(now)),
            shown,
            seal: Box::new(move |id| {
                let (_, sealed) =
                    keys.card.seal(salt, &token::context(&owner, id), token::encode(&card).expose())?;
                Ok(sealed)
            }),
            digits: (format == Format::Digits).then_some(draw),
            now,
            idempotency,
        })
    }

    /// Holds the verification code for the authorization, also where the answer is an earlier one: whoever asks
    /// again may not know what became of the first request, and a restart would have forgotten it.
    fn hold_code(&self, tenant: &TenantId, token: &ProtoToken, input: &Input) {
        let code = VerificationCode::new(input.cvc.expose());
        if let (Some(code), Ok(id)) = (code, token.id.parse()) {
            self.codes.lock().hold(tenant, id, &code, self.clock.now());
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
        match self.store.replay(scope, token::request_tag(&card, input.format, &keys.request)).await {
            Ok(Some(bytes)) => replayed(&bytes).map(Some),
            // What is wrong with the card says more than that the key is taken.
            Ok(None) | Err(Reuse::OtherRequest) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Cards by their names, in the order asked, in one read.
    async fn find(
        &self,
        names: Vec<named::Name>,
    ) -> Result<Vec<Result<(TenantId, StoredCard), Fault>>, Fault> {
        let found = self.store.cards(named::readable(&names)).await?;
        let found = in_place(names, found).into_iter().map(|item| {
            let (tenant, card) = item?;
            Ok((tenant, card.ok_or_else(not_found)?))
        });
        Ok(found.collect())
    }

    /// Takes cards out by their names, and their verification codes with them.
    async fn delete(&self, names: Vec<named::Name>) -> Result<Vec<Result<(), Fault>>, Fault> {
        let deleted = self.store.delete_cards(named::readable(&names), self.clock.now()).await?;
        let deleted = in_place(names, deleted).into_iter().map(|item| match item? {
            (tenant, Deletion::Done(id)) => {
                self.codes.lock().drop_card(&tenant, id);
                Ok(())
            }
            (_, Deletion::Before) => Ok(()),
            (_, Deletion::Unknown) => Err(not_found()),
        });
        Ok(deleted.collect())
    }

    async fn open(
        &self,
        tenant: &TenantId,
        stored: &StoredCard,
        for_authorization: bool,
    ) -> Result<DetokenizeResponse, Fault> {
        let keys = self.keyring.vault(tenant, Missing::Leave).await?.ok_or_else(unreadable)?;
        let mut opened = open_with(&keys, tenant, stored)?;
        if for_authorization {
            let code = self.codes.lock().take(tenant, stored.token.id, self.clock.now());
            opened.cvc = code.map(|code| code.expose().to_owned()).unwrap_or_default();
        }
        Ok(opened)
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
        let TokenizeRequest { card, token_format } = request.into_inner();
        let answer = self.tokenize_card(tenant, scope, &Input::take(card, token_format)?).await?;
        let mut response = Response::new(answer.token);
        if answer.replayed {
            idempotency::mark_replayed(&mut response);
        }
        Ok(response)
    }

    async fn get_token(&self, request: Request<GetTokenRequest>) -> Result<Response<ProtoToken>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let found = self.find(names(&call, [(request.get_ref().id.as_str(), "")])).await?;
        let (_, stored) = only(found)?;
        Ok(Response::new(convert::token(&stored.token)))
    }

    async fn detokenize(
        &self,
        request: Request<DetokenizeRequest>,
    ) -> Result<Response<DetokenizeResponse>, Status> {
        let call = Call::of(&request)?;
        let item = request.get_ref();
        let mut names = names(&call, [(item.token.as_str(), item.tenant.as_str())]);
        quota::charge(&self.quota, call.peer(), &mut names, self.clock.now());
        let (tenant, stored) = only(self.find(names).await?)?;
        Ok(Response::new(self.open(&tenant, &stored, item.for_authorization).await?))
    }

    async fn batch_detokenize(
        &self,
        request: Request<BatchDetokenizeRequest>,
    ) -> Result<Response<BatchDetokenizeResponse>, Status> {
        use batch_detokenize_response::{Item, item::Result};
        let call = Call::of(&request)?;
        let asked = &request.get_ref().items;
        check_count("items", asked.len())?;
        let mut names = names(&call, asked.iter().map(|item| (&*item.token, &*item.tenant)));
        quota::charge(&self.quota, call.peer(), &mut names, self.clock.now());
        let found = self.find(names).await?;
        let mut items = Vec::with_capacity(found.len());
        for (item, asked) in found.into_iter().zip(asked) {
            let opened = match item {
                Ok((tenant, stored)) => self.open(&tenant, &stored, asked.for_authorization).await,
                Err(fault) => Err(fault),
            };
            let retry_after_s = opened.as_ref().err().and_then(Fault::retry_after).unwrap_or_default();
            let result = opened.map_or_else(|fault| Result::Reason(reason_of(&fault)), Result::Card);
            items.push(Item { result: Some(result), retry_after_s });
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
        let found = self.find(names(&call, asked.iter().map(|item| (&*item.id, &*item.tenant)))).await?;
        let item = |found: std::result::Result<(TenantId, StoredCard), Fault>| match found {
            Ok((_, stored)) => Item { result: Some(Result::Token(convert::token(&stored.token))) },
            Err(fault) => Item { result: Some(Result::Reason(reason_of(&fault))) },
        };
        Ok(Response::new(BatchGetTokensResponse { items: found.into_iter().map(item).collect() }))
    }

    async fn batch_tokenize(
        &self,
        request: Request<BatchTokenizeRequest>,
    ) -> Result<Response<BatchTokenizeResponse>, Status> {
        let call = Call::of(&request)?;
        check_count("items", request.get_ref().items.len())?;
        let items = self.tokenize_all(&call, request.into_inner().items).await;
        Ok(Response::new(BatchTokenizeResponse { items }))
    }

    async fn delete_token(
        &self,
        request: Request<DeleteTokenRequest>,
    ) -> Result<Response<DeleteTokenResponse>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        only(self.delete(names(&call, [(request.get_ref().id.as_str(), "")])).await?)?;
        Ok(Response::new(DeleteTokenResponse {}))
    }

    async fn batch_delete_tokens(
        &self,
        request: Request<BatchDeleteTokensRequest>,
    ) -> Result<Response<BatchDeleteTokensResponse>, Status> {
        use batch_delete_tokens_response::{Item, item::Result};
        let call = Call::of(&request)?;
        let asked = &request.get_ref().items;
        check_count("items", asked.len())?;
        let deleted = self.delete(names(&call, asked.iter().map(|item| (&*item.id, &*item.tenant)))).await?;
        let item = |deleted: std::result::Result<(), Fault>| match deleted {
            Ok(()) => Item { result: Some(Result::Deleted(DeleteTokenResponse {})) },
            Err(fault) => Item { result: Some(Result::Reason(reason_of(&fault))) },
        };
        Ok(Response::new(BatchDeleteTokensResponse { items: deleted.into_iter().map(item).collect() }))
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
        cvc: String::new(),
    })
}

fn answer_of(put: Result<Put, PutError>) -> Result<Answer, Fault> {
    match put.map_err(put_fault)? {
        Put::Stored(token) => Ok(Answer { token: convert::token(&token), replayed: false }),
        Put::Replayed(bytes) => replayed(&bytes),
    }
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

fn refusal(errors: &[FieldError]) -> Fault {
    let fault = Fault::new(Reason::InvalidRequest, "The card cannot be stored.");
    errors.iter().fold(fault, |fault, (field, error)| fault.violating(*field, error.to_string()))
}

fn put_fault(error: PutError) -> Fault {
    match error {
        PutError::Reuse(reuse) => reuse.into(),
        PutError::Underway => idempotency::in_progress(),
        PutError::Seal(error) => KeyError::from(error).into(),
        PutError::Random(error) => KeyError::from(error).into(),
        PutError::DigitsTaken => {
            tracing::error!(%error, "a card has no token of digits");
            Fault::new(Reason::Overloaded, "There is no token of digits left for a card like this one.")
                .violating("token_format", "must be OPAQUE")
        }
    }
}

fn not_found() -> Fault {
    Fault::new(Reason::TokenNotFound, "There is no such token.")
}

fn unreadable() -> Fault {
    Fault::new(Reason::Internal, "The card cannot be read.")
}
