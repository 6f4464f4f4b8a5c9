//! The gRPC face: messages in, domain commands to the driver, messages out.

use std::{fmt::Display, sync::Arc};

use mesh::{
    Call, Fault, Reason,
    idempotency::{self, Scope},
};
use money::{PaymentId, RefundId, TenantId};
use paymesh_proto::{
    payments::v1::{self as proto, payment_service_server::PaymentService},
    tax::v1 as tax,
};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::{
    convert,
    domain::{
        capture,
        create::{self, Found},
        operation::Rpc,
        payment::{Payment, Rejection, Tax},
        refund,
    },
    driver::{Driver, Outcome, answer_waiting},
    store::{Begun, Claim, Decision, Filter, Page, Store},
    validate::{self, PageKind},
    watch::{self, EventStream, Watched},
};

/// How many of a tenant's payments a page has where the caller does not say.
const PAYMENTS_PER_PAGE: usize = 20;
/// Likewise of a payment's refunds and events.
const PARTS_PER_PAGE: usize = 100;

/// Serves payments over a store.
pub struct Payments<S>(Arc<Driver<S>>);

impl<S: Store> Payments<S> {
    /// A service that leaves the work to this driver.
    pub fn new(driver: Arc<Driver<S>>) -> Self {
        Self(driver)
    }
}

fn claim(call: &Call, rpc: Rpc, request: &impl Message, subject: String) -> Result<Claim, Fault> {
    let scope =
        Scope { tenant: call.tenant()?.clone(), rpc: rpc.name(), key: validate::idempotency_key(call)? };
    Ok(Claim { scope, fingerprint: idempotency::fingerprint(request), subject })
}

fn replayed<M: Message + Default>(answer: &[u8]) -> Result<Response<M>, Fault> {
    let message =
        M::decode(answer).map_err(|_| Fault::new(Reason::Internal, "A stored answer cannot be read."))?;
    let mut response = Response::new(message);
    idempotency::mark_replayed(&mut response);
    Ok(response)
}

fn busy() -> Fault {
    Rejection::OperationUnderWay.into()
}

impl<S: Store> Payments<S> {
    async fn create(
        &self,
        call: Call,
        request: proto::CreatePaymentRequest,
    ) -> Result<Response<proto::Payment>, Fault> {
        let new = validate::new_payment(&request)?;
        let tenant = call.tenant()?.clone();
        let now = self.0.clock.now();
        let id = PaymentId::new(self.0.ids.uuid_v7(now));
        let claim = claim(&call, Rpc::CreatePayment, &request, id.to_string())?;
        let found = match self.find_out(&call, &tenant, &request, &new).await {
            Ok(found) => found,
            // An answer that was given stays the answer, whatever has become of the token since.
            Err(fault) => return self.answered_before(claim).await?.ok_or_else(|| retry_soon(fault)),
        };
        let key = claim.scope.key.clone();
        let change = create::create(new, found, id, tenant, key.as_str(), now);
        let outcome = self.0.create(call.clone(), claim.clone(), change).await?;
        self.payment_answer(call, claim, outcome).await
    }

    async fn answered_before(&self, claim: Claim) -> Result<Option<Response<proto::Payment>>, Fault> {
        match self.0.store.find_claim(claim).await? {
            Some(Begun::Answered(answer)) => replayed(&answer).map(Some),
            _ => Ok(None),
        }
    }

    /// What must be known before a payment is written down: the card's summary, and the tax.
    async fn find_out(
        &self,
        call: &Call,
        tenant: &TenantId,
        request: &proto::CreatePaymentRequest,
        new: &create::NewPayment,
    ) -> Result<Found, Fault> {
        let found = self.0.clients.card_summary(call, tenant, new.token).await;
        let (token, card) = found.map_err(|fault| match fault.reason() {
            Reason::TokenNotFound => Fault::new(Reason::TokenNotFound, "There is no such token.")
                .violating("payment_method.token", "must be a token from POST /v1/tokens"),
            _ => fault,
        })?;
        let tax = match &request.tax {
            Some(input) => Some(self.tax(call, request, input).await?),
            None => None,
        };
        Ok(Found { token, card, tax, processor: self.0.processor.name().to_owned() })
    }

