//! What can be done with a payment beside the simplest: confirm it later, review it, capture it in parts, reserve more,
//! keep it for longer, let its time run out.

use mesh::Reason;
use paymesh_proto::payments::v1::{
    CapturePaymentRequest, ConfirmPaymentRequest, ExtendAuthorizationRequest, GetRefundRequest,
    IncrementAuthorizationRequest, ListPaymentsRequest, Payment, ResolveReviewRequest,
    payment::{CaptureMethod, Status, operation},
    resolve_review_request::Decision,
};

use crate::{
    gate::until,
    world::{Edge, VISA, World, call, order},
};

async fn capture(edge: &Edge, key: &str, id: &str, amount: i64, last: bool) -> Payment {
    let request = CapturePaymentRequest { id: id.into(), amount: Some(amount), r#final: Some(last) };
    edge.client().capture_payment(call(key).forward(request)).await.unwrap().into_inner()
}

async fn review(edge: &Edge, key: &str, id: &str, decision: Decision) -> Payment {
    let request = ResolveReviewRequest { id: id.into(), decision: decision.into() };
    edge.client().resolve_review(call(key).forward(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_is_created_unconfirmed_is_carried_out_when_it_is_confirmed_or_expires() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let mut request = order(&token, CaptureMethod::Automatic);
    request.confirm = Some(false);
    let created = edge.create("k1", &request).await.unwrap().message;
    assert_eq!(created.status(), Status::RequiresConfirmation);
    assert!(created.expires_at.is_some() && created.operations.is_empty());
    assert!(world.journal().is_empty());
    let confirm = async |key: &str, id: &str| {
        let request = ConfirmPaymentRequest { id: id.to_owned() };
        edge.client().confirm_payment(call(key).forward(request)).await
    };
    let confirmed = confirm("c", &created.id).await.unwrap().into_inner();
    assert_eq!(confirmed.status(), Status::Captured);
    let again = confirm("c", &created.id).await.unwrap();
    assert!(again.metadata().contains_key("idempotency-replayed"));
    assert_eq!(again.into_inner(), confirmed);
    let twice = mesh::Fault::from_status(&confirm("d", &created.id).await.unwrap_err());
    assert_eq!(twice.reason(), Reason::PaymentStateConflict);
    world.books_become(0, 10_000, 0).await;

    let forgotten = edge.create("k2", &request).await.unwrap().message;
    world.clock.advance_seconds(24 * 3_600);
    until("it expires", async || (edge.get(&forgotten.id).await.status() == Status::Expired).then_some(()))
        .await;
    assert_eq!(world.effects("sale"), 1);
}

#[tokio::test]
async fn a_payment_is_captured_in_parts_and_its_rest_released() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let mut request = order(&token, CaptureMethod::Manual);
    request.convenience_fee = 500;
    let id = edge.create("k", &request).await.unwrap().message.id;
    let first = capture(&edge, "c1", &id, 3_000, false).await;
    assert_eq!((first.status(), first.amount_capturable), (Status::PartiallyCaptured, 7_000));
    let second = capture(&edge, "c2", &id, 2_000, false).await;
    assert_eq!((second.amount_captured, second.amount_capturable), (5_000, 5_000));
    let request = IncrementAuthorizationRequest { id: id.clone(), amount: 1_000 };
    let more = edge.client().increment_authorization(call("i").forward(request)).await.unwrap().into_inner();
    assert_eq!((more.amount, more.amount_authorized, more.amount_capturable), (11_000, 11_000, 6_000));
    let refund = edge.refund("r", &id, Some(5_000)).await.unwrap().message;
    assert_eq!(edge.get(&id).await.status(), Status::Refunded, "all that was captured, for now");
    let last = capture(&edge, "c3", &id, 4_000, true).await;
    assert_eq!(
        (last.status(), last.amount_captured, last.amount_capturable),
        (Status::PartiallyCaptured, 9_000, 0)
    );
    let request = GetRefundRequest { payment_id: id.clone(), id: refund.id.clone() };
    assert_eq!(edge.client().get_refund(call("").forward(request)).await.unwrap().into_inner(), refund);
    let over = edge.capture("c4", &id, Some(1)).await.unwrap_err();
    assert_eq!(over.reason(), Reason::PaymentStateConflict);
    assert_eq!((world.effects("capture"), world.effects("increment"), world.effects("void")), (3, 1, 0));
    until("the books are right", async || {
        let books = world.books().await;
        // 5 % of the first 9,000 of 10,000 are fee; 5 % of 5,000 went back.
        let right = books["processor_clearing"] == (0, 4_000)
            && books["fees"] == (0, -200)
            && books["biller_payable"] == (0, -3_800);
        right.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_authorization_is_kept_for_longer_and_then_released() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let created = edge.create("k", &order(&token, CaptureMethod::Manual)).await.unwrap().message;
    world.clock.advance_seconds(6 * 24 * 3_600);
    let request = ExtendAuthorizationRequest { id: created.id.clone() };
    let extended = edge.client().extend_authorization(call("e").forward(request)).await.unwrap().into_inner();
    assert_eq!(
        extended.expires_at.unwrap().seconds - created.expires_at.unwrap().seconds,
        6 * 24 * 3_600,
        "another seven days from now"
    );
    world.clock.advance_seconds(7 * 24 * 3_600 - 1);
    assert_eq!(edge.get(&created.id).await.status(), Status::Authorized);
    world.clock.advance_seconds(1);
    until("it expires", async || (edge.get(&created.id).await.status() == Status::Expired).then_some(()))
        .await;
    assert_eq!(world.effects("void"), 1);
    world.books_become(0, 0, 0).await;
}

#[tokio::test]
async fn a_payment_that_is_held_back_goes_on_or_is_refused_by_a_person() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token("4000000000009235").await;
    let request = order(&token, CaptureMethod::Automatic);
    let held = edge.create("k1", &request).await.unwrap().message;
    assert_eq!(held.status(), Status::InReview);
    let approved = review(&edge, "a", &held.id, Decision::Approve).await;
    assert_eq!(approved.status(), Status::Captured);
    let kinds: Vec<_> = approved.operations.iter().map(|o| (o.kind(), o.status())).collect();
    let authorize = operation::Kind::Authorize;
    assert_eq!(
        kinds,
        [(authorize, operation::Status::Failed), (authorize, operation::Status::Succeeded)],
        "the first attempt never reached a processor"
    );
    let held = edge.create("k2", &request).await.unwrap().message;
    let rejected = review(&edge, "b", &held.id, Decision::Reject).await;
    assert_eq!(rejected.status(), Status::Failed);
    assert_eq!(rejected.failure.unwrap().code, "REVIEW_REJECTED");
    assert_eq!(world.effects("sale"), 1);
    world.books_become(0, 10_000, 0).await;
}

#[tokio::test]
async fn payments_are_found_by_amount_time_and_metadata() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    for (number, amount) in [(1, 100), (2, 200), (3, 300)] {
        let mut request = order(&token, CaptureMethod::Manual);
        request.amount = amount;
        request.metadata = [("order".to_owned(), format!("o{}", number % 2))].into();
        edge.create(&format!("k{number}"), &request).await.unwrap();
        world.clock.advance_seconds(10);
    }
    let list = async |request: ListPaymentsRequest| {
        let answer = edge.client().list_payments(call("").forward(request)).await;
        answer.map(|answer| answer.into_inner().payments.iter().map(|found| found.amount).collect::<Vec<_>>())
    };
    let all = list(ListPaymentsRequest::default()).await.unwrap();
    assert_eq!(all, [300, 200, 100]);
    let some = ListPaymentsRequest { amount_min: Some(150), amount_max: Some(250), ..Default::default() };
    assert_eq!(list(some).await.unwrap(), [200]);
    let odd = ListPaymentsRequest { metadata: "order=o1".into(), ..Default::default() };
    assert_eq!(list(odd).await.unwrap(), [300, 100]);
    let second = edge.client().list_payments(call("").forward(ListPaymentsRequest::default())).await;
    let created = second.unwrap().into_inner().payments[1].created_at;
    let since = ListPaymentsRequest { created_from: created, ..Default::default() };
    assert_eq!(list(since).await.unwrap(), [300, 200]);
    let until_then = ListPaymentsRequest { created_before: created, ..Default::default() };
    assert_eq!(list(until_then).await.unwrap(), [100]);
    for wrong in [
        ListPaymentsRequest { metadata: "order".into(), ..Default::default() },
        ListPaymentsRequest { amount_min: Some(2), amount_max: Some(1), ..Default::default() },
    ] {
        let refused = mesh::Fault::from_status(&list(wrong).await.unwrap_err());
        assert_eq!(refused.reason(), Reason::InvalidRequest);
    }
}
