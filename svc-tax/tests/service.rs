//! The service behind the mesh's real stack: mTLS, identity, policy, a store on disk.

// The lint's exception for tests covers the test functions, not what they share.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use mesh::{Fault, ManualClock, Reason, Running, testing::Harness};
use money::Timestamp;
use paymesh_proto::tax::v1::{
    Address, CalculateRequest, Calculation, GetCalculationRequest, Line, line::Category,
    tax_service_client::TaxServiceClient,
};
use svc_tax::{Config, Tax};

struct World {
    harness: Harness,
    running: Running,
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
}

impl World {
    /// 2020-12-31 23:59:00 UTC: a minute before Germany's rate goes from 16 to 19 percent.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_609_459_140)));
        let mut harness = Harness::with_clock(dir.path(), Arc::clone(&clock) as _).unwrap();
        let running = harness.start::<Tax>(Config::default()).await.unwrap();
        Self { harness, running, clock, dir }
    }

    fn client(&self, caller: &str) -> TaxServiceClient<mesh::Upstream> {
        TaxServiceClient::new(self.harness.upstream(caller, &self.running).unwrap())
    }

    /// The answer, and whether it is marked as replayed.
    async fn calculate(
        &self,
        request: CalculateRequest,
        key: Option<&str>,
    ) -> Result<(Calculation, bool), Fault> {
        let mut request = mesh::testing::call_of("acme").request(request);
        if let Some(key) = key {
            request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
        }
        let response = self.client("edge-gateway").calculate(request).await;
        let response = response.map_err(|status| Fault::from_status(&status))?;
        let replayed = response.metadata().get("idempotency-replayed").is_some_and(|value| value == "true");
        Ok((response.into_inner(), replayed))
    }

    async fn get(&self, tenant: &str, id: &str) -> Result<Calculation, Fault> {
        let request = mesh::testing::call_of(tenant).request(GetCalculationRequest { id: id.into() });
        let response = self.client("svc-payments").get_calculation(request).await;
        response.map(tonic::Response::into_inner).map_err(|status| Fault::from_status(&status))
    }
}

fn line(amount: i64, category: Category) -> Line {
    Line { reference: "L1".into(), amount, category: category.into() }
}

fn request() -> CalculateRequest {
    CalculateRequest {
        currency: "EUR".into(),
        lines: vec![line(10_000, Category::Unspecified), line(1_000, Category::Reduced)],
        ship_to: Some(Address { country: "DE".into(), ..Address::default() }),
        ship_from: None,
        prices_include_tax: false,
    }
}

#[tokio::test]
async fn a_calculation_is_kept_as_it_was_made_and_only_for_its_tenant() {
    let mut world = World::new().await;
    let (made, replayed) = world.calculate(request(), None).await.unwrap();
    assert!(!replayed && made.id.starts_with("taxc_"));
    assert_eq!((made.amount_net, made.amount_tax, made.amount_total), (11_000, 1_650, 12_650));
    assert_eq!((made.currency.as_str(), made.jurisdiction.as_str()), ("EUR", "DE"));
    assert_eq!(made.subtotals.iter().map(|s| s.rate_percent.as_str()).collect::<Vec<_>>(), ["16", "5"]);
    assert_eq!(made.lines[0].category(), Category::Standard, "what is not said is the standard rate");

    world.clock.advance_seconds(60);
    let (later, _) = world.calculate(request(), None).await.unwrap();
    assert_eq!(later.amount_tax, 1_970, "a minute later the year is new");
    world.running.stop().await;
    world.running = world.harness.start::<Tax>(Config::default()).await.unwrap();
    assert_eq!(world.get("acme", &made.id).await.unwrap(), made, "history is not restated");

    for (tenant, id) in
        [("globex", made.id.as_str()), ("acme", "taxc_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b"), ("acme", "x")]
    {
        assert_eq!(world.get(tenant, id).await.unwrap_err().reason(), Reason::CalculationNotFound);
    }
}

#[tokio::test]
async fn a_key_gives_the_first_answer_again() {
    let world = World::new().await;
    let (first, _) = world.calculate(request(), Some("k1")).await.unwrap();
    world.clock.advance_seconds(3_600);
    assert_eq!(world.calculate(request(), Some("k1")).await.unwrap(), (first.clone(), true));
    let other = CalculateRequest { prices_include_tax: true, ..request() };
    assert_eq!(world.calculate(other, Some("k1")).await.unwrap_err().reason(), Reason::IdempotencyKeyReused);
    assert_ne!(world.calculate(request(), Some("k2")).await.unwrap().0.id, first.id);
}