    async fn tax(
        &self,
        call: &Call,
        request: &proto::CreatePaymentRequest,
        input: &proto::TaxInput,
    ) -> Result<Tax, Fault> {
        let question = tax::CalculateRequest {
            currency: request.currency.clone(),
            lines: input.lines.clone(),
            ship_to: input.ship_to.clone(),
            ship_from: input.ship_from.clone(),
            prices_include_tax: input.prices_include_tax,
        };
        let calculation = self.0.clients.tax(call, question).await.map_err(|fault| below_tax(&fault))?;
        if calculation.amount_tax > request.amount {
            return Err(Fault::invalid("amount", "must not be less than the tax in it"));
        }
        Ok(Tax { amount_tax: calculation.amount_tax, calculation: calculation.encode_to_vec() })
    }

    /// Finishes what an earlier request with the same key began, or says that it is under way.
    async fn payment_answer(
        &self,
        call: Call,
        claim: Claim,
        outcome: Outcome<Payment>,
    ) -> Result<Response<proto::Payment>, Fault> {
        let subject = match outcome {
            Outcome::Done(payment) => return Ok(Response::new(convert::payment(&payment))),
            Outcome::Replayed(answer) => return replayed(&answer),
            Outcome::Underway { subject } => subject,
        };
        let id = subject.parse().map_err(|_| idempotency::in_progress())?;
        let driven = self.0.drive(call, claim.scope.tenant.clone(), id).await;
        driven.map_err(|_busy| idempotency::in_progress())??;
        self.answered_before(claim).await?.ok_or_else(idempotency::in_progress)
    }

    async fn load(&self, tenant: &TenantId, id: PaymentId) -> Result<Payment, Fault> {
        let found = self.0.store.payment(tenant.clone(), id).await?;
        found.ok_or_else(|| Fault::new(Reason::PaymentNotFound, "There is no such payment."))
    }

    async fn change<D>(
        &self,
        call: Call,
        claim: Claim,
        payment: PaymentId,
        decide: D,
    ) -> Result<Response<proto::Payment>, Fault>
    where
        D: FnOnce(Payment, money::Timestamp) -> Result<Decision, Rejection> + Send + 'static,
    {
        let held = match self.0.begin(call.clone(), claim.clone(), payment, decide).await {
            Ok(outcome) => return self.payment_answer(call, claim, outcome?).await,
            Err(held) => held,
        };
        // The payment is being driven: by the same request, which may not be on record yet…
        if let Some(fault) = held.same_key(&claim) {
            return Err(fault);
        }
        // … or by another one, or by an earlier one that is taken up again.
        match self.0.store.find_claim(claim).await? {
            Some(Begun::Answered(answer)) => replayed(&answer),
            Some(_) => Err(idempotency::in_progress()),
            None => Err(busy()),
        }
    }

    async fn capture(
        &self,
        call: Call,
        request: proto::CapturePaymentRequest,
    ) -> Result<Response<proto::Payment>, Fault> {
        let id = validate::payment_id(&request.id)?;
        let amount = validate::optional_amount(request.amount)?;
        let claim = claim(&call, Rpc::CapturePayment, &request, id.to_string())?;
        let key = claim.scope.key.clone();
        self.change(call, claim, id, move |payment, _now| {
            capture::begin_capture(payment, amount, key.as_str()).map(Decision::of)
        })
        .await
    }

    async fn cancel(
        &self,
        call: Call,
        request: proto::CancelPaymentRequest,
    ) -> Result<Response<proto::Payment>, Fault> {
        let id = validate::payment_id(&request.id)?;
        validate::reason(&request.reason)?;
        let claim = claim(&call, Rpc::CancelPayment, &request, id.to_string())?;
        let key = claim.scope.key.clone();
        self.change(call, claim, id, move |payment, now| {
            let change = capture::begin_cancel(payment, request.reason, key.as_str(), now)?;
            // What never reached the processor is cancelled at once, and answered in the same commit.
            Ok(if change.payment.operation.is_none() { answer_waiting(change) } else { Decision::of(change) })
        })
        .await
    }

