//! Verification codes: for the authorization, once, and from memory alone.

use crate::common::{World, authorize, call, card, detokenize, opaque};
use paymesh_proto::crypto::v1::{
    BatchDetokenizeRequest, BatchTokenizeRequest, CardInput, DeleteTokenRequest, DetokenizeRequest,
    batch_detokenize_response, batch_tokenize_request,
};
use svc_crypto::config::Config;

const VISA: &str = "4242424242424242";

fn with_code(cvc: &str) -> CardInput {
    CardInput { cvc: cvc.into(), ..card(VISA) }
}

async fn code(world: &World, tenant: &str, request: DetokenizeRequest) -> String {
    world.vault("svc-payments").detokenize(call(tenant, request)).await.unwrap().into_inner().cvc
}

#[tokio::test]
async fn a_code_is_given_to_the_authorization_and_to_it_alone() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let token = world.tokenize("acme", with_code("123")).await.unwrap().into_inner();
    let theirs = world.tokenize("other", card(VISA)).await.unwrap().into_inner();
    assert_eq!(code(&world, "other", authorize(&theirs.id)).await, "");
    assert_eq!(code(&world, "acme", detokenize(&token.id, "")).await, "", "not for the asking");
    assert_eq!(code(&world, "acme", authorize(&token.id)).await, "123");
    assert_eq!(code(&world, "acme", authorize(&token.id)).await, "", "once");

    // The latest counts; a card that comes without one leaves what is held.
    world.tokenize("acme", with_code("456")).await.unwrap();
    world.tokenize("acme", with_code("789")).await.unwrap();
    world.tokenize("acme", card(VISA)).await.unwrap();
    let items = vec![authorize(&token.id), authorize(&token.id)];
    let request = call("acme", BatchDetokenizeRequest { items });
    let answer = world.vault("svc-payments").batch_detokenize(request).await;
    let codes: Vec<String> = answer
        .unwrap()
        .into_inner()
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            batch_detokenize_response::item::Result::Card(card) => card.cvc,
            batch_detokenize_response::item::Result::Reason(reason) => reason,
        })
        .collect();
    assert_eq!(codes, ["789", ""]);

    let items = vec![batch_tokenize_request::Item { card: Some(with_code("321")), ..Default::default() }];
    world.vault("operator").batch_tokenize(call("acme", BatchTokenizeRequest { items })).await.unwrap();
    assert_eq!(code(&world, "acme", authorize(&token.id)).await, "321");
    world.service.stop().await;
}

#[tokio::test]
async fn a_code_ends_with_its_time_its_card_and_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let token = world.tokenize("acme", with_code("123")).await.unwrap().into_inner();
    world.clock.advance_seconds(899);
    world.tokenize("other", with_code("123")).await.unwrap();
    world.clock.advance_seconds(1);
    assert_eq!(code(&world, "acme", authorize(&token.id)).await, "");

    world.tokenize("acme", with_code("123")).await.unwrap();
    let mut edge = world.vault("edge-gateway");
    edge.delete_token(call("acme", DeleteTokenRequest { id: token.id.clone() })).await.unwrap();
    let anew = world.tokenize("acme", card(VISA)).await.unwrap().into_inner();
    assert_eq!(code(&world, "acme", authorize(&anew.id)).await, "");

    world.tokenize("acme", with_code("123")).await.unwrap();
    world.service.stop().await;
    let world = World::start(dir.path()).await;
    assert_eq!(code(&world, "acme", authorize(&anew.id)).await, "");
    world.service.stop().await;

    let none = World::start_with(dir.path(), Config { cvc_held_s: 0, ..Config::default() }).await;
    none.tokenize("acme", with_code("123")).await.unwrap();
    assert_eq!(code(&none, "acme", authorize(&anew.id)).await, "");
    none.service.stop().await;
}

#[tokio::test]
async fn a_repetition_brings_back_a_code_that_a_restart_forgot() {
    let dir = tempfile::tempdir().unwrap();
    let request = || {
        let mut request = call("acme", opaque(with_code("123")));
        request.metadata_mut().insert("idempotency-key", "k".parse().unwrap());
        request
    };
    let world = World::start(dir.path()).await;
    let first = world.vault("edge-gateway").tokenize(request()).await.unwrap().into_inner();
    world.service.stop().await;
    let world = World::start(dir.path()).await;
    let again = world.vault("edge-gateway").tokenize(request()).await.unwrap();
    assert_eq!(again.metadata().get("idempotency-replayed").unwrap(), "true");
    assert_eq!(again.into_inner(), first);
    assert_eq!(code(&world, "acme", authorize(&first.id)).await, "123");
    world.service.stop().await;
}
