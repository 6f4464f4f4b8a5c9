//! What becomes of tokens: their two forms, batches of them, and their end.

use std::collections::HashSet;

use crate::common::{World, call, card, detokenize, digits, opaque, reason};
use mesh::{Fault, Reason, testing::call_of};
use paymesh_proto::crypto::v1::{
    BatchDeleteTokensRequest, BatchDetokenizeRequest, BatchTokenizeRequest, CardInput, DeleteTokenRequest,
    GetTokenRequest, Token, TokenizeRequest, batch_delete_tokens_request, batch_delete_tokens_response,
    batch_detokenize_response, batch_tokenize_request, batch_tokenize_response, token::Format,
};
use svc_crypto::config::Config;
use tonic::{Code, Request};

const VISA: &str = "4242424242424242";

fn get(id: &str) -> GetTokenRequest {
    GetTokenRequest { id: id.into() }
}

fn delete(id: &str) -> DeleteTokenRequest {
    DeleteTokenRequest { id: id.into() }
}

async fn tokenize(world: &World, request: impl tonic::IntoRequest<TokenizeRequest>) -> Token {
    world.vault("edge-gateway").tokenize(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_token_of_digits_has_the_form_of_the_card_and_serves_as_the_other_does() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let mut seen = HashSet::new();
    for number in [VISA, "378282246310005", "36227206271667", "4222222222222"] {
        let token = tokenize(&world, call("acme", digits(card(number)))).await;
        assert_eq!(token.digit_token.len(), number.len());
        assert!(
            token.digit_token.starts_with('0') && token.digit_token.ends_with(&number[number.len() - 4..])
        );
        // It cannot be stored as a card.
        let as_card = world.tokenize("acme", card(&token.digit_token)).await.unwrap_err();
        assert!(Fault::from_status(&as_card).violations()[0].description.contains("begins with 1 to 9"));
        assert!(token.id.starts_with("tok_"));

        let by_digits = world.vault("edge-gateway").get_token(call("acme", get(&token.digit_token))).await;
        assert_eq!(by_digits.unwrap().into_inner(), token);
        let request = call("acme", detokenize(&token.digit_token, ""));
        let opened = world.vault("svc-payments").detokenize(request).await.unwrap().into_inner();
        assert_eq!(opened.number, number);
        assert!(seen.insert(token.digit_token));
    }
    let first = tokenize(&world, call("acme", opaque(card(VISA)))).await;
    assert!(seen.contains(&first.digit_token), "a card keeps the one that it has");
    let theirs = tokenize(&world, call("other", digits(card(VISA)))).await;
    let not_ours = world.vault("edge-gateway").get_token(call("acme", get(&theirs.digit_token))).await;
    assert_eq!(reason(not_ours), Reason::TokenNotFound);
    let unknown = TokenizeRequest { token_format: 99, ..opaque(card(VISA)) };
    let refused = world.vault("edge-gateway").tokenize(call("acme", unknown)).await.unwrap_err();
    assert_eq!(Fault::from_status(&refused).violations()[0].field, "token_format");
    world.service.stop().await;

    let world = World::start(dir.path()).await;
    assert_eq!(tokenize(&world, call("acme", digits(card(VISA)))).await, first);
    world.service.stop().await;
}

fn with_key(request: TokenizeRequest) -> Request<TokenizeRequest> {
    let mut request = call("acme", request);
    request.metadata_mut().insert("idempotency-key", "k".parse().unwrap());
    request
}

#[tokio::test]
async fn another_format_is_another_request() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let first = tokenize(&world, with_key(digits(card(VISA)))).await;
    assert_eq!(tokenize(&world, with_key(digits(card(VISA)))).await, first);
    let other = world.vault("edge-gateway").tokenize(with_key(opaque(card(VISA)))).await;
    assert_eq!(reason(other), Reason::IdempotencyKeyReused);
    world.service.stop().await;
}

