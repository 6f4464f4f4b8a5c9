//! The card vault over real mTLS.

use crate::common::{World, call, card, detokenize, opaque, reason};
use mesh::{Fault, Reason, testing::call_of};
use paymesh_proto::crypto::v1::{
    BatchDetokenizeRequest, BatchGetTokensRequest, CardInput, DetokenizeResponse, GetTokenRequest, Token,
    TokenizeRequest, batch_detokenize_response, batch_get_tokens_request, batch_get_tokens_response,
    card::Brand,
};
use tonic::{Request, Response};

const VISA: &str = "4242424242424242";

fn get(id: &str) -> GetTokenRequest {
    GetTokenRequest { id: id.into() }
}

fn with_key(tenant: &str, key: &'static str, card: CardInput) -> Request<TokenizeRequest> {
    let mut request = call(tenant, opaque(card));
    request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

fn is_replayed(response: &Response<Token>) -> bool {
    response.metadata().get("idempotency-replayed").is_some_and(|value| value == "true")
}

#[tokio::test]
async fn a_card_becomes_a_token_and_payments_gets_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let given = CardInput { number: "4242 4242-4242 4242".into(), cvc: "123".into(), ..card("") };
    let token = world.tokenize("acme", given).await.unwrap().into_inner();
    assert!(token.id.parse::<money::TokenId>().is_ok(), "{}", token.id);
    assert_eq!(token.created_at, Some(mesh::clock::to_proto(crate::common::NOW)));
    let shown = token.card.clone().unwrap();
    assert_eq!((shown.brand(), &*shown.bin, &*shown.last4), (Brand::Visa, "424242", "4242"));
    assert_eq!((shown.exp_month, shown.exp_year, shown.fingerprint.len()), (12, 2030, 32));

    let got = world.vault("edge-gateway").get_token(call("acme", get(&token.id))).await.unwrap();
    assert_eq!(got.into_inner(), token);
    let opened =
        world.vault("svc-payments").detokenize(call("acme", detokenize(&token.id, ""))).await.unwrap();
    let expected = DetokenizeResponse {
        number: VISA.into(),
        exp_month: 12,
        exp_year: 2030,
        holder_name: "Ada Payer".into(),
        card: token.card,
        cvc: String::new(),
    };
    assert!(opened.into_inner() == expected);
    world.service.stop().await;
}

#[tokio::test]
async fn the_same_card_has_the_same_token_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let first = world.tokenize("acme", card(VISA)).await.unwrap().into_inner();
    let theirs = world.tokenize("other", card(VISA)).await.unwrap().into_inner();
    assert_ne!(first.id, theirs.id);
    let fingerprint = |token: &Token| token.card.as_ref().unwrap().fingerprint.clone();
    assert_ne!(fingerprint(&first), fingerprint(&theirs), "tenants cannot compare their customers");
    world.service.stop().await;

    let world = World::start(dir.path()).await;
    let renewed = CardInput { exp_year: 2031, holder_name: "Ada P. Payer".into(), ..card(VISA) };
    let again = world.tokenize("acme", renewed).await.unwrap().into_inner();
    assert_eq!((&again.id, again.created_at), (&first.id, first.created_at));
    assert_eq!(fingerprint(&again), fingerprint(&first));
    assert_eq!(again.card.unwrap().exp_year, 2031);
    let opened =
        world.vault("svc-payments").detokenize(call("acme", detokenize(&first.id, ""))).await.unwrap();
    let opened = opened.into_inner();
    assert_eq!((&*opened.number, opened.exp_year, &*opened.holder_name), (VISA, 2031, "Ada P. Payer"));
    let opened =
        world.vault("svc-payments").detokenize(call("other", detokenize(&theirs.id, ""))).await.unwrap();
    assert_eq!(opened.into_inner().exp_year, 2030, "the other tenant's card is as it was");
    world.service.stop().await;
}

#[tokio::test]
async fn a_token_is_found_by_its_tenant_only() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let token = world.tokenize("acme", card(VISA)).await.unwrap().into_inner();
    let (edge, payments) = (world.vault("edge-gateway"), world.vault("svc-payments"));
    let unknown = "tok_00000000000000000000000000000000";
    for (tenant, id) in [("other", &*token.id), ("acme", unknown), ("acme", "tok_x"), ("acme", "")] {
        let found = edge.clone().get_token(call(tenant, get(id))).await;
        assert_eq!(reason(found), Reason::TokenNotFound, "{tenant} {id}");
        let found = payments.clone().detokenize(call(tenant, detokenize(id, ""))).await;
        assert_eq!(reason(found), Reason::TokenNotFound, "{tenant} {id}");
    }
    // An item's own tenant counts, whatever the call's is.
    assert!(payments.clone().detokenize(call("other", detokenize(&token.id, "acme"))).await.is_ok());
    let found = payments.clone().detokenize(call("acme", detokenize(&token.id, "other"))).await;
    assert_eq!(reason(found), Reason::TokenNotFound);
    let nobody = edge.clone().get_token(get(&token.id)).await;
    assert_eq!(reason(nobody), Reason::TenantRequired);
    world.service.stop().await;
}