#[tokio::test]
async fn a_key_gives_the_first_answer_again_whatever_became_of_the_rates() {
    let mut world = World::new().await;
    let rates = world.dir.path().join("rates.toml");
    let table = r#"
        [[jurisdiction]]
        code = "XA"
        name = "Test"
        rates = [{ begin = "2020-01-01", standard = "10" }]
    "#;
    std::fs::write(&rates, table).unwrap();
    world.running.stop().await;
    let config = Config { rates_file: Some(rates) };
    world.running = world.harness.start::<Tax>(config).await.unwrap();
    let address = Address { country: "XA".into(), ..Address::default() };
    let there = CalculateRequest {
        lines: vec![line(10_000, Category::Standard)],
        ship_to: Some(address),
        ..request()
    };
    let (first, _) = world.calculate(there.clone(), Some("k1")).await.unwrap();
    assert_eq!(first.amount_tax, 1_000);

    world.running.stop().await;
    world.running = world.harness.start::<Tax>(Config::default()).await.unwrap();
    for key in [None, Some("k2")] {
        let fault = world.calculate(there.clone(), key).await.unwrap_err();
        assert_eq!(fault.reason(), Reason::InvalidRequest, "there are no rates for it now");
    }
    assert_eq!(world.calculate(there.clone(), Some("k1")).await.unwrap(), (first, true));
    let other = CalculateRequest { prices_include_tax: true, ..there };
    assert_eq!(world.calculate(other, Some("k1")).await.unwrap_err().reason(), Reason::IdempotencyKeyReused);
}

#[tokio::test]
async fn what_is_wrong_is_named_all_at_once() {
    let world = World::new().await;
    let right = request();
    let lines = |lines: Vec<Line>| CalculateRequest { lines, ..right.clone() };
    let to = |country: &str, state: &str| {
        let address = Address { country: country.into(), state: state.into(), ..Address::default() };
        CalculateRequest { ship_to: Some(address), ..right.clone() }
    };
    let long = Address { country: "DE".into(), city: "x".repeat(201), ..Address::default() };
    let cases: Vec<(&[&str], CalculateRequest)> = vec![
        (&["currency"], CalculateRequest { currency: "eur".into(), ..right.clone() }),
        (&["lines"], lines(vec![])),
        (&["lines"], lines(vec![line(1, Category::Standard); 501])),
        (&["lines[1].amount"], lines(vec![line(1, Category::Standard), line(-1, Category::Standard)])),
        (&["lines[0].amount"], lines(vec![line(money::AMOUNT_MAX + 1, Category::Standard)])),
        (&["lines[0].category"], lines(vec![Line { category: 99, ..line(1, Category::Standard) }])),
        (
            &["lines[0].reference"],
            lines(vec![Line { reference: "x".repeat(101), ..line(1, Category::Standard) }]),
        ),
        (&["ship_to"], CalculateRequest { ship_to: None, ..right.clone() }),
        (&["ship_to.country"], to("XX", "")),
        (&["ship_to.country"], to("", "")),
        (&["ship_to.state"], CalculateRequest { lines: vec![line(1, Category::Standard)], ..to("US", "") }),
        (&["ship_to.city"], CalculateRequest { ship_to: Some(long.clone()), ..right.clone() }),
        (&["ship_from.country"], CalculateRequest { ship_from: Some(Address::default()), ..right.clone() }),
        (&["ship_from.city"], CalculateRequest { ship_from: Some(long), ..right.clone() }),
        (
            &["currency", "lines[0].category", "lines[0].amount", "ship_to.country"],
            CalculateRequest {
                currency: "?".into(),
                lines: vec![Line { category: -1, ..line(-1, Category::Standard) }],
                ..to("uk", "")
            },
        ),
    ];
    for (fields, wrong) in cases {
        let fault = world.calculate(wrong, Some("k")).await.unwrap_err();
        assert_eq!(fault.reason(), Reason::InvalidRequest);
        assert_eq!(
            fault.violations().iter().map(|v| v.field.as_str()).collect::<Vec<_>>(),
            fields,
            "{fault}"
        );
    }
    assert!(world.calculate(right, Some("k")).await.is_ok(), "a refusal does not use up the key");
}

#[tokio::test]
async fn only_who_may_ask_is_answered_and_only_for_a_tenant() {
    let world = World::new().await;
    let status = world
        .client("svc-fraud")
        .calculate(mesh::testing::call_of("acme").request(request()))
        .await
        .unwrap_err();
    assert_eq!(Fault::from_status(&status).reason(), Reason::PermissionDenied);
    let status = world.client("edge-gateway").calculate(request()).await.unwrap_err();
    assert_eq!(Fault::from_status(&status).reason(), Reason::TenantRequired);
}