    async fn refund(
        &self,
        call: Call,
        request: proto::CreateRefundRequest,
    ) -> Result<Response<proto::Refund>, Fault> {
        let payment = validate::payment_id(&request.payment_id)?;
        let amount = validate::optional_amount(request.amount)?;
        validate::reason(&request.reason)?;
        let id = RefundId::new(self.0.ids.uuid_v7(self.0.clock.now()));
        let claim = claim(&call, Rpc::CreateRefund, &request, id.to_string())?;
        let (key, reason) = (claim.scope.key.clone(), request.reason);
        let decide = move |payment: Payment, now| {
            let (change, refund) = refund::begin(payment, id, amount, reason, key.as_str(), now)?;
            Ok(Decision { change, refund: Some(refund), answer: None })
        };
        let subject = match self.0.begin_refund(call.clone(), claim.clone(), payment, id, decide).await? {
            Outcome::Done((refund, payment)) => return Ok(Response::new(convert::refund(&refund, &payment))),
            Outcome::Replayed(answer) => return replayed(&answer),
            Outcome::Underway { subject } => subject,
        };
        let earlier = subject.parse().map_err(|_| idempotency::in_progress())?;
        let driven = self.0.drive_refund(call, claim.scope.tenant.clone(), payment, earlier).await;
        driven.map_err(|_busy| idempotency::in_progress())??;
        match self.0.store.find_claim(claim).await? {
            Some(Begun::Answered(answer)) => replayed(&answer),
            _ => Err(idempotency::in_progress()),
        }
    }

    async fn list(
        &self,
        call: &Call,
        request: proto::ListPaymentsRequest,
    ) -> Result<proto::ListPaymentsResponse, Fault> {
        let size = validate::page_size(request.page_size, PAYMENTS_PER_PAGE)?;
        let wanted = proto::payment::Status::try_from(request.status)
            .map_err(|_| Fault::invalid("status", "must be a status of a payment"))?;
        let filter = Filter {
            status: convert::status_from_proto(wanted),
            reference: Some(request.reference).filter(|reference| !reference.is_empty()),
            before: validate::page_token(PageKind::Payments, &request.page_token)?,
            limit: size + 1,
        };
        let mut payments = self.0.store.payments(call.tenant()?.clone(), filter).await?;
        let next_page_token = cut(PageKind::Payments, size, &mut payments, |last| last.id);
        let payments = payments.iter().map(convert::payment).collect();
        Ok(proto::ListPaymentsResponse { payments, next_page_token })
    }

    async fn list_refunds(
        &self,
        call: &Call,
        request: &proto::ListRefundsRequest,
    ) -> Result<proto::ListRefundsResponse, Fault> {
        let id = validate::payment_id(&request.payment_id)?;
        let size = validate::page_size(request.page_size, PARTS_PER_PAGE)?;
        let after = validate::page_token(PageKind::Refunds, &request.page_token)?;
        let payment = self.load(call.tenant()?, id).await?;
        let page = Page { after, limit: size + 1 };
        let mut refunds = self.0.store.refunds(payment.tenant.clone(), id, page).await?.unwrap_or_default();
        let next_page_token = cut(PageKind::Refunds, size, &mut refunds, |last| last.id);
        let refunds = refunds.iter().map(|refund| convert::refund(refund, &payment)).collect();
        Ok(proto::ListRefundsResponse { refunds, next_page_token })
    }

    async fn list_events(
        &self,
        call: &Call,
        request: &proto::ListPaymentEventsRequest,
    ) -> Result<proto::ListPaymentEventsResponse, Fault> {
        let id = validate::payment_id(&request.payment_id)?;
        let size = validate::page_size(request.page_size, PARTS_PER_PAGE)?;
        let after = validate::page_token(PageKind::Events, &request.page_token)?;
        let page = Page { after, limit: size + 1 };
        let found = self.0.store.events(call.tenant()?.clone(), id, page).await?;
        let (payment, mut recorded) =
            found.ok_or_else(|| Fault::new(Reason::PaymentNotFound, "There is no such payment."))?;
        let next_page_token = cut(PageKind::Events, size, &mut recorded, |last| last.sequence);
        let events = recorded.iter().map(|event| convert::event(&payment, event)).collect();
        Ok(proto::ListPaymentEventsResponse { events, next_page_token })
    }