#[tokio::test]
async fn only_payments_sees_card_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let token = world.tokenize("acme", card(VISA)).await.unwrap().into_inner();
    for caller in ["svc-fraud", "svc-ledger", "svc-tax", "edge-gateway", "operator", "stranger"] {
        let one = world.vault(caller).detokenize(call("acme", detokenize(&token.id, ""))).await;
        assert_eq!(reason(one), Reason::PermissionDenied, "{caller}");
        let items = vec![detokenize(&token.id, "")];
        let many = world.vault(caller).batch_detokenize(call("acme", BatchDetokenizeRequest { items })).await;
        assert_eq!(reason(many), Reason::PermissionDenied, "{caller}");
    }
    world.service.stop().await;
}

#[tokio::test]
async fn a_batch_answers_each_item_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let visa = world.tokenize("acme", card(VISA)).await.unwrap().into_inner();
    let amex = world.tokenize("other", card("378282246310005")).await.unwrap().into_inner();
    let asked = [
        (&*visa.id, ""),
        (&*amex.id, ""),
        ("tok_x", ""),
        (&*amex.id, "other"),
        (&*visa.id, "A/B"),
        (&*visa.id, ""),
    ];

    let items = asked.iter().map(|(token, tenant)| detokenize(token, tenant)).collect();
    let request = call("acme", BatchDetokenizeRequest { items });
    let answer = world.vault("svc-payments").batch_detokenize(request).await.unwrap().into_inner();
    let opened: Vec<String> = answer
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            batch_detokenize_response::item::Result::Card(card) => card.number,
            batch_detokenize_response::item::Result::Reason(reason) => reason,
        })
        .collect();
    assert_eq!(
        opened,
        [VISA, "TOKEN_NOT_FOUND", "TOKEN_NOT_FOUND", "378282246310005", "INVALID_REQUEST", VISA]
    );

    let items = asked
        .iter()
        .map(|(id, tenant)| batch_get_tokens_request::Item { id: (*id).into(), tenant: (*tenant).into() })
        .collect();
    let request = call("acme", BatchGetTokensRequest { items });
    let answer = world.vault("svc-payments").batch_get_tokens(request).await.unwrap().into_inner();
    let shown: Vec<String> = answer
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            batch_get_tokens_response::item::Result::Token(token) => token.id,
            batch_get_tokens_response::item::Result::Reason(reason) => reason,
        })
        .collect();
    let expected = [&*visa.id, "TOKEN_NOT_FOUND", "TOKEN_NOT_FOUND", &*amex.id, "INVALID_REQUEST", &*visa.id];
    assert_eq!(shown, expected);

    let items = vec![detokenize(&visa.id, ""); 1_025];
    let refused =
        world.vault("svc-payments").batch_detokenize(call("acme", BatchDetokenizeRequest { items })).await;
    let fault = Fault::from_status(&refused.unwrap_err());
    assert_eq!(fault.violations()[0].field, "items");
    world.service.stop().await;
}

