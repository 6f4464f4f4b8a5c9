//! The gRPC face of svc-fraud: messages in, domain values through, messages out.

use std::sync::Arc;

use mesh::{Call, Clock, Fault, Violations, clock};
use paymesh_proto::fraud::v1 as proto;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use proto::{batch_assess_response::item::Result as ItemResult, fraud_service_server::FraudService};
use tonic::{Request, Response, Status};

use crate::{
    domain::{Assessment, Card, Outcome, Subject},
    store::Store,
};

/// The most items of one `BatchAssess`.
pub const BATCH_MAX: usize = 1_000;

/// The longest name of a card brand. No rule reads it yet.
const BRAND_LENGTH_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Answers `paymesh.fraud.v1.FraudService`.
pub struct FraudApi<S> {
    store: S,
    clock: Arc<dyn Clock>,
    outcomes: Family<OutcomeLabel, Counter>,
}

impl<S: Store> FraudApi<S> {
    /// A face for this store. What it decides is counted in `metrics`.
    pub fn new(store: S, clock: Arc<dyn Clock>, metrics: &mesh::Metrics) -> Self {
        let outcomes = Family::default();
        metrics.register("fraud_assessments", "Assessments given, by outcome", outcomes.clone());
        Self { store, clock, outcomes }
    }

    async fn assess_all(&self, subjects: Vec<Subject>) -> Result<Vec<proto::Assessment>, Fault> {
        let assessments = self.store.assess(subjects, self.clock.now()).await?;
        for assessment in &assessments {
            let outcome = match assessment.outcome {
                Outcome::Allow => "ALLOW",
                Outcome::Review => "REVIEW",
                Outcome::Block => "BLOCK",
            };
            self.outcomes.get_or_create(&OutcomeLabel { outcome }).inc();
        }
        Ok(assessments.iter().map(to_proto).collect())
    }
}

#[tonic::async_trait]
impl<S: Store> FraudService for FraudApi<S> {
    async fn assess(
        &self,
        request: Request<proto::AssessRequest>,
    ) -> Result<Response<proto::Assessment>, Status> {
        let call = Call::of(&request)?;
        let subject = subject(&call, request.get_ref())?;
        let mut answers = self.assess_all(vec![subject]).await?;
        let answer =
            answers.pop().ok_or_else(|| Fault::new(mesh::Reason::Internal, "The store gave no answer."))?;
        Ok(Response::new(answer))
    }

    async fn batch_assess(
        &self,
        request: Request<proto::BatchAssessRequest>,
    ) -> Result<Response<proto::BatchAssessResponse>, Status> {
        let call = Call::of(&request)?;
        let items = &request.get_ref().items;
        if items.len() > BATCH_MAX {
            return Err(Fault::invalid("items", format!("must have at most {BATCH_MAX} entries")).into());
        }
        let checked: Vec<_> = items.iter().map(|item| subject(&call, item)).collect();
        let sound = checked.iter().filter_map(|item| item.as_ref().ok().cloned()).collect();
        let mut answers = self.assess_all(sound).await?.into_iter();
        let item = |checked: Result<Subject, Fault>| {
            let result = match checked {
                Ok(_) => answers.next().map(ItemResult::Assessment),
                Err(fault) => {
                    tracing::debug!(%fault, "an item of a batch is not valid");
                    Some(ItemResult::Reason(fault.reason().as_str().to_owned()))
                }
            };
            proto::batch_assess_response::Item { result }
        };
        let items = checked.into_iter().map(item).collect();
        Ok(Response::new(proto::BatchAssessResponse { items }))
    }
}

/// Reads a request, or says everything that is wrong with it.
fn subject(call: &Call, request: &proto::AssessRequest) -> Result<Subject, Fault> {
    let tenant = call.tenant_of_item(&request.tenant)?;
    let mut violations = Violations::new();
    let payment_id = violations.check("payment_id", request.payment_id.parse());
    let amount = violations.check("amount", money::chargeable(request.amount));
    let currency = violations.check("currency", request.currency.parse());
    let fingerprint = violations.check("card_fingerprint", request.card_fingerprint.parse());
    let bin = violations.check("card_bin", request.card_bin.parse());
    let last4 = violations.check("card_last4", request.card_last4.parse());
    let brand = &request.card_brand;
    if brand.len() > BRAND_LENGTH_MAX || !brand.bytes().all(|b| b.is_ascii_graphic()) {
        violations.add("card_brand", format!("must be at most {BRAND_LENGTH_MAX} visible ASCII characters"));
    }
    violations.finish()?;
    match (payment_id, amount, currency, fingerprint, bin, last4) {
        (Some(payment_id), Some(amount), Some(currency), Some(fingerprint), Some(bin), Some(last4)) => {
            Ok(Subject { tenant, payment_id, amount, currency, card: Card { fingerprint, bin, last4 } })
        }
        // A value that is missing was noted above.
        _ => Err(Fault::new(mesh::Reason::InvalidRequest, "The request is not valid.")),
    }
}

fn to_proto(assessment: &Assessment) -> proto::Assessment {
    let outcome = match assessment.outcome {
        Outcome::Allow => proto::assessment::Outcome::Allow,
        Outcome::Review => proto::assessment::Outcome::Review,
        Outcome::Block => proto::assessment::Outcome::Block,
    };
    proto::Assessment {
        outcome: outcome.into(),
        score: assessment.score.into(),
        reasons: assessment.reasons.iter().map(ToString::to_string).collect(),
        assessed_at: Some(clock::to_proto(assessment.assessed_at)),
    }
}