#[tokio::test]
async fn a_deleted_token_stands_for_nothing_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let (mut edge, mut payments) = (world.vault("edge-gateway"), world.vault("svc-payments"));
    let first = tokenize(&world, call("acme", digits(card(VISA)))).await;
    let theirs = tokenize(&world, call("other", digits(card(VISA)))).await;
    assert_eq!(reason(edge.delete_token(call("other", delete(&first.id))).await), Reason::TokenNotFound);
    for id in ["tok_00000000000000000000000000000000", "tok_x", "", "0123456789014242"] {
        assert_eq!(reason(edge.delete_token(call("acme", delete(id))).await), Reason::TokenNotFound, "{id}");
    }
    assert_eq!(reason(edge.delete_token(delete(&first.id)).await), Reason::TenantRequired);
    assert_eq!(
        reason(payments.delete_token(call("acme", delete(&first.id))).await),
        Reason::PermissionDenied
    );

    // Under either name, as often as asked.
    for id in [&first.digit_token, &first.id, &first.id] {
        edge.delete_token(call("acme", delete(id))).await.unwrap();
    }
    for id in [&first.id, &first.digit_token] {
        assert_eq!(reason(edge.get_token(call("acme", get(id))).await), Reason::TokenNotFound);
        let opened = payments.detokenize(call("acme", detokenize(id, ""))).await;
        assert_eq!(reason(opened), Reason::TokenNotFound);
    }
    let anew = tokenize(&world, call("acme", digits(card(VISA)))).await;
    assert!(anew.id != first.id && anew.digit_token != first.digit_token);
    edge.delete_token(call("acme", delete(&first.id))).await.unwrap();
    assert_eq!(edge.get_token(call("acme", get(&anew.id))).await.unwrap().into_inner(), anew);
    assert_eq!(edge.get_token(call("other", get(&theirs.id))).await.unwrap().into_inner(), theirs);
    world.service.stop().await;

    let world = World::start(dir.path()).await;
    world.vault("edge-gateway").delete_token(call("acme", delete(&first.id))).await.unwrap();
    world.service.stop().await;
}

fn item(card: CardInput, format: Format, tenant: &str) -> batch_tokenize_request::Item {
    batch_tokenize_request::Item { card: Some(card), token_format: format.into(), tenant: tenant.to_owned() }
}

#[tokio::test]
async fn a_batch_of_cards_has_an_outcome_for_each() {
    use batch_tokenize_response::item::Result;
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let mut operator = world.vault("operator");
    let items = vec![
        item(card(VISA), Format::Opaque, ""),
        item(CardInput { exp_year: 2020, ..card("4242424242424241") }, Format::Opaque, ""),
        item(card("378282246310005"), Format::Digits, "other"),
        item(card(VISA), Format::Digits, ""),
        item(card(VISA), Format::Opaque, "A/B"),
        batch_tokenize_request::Item::default(),
    ];
    let answer = operator.batch_tokenize(call("acme", BatchTokenizeRequest { items })).await.unwrap();
    let items = answer.into_inner().items;
    let said: Vec<_> = items
        .iter()
        .map(|item| match item.result.as_ref().unwrap() {
            Result::Token(token) => token.card.as_ref().unwrap().last4.clone(),
            Result::Reason(reason) => reason.clone(),
        })
        .collect();
    assert_eq!(said, ["4242", "INVALID_REQUEST", "0005", "4242", "INVALID_REQUEST", "INVALID_REQUEST"]);
    let fields = |n: usize| items[n].violations.iter().map(|v| &*v.field).collect::<Vec<_>>();
    assert_eq!(
        (fields(1), fields(4), fields(5)),
        (vec!["card.number", "card.exp_year"], vec!["tenant"], vec!["card"])
    );
    assert!(items[1].violations[0].description.contains("Luhn") && fields(0).is_empty());
    let tokens: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item.result? {
            Result::Token(token) => Some(token),
            Result::Reason(_) => None,
        })
        .collect();
    assert_eq!(tokens[0].id, tokens[2].id, "one card, one token");
    let theirs = world.vault("edge-gateway").get_token(call("other", get(&tokens[1].digit_token))).await;
    assert_eq!(theirs.unwrap().into_inner(), tokens[1]);

    let items = vec![item(card(VISA), Format::Opaque, ""); 1_025];
    let refused = operator.batch_tokenize(call("acme", BatchTokenizeRequest { items })).await.unwrap_err();
    assert_eq!(Fault::from_status(&refused).violations()[0].field, "items");
    for caller in ["edge-gateway", "svc-payments"] {
        let request = call("acme", BatchTokenizeRequest::default());
        assert_eq!(reason(world.vault(caller).batch_tokenize(request).await), Reason::PermissionDenied);
        let request = call("acme", BatchDeleteTokensRequest::default());
        assert_eq!(reason(world.vault(caller).batch_delete_tokens(request).await), Reason::PermissionDenied);
    }
    world.service.stop().await;
}

