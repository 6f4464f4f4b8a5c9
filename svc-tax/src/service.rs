//! The gRPC face of svc-tax: messages in, domain values through, messages out.

use std::sync::Arc;

use mesh::{
    Call, Clock, Fault, Ids, Reason, Violations,
    idempotency::{self, Scope},
};
use money::{CalculationId, Currency};
use paymesh_proto::tax::v1 as proto;
use proto::tax_service_server::TaxService;
use tonic::{Request, Response, Status};

use crate::{
    domain::{Calculation, Category, Line, RateTable, ShipTo, calculate},
    store::{Kept, Key, Store},
    wire,
};

/// The longest texts that are taken, in bytes.
const REFERENCE_LENGTH_MAX: usize = 100;
const POSTAL_CODE_LENGTH_MAX: usize = 20;
const ADDRESS_LENGTH_MAX: usize = 200;

/// What an idempotency key of `Calculate` is recorded under.
const CALCULATE: &str = "paymesh.tax.v1.TaxService/Calculate";

/// Answers `paymesh.tax.v1.TaxService`.
pub struct TaxApi<S> {
    store: S,
    rates: RateTable,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl<S: Store> TaxApi<S> {
    /// A face for this store, with these rates.
    pub fn new(store: S, rates: RateTable, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { store, rates, clock, ids }
    }

    /// Calculates, or says everything that is wrong.
    fn calculation(&self, request: proto::CalculateRequest) -> Result<Calculation, Fault> {
        let mut violations = Violations::new();
        let currency: Option<Currency> = violations.check("currency", request.currency.parse());
        let lines = request.lines.into_iter().enumerate();
        let lines = lines.map(|(index, line)| read_line(&mut violations, index, line)).collect();
        if let Some(from) = &request.ship_from {
            let legal = from.country.len() == 2 && from.country.bytes().all(|b| b.is_ascii_uppercase());
            if !legal {
                violations
                    .add("ship_from.country", "must be two upper-case letters of ISO 3166-1, such as DE");
            }
            check_address(&mut violations, "ship_from", from);
        }
        if request.ship_to.is_none() {
            violations.add("ship_to", "must be given: it decides the rates");
        }
        let ship_to = request.ship_to.map(|address| {
            check_address(&mut violations, "ship_to", &address);
            ShipTo { country: address.country, state: address.state }
        });
        let now = self.clock.now();
        let computation = ship_to.and_then(|ship_to| {
            let calculated = calculate(&self.rates, lines, &ship_to, request.prices_include_tax, now);
            calculated
                .map_err(|rejections| {
                    for rejection in rejections {
                        violations.add(rejection.field(), rejection.to_string());
                    }
                })
                .ok()
        });
        violations.finish()?;
        let (Some(currency), Some(computation)) = (currency, computation) else {
            // What is missing was noted above.
            return Err(Fault::new(Reason::InvalidRequest, "The request is not valid."));
        };
        let id = CalculationId::new(self.ids.uuid_v7(now));
        Ok(Calculation { id, currency, created_at: now, computation })
    }
}

#[tonic::async_trait]
impl<S: Store> TaxService for TaxApi<S> {
    async fn calculate(
        &self,
        request: Request<proto::CalculateRequest>,
    ) -> Result<Response<proto::Calculation>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let request = request.into_inner();
        let key = call.idempotency_key().map(|key| Key {
            scope: Scope { tenant: tenant.clone(), rpc: CALCULATE, key: key.clone() },
            fingerprint: idempotency::fingerprint(&request),
        });
        let kept = match (self.calculation(request), key) {
            (Ok(calculation), key) => self.store.keep(tenant, calculation, key).await.map_err(Fault::from)?,
            // What is refused by today's rates may have been answered by earlier ones.
            (Err(fault), Some(key)) => {
                let first = self.store.replay(key).await.map_err(Fault::from)?;
                Kept::Replayed(first.ok_or(fault)?)
            }
            (Err(fault), None) => return Err(fault.into()),
        };
        match kept {
            Kept::New(calculation) => Ok(Response::new(wire::to_proto(&calculation))),
            Kept::Replayed(calculation) => {
                let mut response = Response::new(wire::to_proto(&calculation));
                idempotency::mark_replayed(&mut response);
                Ok(response)
            }
        }
    }

    async fn get_calculation(
        &self,
        request: Request<proto::GetCalculationRequest>,
    ) -> Result<Response<proto::Calculation>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let not_found = || Fault::new(Reason::CalculationNotFound, "There is no such calculation.");
        // An id that cannot be one is not there either.
        let id: CalculationId = request.get_ref().id.parse().map_err(|_| not_found())?;
        let found = self.store.find(tenant, id).await.map_err(Fault::from)?;
        Ok(Response::new(wire::to_proto(&found.ok_or_else(not_found)?)))
    }
}

/// A line; what is wrong with its form is noted, and something harmless stands in for it.
fn read_line(violations: &mut Violations, index: usize, line: proto::Line) -> Line {
    check_text(violations, || format!("lines[{index}].reference"), &line.reference, REFERENCE_LENGTH_MAX);
    let category = wire::category_from_proto(line.category).unwrap_or_else(|| {
        let text = "must be STANDARD, REDUCED, ZERO_RATED or EXEMPT";
        violations.add(format!("lines[{index}].category"), text);
        Category::Standard
    });
    Line { reference: line.reference, amount: line.amount, category }
}

fn check_address(violations: &mut Violations, name: &str, address: &proto::Address) {
    let parts = [
        ("state", &address.state, ADDRESS_LENGTH_MAX),
        ("postal_code", &address.postal_code, POSTAL_CODE_LENGTH_MAX),
        ("city", &address.city, ADDRESS_LENGTH_MAX),
        ("line1", &address.line1, ADDRESS_LENGTH_MAX),
    ];
    for (part, text, length_max) in parts {
        check_text(violations, || format!("{name}.{part}"), text, length_max);
    }
}

fn check_text(violations: &mut Violations, field: impl FnOnce() -> String, text: &str, length_max: usize) {
    if text.len() > length_max || text.chars().any(char::is_control) {
        violations.add(field(), format!("must be at most {length_max} bytes, without control characters"));
    }
}
