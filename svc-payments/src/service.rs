//! The gRPC face: messages in, domain commands to the driver, messages out.

use std::{cmp::Reverse, fmt::Display, sync::Arc};

use mesh::{
    Call, Fault, Reason,
    idempotency::{self, Scope},
};
use money::{PaymentId, RefundId, TenantId, Timestamp, TokenRef};
use paymesh_proto::{
    payments::v1::{self as proto, payment_service_server::PaymentService},
    tax::v1 as tax,
};
use prost::Message;
use tonic::{Request, Response};

use crate::{
    convert,
    domain::{
        authorization,
        create::{self, Found, NewPayment},
        hold,
        method::Method,
        operation::Rpc,
        payment::{Change, Payment, Rejection, Tax},
        refund,
        routing::{self, Facts},
        transition::Status,
    },
    driver::{Driver, Outcome, waiting},
    store::{Claim, Filter, Known, Page, Store},
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

impl<S: Store> Payments<S> {
    async fn create(
        &self,
        call: Call,
        request: proto::CreatePaymentRequest,
    ) -> Result<Response<proto::Payment>, Fault> {
        let (new, token) = validate::new_payment(&request)?;
        let tenant = call.tenant()?.clone();
        let now = self.0.now();
        let id = PaymentId::new(self.0.ids.uuid_v7(now));
        let claim = claim(&call, Rpc::CreatePayment, &request, id.to_string())?;
        let found = match self.find_out(&call, id, &request, &new, token).await {
            Ok(found) => found,
            // An answer that was given stays the answer, whatever has become of the token since.
            Err(fault) => return self.answered_before(claim).await?.ok_or_else(|| retry_soon(fault)),
        };
        let key = claim.scope.key.clone();
        let change = create::create(new, found, id, tenant, key.as_str(), &self.0.terms, now);
        let outcome = self.0.create(call.clone(), claim.clone(), change.map_err(Fault::from)?).await?;
        self.payment_answer(call, Rpc::CreatePayment, claim, outcome).await
    }

    async fn answered_before<M: Message + Default>(
        &self,
        claim: Claim,
    ) -> Result<Option<Response<M>>, Fault> {
        match self.0.store.find_claim(claim).await? {
            Some(Known::Answered(answer)) => replayed(&answer).map(Some),
            _ => Ok(None),
        }
    }

    /// What must be known before a payment is written down: the card's summary, and the tax.
    async fn find_out(
        &self,
        call: &Call,
        id: PaymentId,
        request: &proto::CreatePaymentRequest,
        new: &NewPayment,
        token: TokenRef,
    ) -> Result<Found, Fault> {
        let found = self.0.clients.card_summary(call, call.tenant()?, token).await;
        let (token, card) = found.map_err(|fault| match fault.reason() {
            Reason::TokenNotFound => Fault::new(Reason::TokenNotFound, "There is no such token.")
                .violating("payment_method.token", "must be a token from POST /v1/tokens"),
            _ => fault,
        })?;
        let tax = match &request.tax {
            Some(input) => Some(self.tax(call, request, input).await?),
            None => None,
        };
        let method = Method::Card { token, card, saved: None };
        let facts = Facts { id, amount: new.amount, currency: new.currency, method: &method };
        let processors = routing::route(&self.0.routes, &facts);
        if processors.is_empty() {
            return Err(Fault::new(Reason::ProcessorNotFound, "No processor is set up for such a payment.")
                .violating("payment_method", "must be one that a route in the configuration is for"));
        }
        Ok(Found { method, tax, processors })
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
        if calculation.amount_tax > request.amount - request.convenience_fee {
            return Err(Fault::invalid(
                "amount",
                "must not be less than the tax and the convenience fee in it",
            ));
        }
        Ok(Tax { amount_tax: calculation.amount_tax, calculation: calculation.encode_to_vec() })
    }

    /// Finishes what an earlier request with the same key began, or says that it is under way.
    async fn payment_answer(
        &self,
        call: Call,
        rpc: Rpc,
        claim: Claim,
        outcome: Outcome,
    ) -> Result<Response<proto::Payment>, Fault> {
        match outcome {
            Outcome::Done(payment) => Ok(Response::new(convert::payment(&payment))),
            Outcome::Replayed(answer) => replayed(&answer),
            Outcome::Underway { subject } => self.resume(call, rpc, claim, &subject).await,
        }
    }

    /// What an earlier request with the same key began is driven to its end.
    async fn resume<M: Message + Default>(
        &self,
        call: Call,
        rpc: Rpc,
        claim: Claim,
        subject: &str,
    ) -> Result<Response<M>, Fault> {
        let id = subject.parse().map_err(|_| idempotency::in_progress())?;
        let tenant = claim.scope.tenant.clone();
        if !self.0.resume(call, tenant, id, waiting(rpc, &claim)).await? {
            return Err(idempotency::in_progress());
        }
        self.answered_before(claim).await?.ok_or_else(idempotency::in_progress)
    }

    async fn load(&self, tenant: &TenantId, id: PaymentId) -> Result<Payment, Fault> {
        let found = self.0.store.payment(tenant.clone(), id).await?;
        found.ok_or_else(|| Fault::new(Reason::PaymentNotFound, "There is no such payment."))
    }

    /// A request that changes the payment `id`: `decide` is handed the payment, the caller's key and the time.
    async fn change<D>(
        &self,
        call: Call,
        rpc: Rpc,
        request: &impl Message,
        id: &str,
        decide: D,
    ) -> Result<Response<proto::Payment>, Fault>
    where
        D: Fn(Payment, &str, Timestamp) -> Result<Change, Rejection> + Send + Sync + 'static,
    {
        let id = validate::payment_id(id)?;
        let claim = claim(&call, rpc, request, id.to_string())?;
        let key = claim.scope.key.clone();
        let decide = move |payment, now| decide(payment, key.as_str(), now);
        let outcome = self.0.begin(call.clone(), claim.clone(), id, decide).await?;
        self.payment_answer(call, rpc, claim, outcome).await
    }

    async fn confirm(
        &self,
        call: Call,
        request: proto::ConfirmPaymentRequest,
    ) -> Result<Response<proto::Payment>, Fault> {
        let id = validate::payment_id(&request.id)?;
        let payment = self.load(call.tenant()?, id).await?;
        if payment.status == Status::RequiresAction {
            // The payer has acted, it says: the processor knows.
            validate::idempotency_key(&call)?;
            let payment = self.0.drive_now(call, payment).await?;
            return Ok(Response::new(convert::payment(&payment)));
        }
        self.change(call, Rpc::ConfirmPayment, &request, &request.id, create::confirm).await
    }

    async fn resolve_review(
        &self,
        call: Call,
        request: proto::ResolveReviewRequest,
    ) -> Result<Response<proto::Payment>, Fault> {
        let approved = match request.decision() {
            proto::resolve_review_request::Decision::Approve => true,
            proto::resolve_review_request::Decision::Reject => false,
            proto::resolve_review_request::Decision::Unspecified => {
                return Err(Fault::invalid("decision", "must be APPROVE or REJECT"));
            }
        };
        let decide =
            move |payment, key: &str, now| authorization::review_resolved(payment, approved, key, now);
        self.change(call, Rpc::ResolveReview, &request, &request.id, decide).await
    }

    async fn capture(
        &self,
        call: Call,
        request: proto::CapturePaymentRequest,
    ) -> Result<Response<proto::Payment>, Fault> {
        let amount = validate::optional_amount(request.amount)?;
        let last = request.r#final.unwrap_or(true);
        let decide = move |payment, key: &str, now| hold::begin_capture(payment, amount, last, key, now);
        self.change(call, Rpc::CapturePayment, &request, &request.id, decide).await
    }

    async fn increment(
        &self,
        call: Call,
        request: proto::IncrementAuthorizationRequest,
    ) -> Result<Response<proto::Payment>, Fault> {
        let amount = validate::amount(request.amount)?;
        let decide = move |payment, key: &str, now| hold::begin_increment(payment, amount, key, now);
        self.change(call, Rpc::IncrementAuthorization, &request, &request.id, decide).await
    }

    async fn cancel(
        &self,
        call: Call,
        request: proto::CancelPaymentRequest,
    ) -> Result<Response<proto::Payment>, Fault> {
        validate::reason(&request.reason)?;
        let reason = request.reason.clone();
        let decide = move |payment, key: &str, now| hold::begin_cancel(payment, reason.clone(), key, now);
        self.change(call, Rpc::CancelPayment, &request, &request.id, decide).await
    }

    async fn refund(
        &self,
        call: Call,
        request: proto::CreateRefundRequest,
    ) -> Result<Response<proto::Refund>, Fault> {
        let payment = validate::payment_id(&request.payment_id)?;
        let amount = validate::optional_amount(request.amount)?;
        validate::reason(&request.reason)?;
        let id = RefundId::new(self.0.ids.uuid_v7(self.0.now()));
        let claim = claim(&call, Rpc::CreateRefund, &request, payment.to_string())?;
        let (key, reason) = (claim.scope.key.clone(), request.reason);
        let decide = move |payment: Payment, now| {
            refund::begin(payment, id, amount, reason.clone(), key.as_str(), now)
        };
        match self.0.begin(call.clone(), claim.clone(), payment, decide).await? {
            Outcome::Done(payment) => found_refund(&payment, id).map(Response::new),
            Outcome::Replayed(answer) => replayed(&answer),
            Outcome::Underway { subject } => self.resume(call, Rpc::CreateRefund, claim, &subject).await,
        }
    }

    async fn get_refund(
        &self,
        call: &Call,
        request: &proto::GetRefundRequest,
    ) -> Result<proto::Refund, Fault> {
        let payment = self.load(call.tenant()?, validate::payment_id(&request.payment_id)?).await?;
        found_refund(&payment, validate::refund_id(&request.id)?)
    }

    async fn list(
        &self,
        call: &Call,
        request: proto::ListPaymentsRequest,
    ) -> Result<proto::ListPaymentsResponse, Fault> {
        let size = validate::page_size(request.page_size, PAYMENTS_PER_PAGE)?;
        let wanted = proto::payment::Status::try_from(request.status)
            .map_err(|_| Fault::invalid("status", "must be a status of a payment"))?;
        validate::amounts(request.amount_min, request.amount_max)?;
        let last = validate::page_token::<PaymentId>(PageKind::Payments, &request.page_token)?;
        let until = validate::first_id_at("created_before", request.created_before.as_ref())?;
        let filter = Filter {
            status: convert::status_from_proto(wanted),
            reference: Some(request.reference).filter(|reference| !reference.is_empty()),
            amount_min: request.amount_min,
            amount_max: request.amount_max,
            metadata: validate::metadata_entry(&request.metadata)?,
            from: validate::first_id_at("created_from", request.created_from.as_ref())?,
            before: last.into_iter().chain(until).min_by_key(PaymentId::uuid),
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
        let before: Option<RefundId> = validate::page_token(PageKind::Refunds, &request.page_token)?;
        let payment = self.load(call.tenant()?, id).await?;
        let mut refunds: Vec<_> = payment
            .operations
            .iter()
            .filter_map(|operation| Some((operation.refund_id()?, operation)))
            .collect();
        refunds.sort_by_key(|(id, _)| Reverse(id.uuid()));
        refunds.retain(|(id, _)| before.is_none_or(|before| id.uuid() < before.uuid()));
        let next_page_token = cut(PageKind::Refunds, size, &mut refunds, |(last, _)| *last);
        let refunds = refunds.iter().map(|(_, operation)| convert::refund(&payment, operation)).collect();
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

fn found_refund(payment: &Payment, id: RefundId) -> Result<proto::Refund, Fault> {
    let found = payment.refund(id).map(|operation| convert::refund(payment, operation));
    found.ok_or_else(|| Fault::new(Reason::RefundNotFound, "There is no such refund."))
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
    ) -> Result<Response<proto::Payment>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(self.create(call, request.into_inner()).await?)
    }

    async fn get_payment(
        &self,
        request: Request<proto::GetPaymentRequest>,
    ) -> Result<Response<proto::Payment>, tonic::Status> {
        let call = Call::of(&request)?;
        let id = validate::payment_id(&request.get_ref().id)?;
        let payment = self.load(call.tenant()?, id).await?;
        Ok(Response::new(convert::payment(&payment)))
    }

    async fn list_payments(
        &self,
        request: Request<proto::ListPaymentsRequest>,
    ) -> Result<Response<proto::ListPaymentsResponse>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.list(&call, request.into_inner()).await?))
    }

    async fn confirm_payment(
        &self,
        request: Request<proto::ConfirmPaymentRequest>,
    ) -> Result<Response<proto::Payment>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(self.confirm(call, request.into_inner()).await?)
    }

    async fn resolve_review(
        &self,
        request: Request<proto::ResolveReviewRequest>,
    ) -> Result<Response<proto::Payment>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(self.resolve_review(call, request.into_inner()).await?)
    }

    async fn increment_authorization(
        &self,
        request: Request<proto::IncrementAuthorizationRequest>,
    ) -> Result<Response<proto::Payment>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(self.increment(call, request.into_inner()).await?)
    }

    async fn extend_authorization(
        &self,
        request: Request<proto::ExtendAuthorizationRequest>,
    ) -> Result<Response<proto::Payment>, tonic::Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        Ok(self.change(call, Rpc::ExtendAuthorization, &request, &request.id, hold::begin_extend).await?)
    }

    async fn get_refund(
        &self,
        request: Request<proto::GetRefundRequest>,
    ) -> Result<Response<proto::Refund>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.get_refund(&call, request.get_ref()).await?))
    }

    async fn capture_payment(
        &self,
        request: Request<proto::CapturePaymentRequest>,
    ) -> Result<Response<proto::Payment>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(self.capture(call, request.into_inner()).await?)
    }

    async fn cancel_payment(
        &self,
        request: Request<proto::CancelPaymentRequest>,
    ) -> Result<Response<proto::Payment>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(self.cancel(call, request.into_inner()).await?)
    }

    async fn create_refund(
        &self,
        request: Request<proto::CreateRefundRequest>,
    ) -> Result<Response<proto::Refund>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(self.refund(call, request.into_inner()).await?)
    }

    async fn list_refunds(
        &self,
        request: Request<proto::ListRefundsRequest>,
    ) -> Result<Response<proto::ListRefundsResponse>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.list_refunds(&call, request.get_ref()).await?))
    }

    async fn list_payment_events(
        &self,
        request: Request<proto::ListPaymentEventsRequest>,
    ) -> Result<Response<proto::ListPaymentEventsResponse>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.list_events(&call, request.get_ref()).await?))
    }

    type WatchPaymentEventsStream = EventStream;

    async fn watch_payment_events(
        &self,
        request: Request<proto::WatchPaymentEventsRequest>,
    ) -> Result<Response<EventStream>, tonic::Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.watch(&call, request.get_ref()).await?))
    }
}