#[tokio::test]
async fn a_batch_of_deletions_has_an_outcome_for_each() {
    use batch_delete_tokens_response::item::Result;
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let visa = tokenize(&world, call("acme", digits(card(VISA)))).await;
    let amex = tokenize(&world, call("other", opaque(card("378282246310005")))).await;
    let kept = tokenize(&world, call("acme", opaque(card("5555555555554444")))).await;
    let asked = [
        (&*visa.digit_token, ""),
        (&*amex.id, ""),
        (&*visa.id, ""),
        (&*amex.id, "other"),
        ("tok_x", ""),
        (&*kept.id, "A/B"),
    ];
    let items = asked
        .iter()
        .map(|(id, tenant)| batch_delete_tokens_request::Item { id: (*id).into(), tenant: (*tenant).into() })
        .collect();
    let mut operator = world.vault("operator");
    let answer = operator.batch_delete_tokens(call("acme", BatchDeleteTokensRequest { items })).await;
    let said: Vec<String> = answer
        .unwrap()
        .into_inner()
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            Result::Deleted(_) => "deleted".to_owned(),
            Result::Reason(reason) => reason,
        })
        .collect();
    let expected = ["deleted", "TOKEN_NOT_FOUND", "deleted", "deleted", "TOKEN_NOT_FOUND", "INVALID_REQUEST"];
    assert_eq!(said, expected);
    let mut edge = world.vault("edge-gateway");
    assert_eq!(reason(edge.get_token(call("acme", get(&visa.id))).await), Reason::TokenNotFound);
    assert_eq!(reason(edge.get_token(call("other", get(&amex.id))).await), Reason::TokenNotFound);
    assert!(edge.get_token(call("acme", get(&kept.id))).await.is_ok());
    world.service.stop().await;
}

#[tokio::test]
async fn no_more_cards_are_given_out_than_the_quota_allows() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start_with(dir.path(), Config { detokenize_per_minute: 6, ..Config::default() }).await;
    let token = tokenize(&world, call("acme", opaque(card(VISA)))).await;
    let theirs = tokenize(&world, call("other", opaque(card(VISA)))).await;
    let mut payments = world.vault("svc-payments");
    payments.detokenize(call("acme", detokenize(&token.id, ""))).await.unwrap();
    let unknown = "tok_00000000000000000000000000000000";
    let missed = payments.detokenize(call("acme", detokenize(unknown, ""))).await;
    assert_eq!(reason(missed), Reason::TokenNotFound);

    // Four are left; items count singly, and the other tenant's do not count here.
    let mut items = vec![detokenize(&token.id, ""); 6];
    items.insert(0, detokenize(&theirs.id, "other"));
    let answer = payments.batch_detokenize(call("acme", BatchDetokenizeRequest { items })).await.unwrap();
    let said: Vec<(String, u32)> = answer
        .into_inner()
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            batch_detokenize_response::item::Result::Card(card) => (card.number, item.retry_after_s),
            batch_detokenize_response::item::Result::Reason(reason) => (reason, item.retry_after_s),
        })
        .collect();
    let (given, refused) = ((VISA.to_owned(), 0), ("DETOKENIZE_QUOTA".to_owned(), 10));
    assert_eq!(said, [vec![given; 5], vec![refused; 2]].concat());

    let status = payments.detokenize(call("acme", detokenize(&token.id, ""))).await.unwrap_err();
    let fault = Fault::from_status(&status);
    assert_eq!((status.code(), fault.reason()), (Code::ResourceExhausted, Reason::DetokenizeQuota));
    assert_eq!(fault.retry_after(), Some(10));
    assert!(payments.detokenize(call("other", detokenize(&theirs.id, ""))).await.is_ok());
    // What may be shown of a card is not limited.
    assert!(payments.get_token(call("acme", get(&token.id))).await.is_ok());
    world.clock.advance_seconds(10);
    assert!(payments.detokenize(call("acme", detokenize(&token.id, ""))).await.is_ok());
    assert_eq!(
        reason(payments.detokenize(call("acme", detokenize(&token.id, ""))).await),
        Reason::DetokenizeQuota
    );
    world.service.stop().await;
}

#[tokio::test]
async fn deletions_and_tokenizations_at_once_leave_no_token_without_its_card() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let edge = world.vault("edge-gateway");
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let mut edge = edge.clone();
            tokio::spawn(async move {
                let request = call_of("acme").request(digits(card(VISA)));
                let token = edge.tokenize(request).await.unwrap().into_inner();
                if n % 2 == 0 {
                    let id = if n % 4 == 0 { token.id } else { token.digit_token };
                    edge.delete_token(call_of("acme").request(delete(&id))).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let token = tokenize(&world, call("acme", digits(card(VISA)))).await;
    let opened =
        world.vault("svc-payments").detokenize(call("acme", detokenize(&token.digit_token, ""))).await;
    assert_eq!(opened.unwrap().into_inner().number, VISA);
    world.service.stop().await;
}