    async fn watch(
        &self,
        call: &Call,
        request: &proto::WatchPaymentEventsRequest,
    ) -> Result<EventStream, Fault> {
        let payment = validate::payment_id(&request.payment_id)?;
        if request.after_sequence < 0 {
            return Err(Fault::invalid("after_sequence", "must not be negative"));
        }
        let tenant = self.load(call.tenant()?, payment).await?.tenant;
        watch::begin(&self.0, call, Watched { tenant, payment, after: request.after_sequence })
    }
}

/// A service that cannot be reached now can be reached soon.
fn retry_soon(fault: Fault) -> Fault {
    match fault.reason() {
        Reason::Unavailable if fault.retry_after().is_none() => fault.retry_after_s(1),
        _ => fault,
    }
}

/// One more than asked for was read: that it is there tells of a next page, whose token is made here.
fn cut<T, K: Display>(kind: PageKind, size: usize, items: &mut Vec<T>, key: impl FnOnce(&T) -> K) -> String {
    let more = items.len() > size;
    items.truncate(size);
    match items.last() {
        Some(last) if more => validate::next_page_token(kind, &key(last)),
        _ => String::new(),
    }
}

/// The tax service names its own fields; in a payment's request they are below `tax`.
fn below_tax(fault: &Fault) -> Fault {
    let renamed = Fault::new(fault.reason(), fault.message().to_owned());
    fault.violations().iter().fold(renamed, |renamed, violation| {
        let field = if violation.field == "currency" {
            "currency".to_owned()
        } else {
            format!("tax.{}", violation.field)
        };
        renamed.violating(field, violation.description.clone())
    })
}

#[tonic::async_trait]
impl<S: Store> PaymentService for Payments<S> {
    async fn create_payment(
        &self,
        request: Request<proto::CreatePaymentRequest>,
    ) -> Result<Response<proto::Payment>, Status> {
        let call = Call::of(&request)?;
        Ok(self.create(call, request.into_inner()).await?)
    }

    async fn get_payment(
        &self,
        request: Request<proto::GetPaymentRequest>,
    ) -> Result<Response<proto::Payment>, Status> {
        let call = Call::of(&request)?;
        let id = validate::payment_id(&request.get_ref().id)?;
        let payment = self.load(call.tenant()?, id).await?;
        Ok(Response::new(convert::payment(&payment)))
    }

    async fn list_payments(
        &self,
        request: Request<proto::ListPaymentsRequest>,
    ) -> Result<Response<proto::ListPaymentsResponse>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.list(&call, request.into_inner()).await?))
    }

    async fn capture_payment(
        &self,
        request: Request<proto::CapturePaymentRequest>,
    ) -> Result<Response<proto::Payment>, Status> {
        let call = Call::of(&request)?;
        Ok(self.capture(call, request.into_inner()).await?)
    }

    async fn cancel_payment(
        &self,
        request: Request<proto::CancelPaymentRequest>,
    ) -> Result<Response<proto::Payment>, Status> {
        let call = Call::of(&request)?;
        Ok(self.cancel(call, request.into_inner()).await?)
    }

    async fn create_refund(
        &self,
        request: Request<proto::CreateRefundRequest>,
    ) -> Result<Response<proto::Refund>, Status> {
        let call = Call::of(&request)?;
        Ok(self.refund(call, request.into_inner()).await?)
    }

    async fn list_refunds(
        &self,
        request: Request<proto::ListRefundsRequest>,
    ) -> Result<Response<proto::ListRefundsResponse>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.list_refunds(&call, request.get_ref()).await?))
    }

    async fn list_payment_events(
        &self,
        request: Request<proto::ListPaymentEventsRequest>,
    ) -> Result<Response<proto::ListPaymentEventsResponse>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.list_events(&call, request.get_ref()).await?))
    }

    type WatchPaymentEventsStream = EventStream;

    async fn watch_payment_events(
        &self,
        request: Request<proto::WatchPaymentEventsRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.watch(&call, request.get_ref()).await?))
    }
}
