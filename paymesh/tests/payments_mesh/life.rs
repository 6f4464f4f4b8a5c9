//! A payment from its token to its last refund, and what is refused on the way.

use mesh::Reason;
use paymesh_proto::{
    payments::v1::{
        ListPaymentsRequest, ListRefundsRequest, TaxInput,
        payment::{CaptureMethod, Status, fraud::Outcome},
        refund,
    },
    tax::v1::{Address, Line},
};

use crate::world::{BLOCKED, VISA, World, call, order};

#[tokio::test]
async fn a_payment_is_authorized_captured_and_given_back() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let mut request = order(&token, CaptureMethod::Manual);
    request.tax = Some(TaxInput {
        lines: vec![Line { reference: "L1".into(), amount: 10_000, ..Default::default() }],
        ship_to: Some(Address { country: "DE".into(), ..Default::default() }),
        ship_from: None,
        prices_include_tax: true,
    });
    let created = edge.create("k1", &request).await.unwrap();
    assert!(!created.replayed);
    let payment = created.message;
    assert_eq!(payment.status(), Status::Authorized);
    assert_eq!((payment.amount, payment.amount_authorized, payment.amount_captured), (10_000, 10_000, 0));
    assert_eq!(payment.fraud.as_ref().unwrap().outcome(), Outcome::Allow);
    assert_eq!(payment.processor.as_ref().unwrap().reference, format!("sim_{}_1", payment.id));
    let tax = payment.tax.as_ref().unwrap().amount_tax;
    assert_eq!(tax, 1_597, "19 % within 100.00");
    world.books_become(10_000, 0, 0).await;

    let captured = edge.capture("c1", &payment.id, Some(6_000)).await.unwrap().message;
    assert_eq!((captured.status(), captured.amount_captured), (Status::PartiallyCaptured, 6_000));
    let share = 958; // 1,597 × 60 %, half up
    world.books_become(0, 6_000, share).await;

    let first = edge.refund("r1", &payment.id, Some(2_000)).await.unwrap().message;
    assert_eq!((first.status(), first.amount), (refund::Status::Succeeded, 2_000));
    let too_much = edge.refund("r2", &payment.id, Some(4_001)).await.unwrap_err();
    assert_eq!(too_much.reason(), Reason::RefundExceedsCaptured);
    assert_eq!(too_much.violations()[0].field, "amount");
    // Ids made within one millisecond have no order.
    world.clock.advance_seconds(1);
    // The key of a refused request is not used up.
    let second = edge.refund("r2", &payment.id, None).await.unwrap().message;
    assert_eq!(second.amount, 4_000);
    world.books_become(0, 0, 0).await;

    let last = edge.get(&payment.id).await;
    assert_eq!((last.status(), last.amount_refunded, last.sequence), (Status::Refunded, 6_000, 7));
    assert_eq!(
        edge.events(&payment.id).await,
        [
            "payment.created",
            "payment.authorized",
            "payment.partially_captured",
            "refund.created",
            "payment.partially_refunded",
            "refund.created",
            "payment.refunded",
        ]
    );
    let request = ListRefundsRequest { payment_id: payment.id.clone(), ..Default::default() };
    let refunds = edge.client().list_refunds(call("").forward(request)).await.unwrap().into_inner().refunds;
    assert_eq!(refunds, [second, first]);
    let kinds: Vec<_> = world.journal().into_iter().map(|(kind, _, amount)| (kind, amount)).collect();
    let expected = [("authorize", 10_000), ("capture", 6_000), ("refund", 2_000), ("refund", 4_000)];
    for (kind, amount) in expected {
        assert!(kinds.contains(&(kind.to_owned(), amount)), "{kinds:?}");
    }
    assert_eq!(kinds.len(), expected.len());
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_a_stable_reason() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let manual = order(&token, CaptureMethod::Manual);
    let payment = edge.create("k1", &manual).await.unwrap().message;
    let reason = |outcome: Result<_, mesh::Fault>| outcome.map(|_: crate::world::Answer<_>| ()).unwrap_err();

    assert_eq!(reason(edge.create("", &manual).await).reason(), Reason::IdempotencyKeyRequired);
    let mut unknown = manual.clone();
    unknown.payment_method.as_mut().unwrap().token = format!("tok_{:032x}", 7);
    let fault = reason(edge.create("k2", &unknown).await);
    assert_eq!(
        (fault.reason(), &*fault.violations()[0].field),
        (Reason::TokenNotFound, "payment_method.token")
    );
    let mut wrong = manual.clone();
    (wrong.amount, wrong.currency) = (0, "EURO".into());
    let fault = reason(edge.create("k2", &wrong).await);
    let fields: Vec<_> = fault.violations().iter().map(|violation| &*violation.field).collect();
    assert_eq!((fault.reason(), fields), (Reason::InvalidRequest, vec!["amount", "currency"]));
    let other = reason(edge.create("k1", &order(&token, CaptureMethod::Automatic)).await);
    assert_eq!(other.reason(), Reason::IdempotencyKeyReused);

    let over = reason(edge.capture("c", &payment.id, Some(10_001)).await);
    assert_eq!(over.reason(), Reason::CaptureExceedsAuthorized);
    let early = edge.refund("r", &payment.id, None).await.unwrap_err();
    assert_eq!(early.reason(), Reason::PaymentStateConflict);
    edge.cancel("x", &payment.id).await.unwrap();
    let late = reason(edge.capture("c", &payment.id, None).await);
    assert_eq!(late.reason(), Reason::PaymentStateConflict);
    let nowhere = reason(edge.capture("c", &format!("pay_{:032x}", 1), None).await);
    assert_eq!(nowhere.reason(), Reason::PaymentNotFound);
    world.books_become(0, 0, 0).await;
    assert_eq!((world.effects("authorize"), world.effects("void"), world.effects("capture")), (1, 1, 0));
}

