//! The service behind the mesh's real stack: mTLS, identity, policy, a store on disk.

// The lint's exception for tests covers the test functions, not what they share.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use mesh::{Fault, ManualClock, Reason, Running, testing::Harness};
use money::Timestamp;
use paymesh_proto::fraud::v1::{
    AssessRequest, Assessment, BatchAssessRequest, assessment::Outcome,
    batch_assess_response::item::Result as ItemResult, fraud_service_client::FraudServiceClient,
};
use svc_fraud::{Config, Fraud};

struct World {
    harness: Harness,
    running: Running,
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000)));
        let mut harness = Harness::with_clock(dir.path(), Arc::clone(&clock) as _).unwrap();
        let running = harness.start::<Fraud>(Config::default()).await.unwrap();
        Self { harness, running, clock, dir }
    }

    fn client(&self, caller: &str) -> FraudServiceClient<mesh::Upstream> {
        FraudServiceClient::new(self.harness.upstream(caller, &self.running).unwrap())
    }

    async fn assess(&self, request: AssessRequest) -> Result<Assessment, Fault> {
        let request = mesh::testing::call_of("acme").request(request);
        match self.client("svc-payments").assess(request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(Fault::from_status(&status)),
        }
    }
}

fn request(payment: u64, bin: &str, last4: &str) -> AssessRequest {
    AssessRequest {
        payment_id: format!("pay_{payment:032x}"),
        amount: 1050,
        currency: "EUR".into(),
        card_fingerprint: format!("fp-{bin}-{last4}"),
        card_bin: bin.into(),
        card_last4: last4.into(),
        card_brand: "VISA".into(),
        tenant: String::new(),
    }
}

#[tokio::test]
async fn a_payment_is_assessed_once_and_the_answer_outlives_a_restart() {
    let mut world = World::new().await;
    let first = world.assess(request(1, "400000", "9235")).await.unwrap();
    assert_eq!(
        (first.outcome(), first.score, &*first.reasons),
        (Outcome::Review, 65, &["review_test_card".into()][..])
    );
    assert_eq!(first.assessed_at.unwrap().seconds, 1_800_000_000);
    world.clock.advance_seconds(60);
    assert_eq!(world.assess(request(1, "400000", "9235")).await.unwrap(), first);

    world.running.stop().await;
    world.running = world.harness.start::<Fraud>(Config::default()).await.unwrap();
    assert_eq!(world.assess(request(1, "400000", "9235")).await.unwrap(), first);
    assert_eq!(world.assess(request(2, "410000", "0019")).await.unwrap().outcome(), Outcome::Block);
    assert_eq!(world.assess(request(3, "424242", "4242")).await.unwrap().outcome(), Outcome::Allow);
    drop(world.dir);
}

#[tokio::test]
async fn a_batch_answers_each_item_by_itself_and_in_order() {
    let world = World::new().await;
    let wrong = AssessRequest { currency: "ABC".into(), ..request(3, "400000", "0002") };
    let foreign = AssessRequest { tenant: "globex".into(), ..request(1, "410000", "0019") };
    let items = vec![request(1, "424242", "4242"), request(2, "410000", "0019"), wrong, foreign];
    let batch = mesh::testing::call_of("acme").request(BatchAssessRequest { items });
    let answer = world.client("svc-payments").batch_assess(batch).await.unwrap().into_inner();
    let results: Vec<_> = answer
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            ItemResult::Assessment(assessment) => assessment.outcome().as_str_name().to_owned(),
            ItemResult::Reason(reason) => reason,
        })
        .collect();
    assert_eq!(results, ["ALLOW", "BLOCK", "INVALID_REQUEST", "BLOCK"]);

    let items = (0..1_001).map(|n| request(n, "424242", "4242")).collect();
    let batch = mesh::testing::call_of("acme").request(BatchAssessRequest { items });
    let status = world.client("svc-payments").batch_assess(batch).await.unwrap_err();
    assert_eq!(Fault::from_status(&status).violations()[0].field, "items");
}

#[tokio::test]
async fn what_is_wrong_is_named_all_at_once() {
    let world = World::new().await;
    let right = request(1, "400000", "0002");
    for (field, wrong) in [
        ("payment_id", AssessRequest { payment_id: "re_1".into(), ..right.clone() }),
        ("amount", AssessRequest { amount: 0, ..right.clone() }),
        ("amount", AssessRequest { amount: -1, ..right.clone() }),
        ("amount", AssessRequest { amount: money::AMOUNT_MAX + 1, ..right.clone() }),
        ("currency", AssessRequest { currency: "eur".into(), ..right.clone() }),
        ("card_fingerprint", AssessRequest { card_fingerprint: String::new(), ..right.clone() }),
        ("card_bin", AssessRequest { card_bin: "4242424242424242".into(), ..right.clone() }),
        ("card_last4", AssessRequest { card_last4: "42".into(), ..right.clone() }),
        ("card_brand", AssessRequest { card_brand: "x".repeat(33), ..right.clone() }),
        ("tenant", AssessRequest { tenant: "A/B".into(), ..right.clone() }),
    ] {
        let fault = world.assess(wrong).await.unwrap_err();
        assert_eq!(fault.reason(), Reason::InvalidRequest);
        let fields: Vec<_> = fault.violations().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, [field]);
        assert!(!fault.to_string().contains("4242424242424242"), "{fault}");
    }
    let fault = world.assess(AssessRequest::default()).await.unwrap_err();
    let fields: Vec<_> = fault.violations().iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["payment_id", "amount", "currency", "card_fingerprint", "card_bin", "card_last4"]);
    // Nothing of the above was counted or kept.
    assert!(world.assess(right).await.is_ok());
}

#[tokio::test]
async fn only_payments_may_ask_and_only_for_a_tenant() {
    let world = World::new().await;
    for caller in ["edge-gateway", "svc-tax", "svc-ledger"] {
        let request = mesh::testing::call_of("acme").request(request(1, "424242", "4242"));
        let status = world.client(caller).assess(request).await.unwrap_err();
        assert_eq!(Fault::from_status(&status).reason(), Reason::PermissionDenied, "{caller}");
    }
    let status = world.client("svc-payments").assess(request(1, "424242", "4242")).await.unwrap_err();
    assert_eq!(Fault::from_status(&status).reason(), Reason::TenantRequired);
}