#[tokio::test]
async fn the_cards_that_the_simulator_knows_can_be_stored() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let mut ids = std::collections::HashSet::new();
    let numbers = [
        VISA,
        "5555555555554444",
        "378282246310005",
        "6011111111111117",
        "4000000000000002",
        "4000000000009995",
        "4000000000009987",
        "4000000000009979",
        "4000000000000069",
        "4000000000000127",
        "4000000000000119",
        "4100000000000019",
        "4000000000009235",
    ];
    for number in numbers {
        ids.insert(world.tokenize("acme", card(number)).await.unwrap().into_inner().id);
    }
    assert_eq!(ids.len(), numbers.len());
    world.service.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_card_is_said_by_field_and_without_its_value() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let bad = [
        ("card.number", "Luhn", card("4242424242424241")),
        ("card.number", "13 or 16 or 19", card("424242424242424")),
        ("card.number", "12 to 19", card("4242")),
        ("card.number", "15 digits", card("3782822463100050")),
        ("card.number", "begins with 1 to 9", card("0000000000000000")),
        ("card.number", "digits", card("4242x42424242424")),
        ("card.number", "given", card("")),
        ("card.exp_month", "1 to 12", CardInput { exp_month: 13, ..card(VISA) }),
        ("card.exp_month", "expired", CardInput { exp_month: 10, exp_year: 2026, ..card(VISA) }),
        ("card.exp_year", "expired", CardInput { exp_year: 2025, ..card(VISA) }),
        ("card.exp_year", "four digits", CardInput { exp_year: 30, ..card(VISA) }),
        ("card.exp_year", "30 years", CardInput { exp_year: 2057, ..card(VISA) }),
        ("card.cvc", "3 digits", CardInput { cvc: "8642".into(), ..card(VISA) }),
        ("card.cvc", "4 digits", CardInput { cvc: "864".into(), ..card("378282246310005") }),
        ("card.holder_name", "100", CardInput { holder_name: "x".repeat(101), ..card(VISA) }),
        ("card.holder_name", "control", CardInput { holder_name: "Ada\u{0}".into(), ..card(VISA) }),
    ];
    for (field, description, card) in bad {
        let (number, cvc) = (card.number.clone(), card.cvc.clone());
        let status = world.tokenize("acme", card).await.unwrap_err();
        let fault = Fault::from_status(&status);
        assert_eq!(fault.reason(), Reason::InvalidRequest);
        let [violation] = fault.violations() else { panic!("{field}: {:?}", fault.violations()) };
        assert_eq!(violation.field, field);
        assert!(violation.description.contains(description), "{field}: {}", violation.description);
        let shown = format!("{status:?}{fault:?}");
        assert!(number.is_empty() || !shown.contains(&number), "{field}");
        assert!(cvc.is_empty() || !shown.contains(&cvc), "{field}");
    }
    let none = world.vault("edge-gateway").tokenize(call("acme", TokenizeRequest::default())).await;
    assert_eq!(Fault::from_status(&none.unwrap_err()).violations()[0].field, "card");
    world.service.stop().await;
}

#[tokio::test]
async fn a_key_replays_the_first_answer_even_when_the_card_has_expired_since() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let given = CardInput { exp_month: 11, exp_year: 2026, cvc: "123".into(), ..card(VISA) };
    let mut edge = world.vault("edge-gateway");
    let first = edge.tokenize(with_key("acme", "k1", given.clone())).await.unwrap();
    assert!(!is_replayed(&first));
    // The card is renewed under no key: the first answer stays what it was.
    world.tokenize("acme", card(VISA)).await.unwrap();
    // Nothing of the verification code is kept, so it cannot tell requests apart.
    let other_cvc = CardInput { cvc: "999".into(), ..given.clone() };
    for repeated in [given.clone(), other_cvc] {
        let again = edge.tokenize(with_key("acme", "k1", repeated)).await.unwrap();
        assert!(is_replayed(&again));
        assert_eq!(again.get_ref(), first.get_ref());
    }
    for other in
        [card(VISA), CardInput { holder_name: "Eve".into(), ..given.clone() }, card("5555555555554444")]
    {
        let refused = edge.tokenize(with_key("acme", "k1", other)).await;
        assert_eq!(reason(refused), Reason::IdempotencyKeyReused);
    }
    let theirs = edge.tokenize(with_key("other", "k1", given.clone())).await.unwrap();
    assert!(!is_replayed(&theirs), "a key belongs to its tenant");

    world.clock.advance_seconds(10 * 24 * 3_600);
    let again = edge.tokenize(with_key("acme", "k1", given.clone())).await.unwrap();
    assert!(is_replayed(&again));
    assert_eq!(again.get_ref(), first.get_ref());
    let new_key = Fault::from_status(&edge.tokenize(with_key("acme", "k2", given)).await.unwrap_err());
    assert_eq!(new_key.violations()[0].field, "card.exp_month");
    // What was refused is not kept: the key is free.
    assert!(edge.tokenize(with_key("acme", "k2", card(VISA))).await.is_ok());
    world.service.stop().await;
}

#[tokio::test]
async fn concurrent_requests_for_one_card_agree_on_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let edge = world.vault("edge-gateway");
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let mut edge = edge.clone();
            let request = call_of("acme").request(opaque(card(VISA)));
            tokio::spawn(async move { edge.tokenize(request).await.unwrap().into_inner().id })
        })
        .collect();
    let mut ids = std::collections::HashSet::new();
    for call in calls {
        ids.insert(call.await.unwrap());
    }
    assert_eq!(ids.len(), 1);
    world.service.stop().await;
}