#[tokio::test]
async fn declined_blocked_and_reviewed_payments_leave_nothing_reserved() {
    let (world, _payments, edge) = World::with_payments().await;
    for (number, status, code) in [
        ("4000000000009995", Status::Failed, "CARD_DECLINED"),
        (BLOCKED, Status::Failed, "FRAUD_BLOCKED"),
        ("4000000000009235", Status::InReview, ""),
    ] {
        let token = world.token(number).await;
        let payment = edge.create(number, &order(&token, CaptureMethod::Automatic)).await.unwrap().message;
        assert_eq!(payment.status(), status);
        assert_eq!(payment.failure.as_ref().map_or("", |failure| &failure.code), code);
        if status == Status::InReview {
            let canceled = edge.cancel("x", &payment.id).await.unwrap();
            assert_eq!(canceled.message.status(), Status::Canceled);
            let again = edge.cancel("x", &payment.id).await.unwrap();
            assert_eq!((again.bytes, again.replayed), (canceled.bytes, true));
        }
    }
    world.books_become(0, 0, 0).await;
    assert_eq!(world.journal().len(), 1, "only the declined one came as far as the processor");
}

#[tokio::test]
async fn lists_go_by_filter_and_page() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    for number in 0..5 {
        let mut request = order(&token, CaptureMethod::Automatic);
        request.reference = format!("INV-{}", number % 2);
        edge.create(&format!("k{number}"), &request).await.unwrap();
        world.clock.advance_seconds(1);
    }
    let list = async |request: ListPaymentsRequest| {
        edge.client().list_payments(call("").forward(request)).await.unwrap().into_inner()
    };
    let all = list(ListPaymentsRequest::default()).await;
    assert_eq!((all.payments.len(), &*all.next_page_token), (5, ""));
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = list(ListPaymentsRequest { page_size: 2, page_token, ..Default::default() }).await;
        seen.extend(page.payments);
        // A payment made meanwhile is newer than the page, and moves nothing.
        edge.create(&format!("n{}", seen.len()), &order(&token, CaptureMethod::Automatic)).await.unwrap();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, all.payments);
    let reference = list(ListPaymentsRequest { reference: "INV-0".into(), ..Default::default() }).await;
    assert_eq!(reference.payments.len(), 3);
    let status = i32::from(Status::Failed);
    assert!(list(ListPaymentsRequest { status, ..Default::default() }).await.payments.is_empty());
    let stranger = mesh::testing::call_of("globex").request(ListPaymentsRequest::default());
    assert!(edge.client().list_payments(stranger).await.unwrap().into_inner().payments.is_empty());
}
