//! Checks what comes in, field by field, before anything else is done with it.

use std::{fmt::Display, str::FromStr};

use mesh::{Call, Fault, IdempotencyKey, Reason, Violations};
use money::{Currency, PaymentId, RefundId, TokenRef, chargeable};
use paymesh_proto::payments::v1 as proto;

use prost_types::Timestamp as Time;
use uuid::Uuid;

use crate::domain::{
    create::NewPayment,
    payment::{CaptureMethod, Initiator},
};

const REFERENCE_MAX: usize = 255;
const DESCRIPTION_MAX: usize = 1_000;
const METADATA_MAX: usize = 50;
const METADATA_KEY_MAX: usize = 40;
const METADATA_VALUE_MAX: usize = 500;
/// As at the edge: a name with more digits could be a card number and is not repeated.
const METADATA_KEY_DIGITS_NAMED_MAX: usize = 7;
const PAGE_SIZE_MAX: i32 = 100;

/// The key that an RPC that moves money must come with.
pub(crate) fn idempotency_key(call: &Call) -> Result<IdempotencyKey, Fault> {
    call.idempotency_key().cloned().ok_or_else(|| {
        Fault::new(Reason::IdempotencyKeyRequired, "This request moves money and needs an idempotency key.")
            .violating("Idempotency-Key", "must be given, 1 to 255 visible ASCII characters")
    })
}

/// The payment's id of a path; one that cannot be is as unknown as one that is not there.
pub(crate) fn payment_id(text: &str) -> Result<PaymentId, Fault> {
    text.parse().map_err(|_| Fault::new(Reason::PaymentNotFound, "There is no such payment."))
}

fn text(violations: &mut Violations, field: &str, value: &str, characters_max: usize) {
    if value.chars().count() > characters_max {
        violations.add(field, format!("must have at most {characters_max} characters"));
    }
    if value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        violations.add(field, "must not have control characters");
    }
}

/// A short text that stands alone in a request.
pub(crate) fn reason(value: &str) -> Result<(), Fault> {
    let mut violations = Violations::new();
    text(&mut violations, "reason", value, REFERENCE_MAX);
    violations.finish()
}

/// A refund's id of a path.
pub(crate) fn refund_id(text: &str) -> Result<RefundId, Fault> {
    text.parse().map_err(|_| Fault::new(Reason::RefundNotFound, "There is no such refund."))
}

/// An amount that must be given.
pub(crate) fn amount(amount: i64) -> Result<i64, Fault> {
    chargeable(amount).map_err(|error| Fault::invalid("amount", error.to_string()))
}

/// An optional amount of a capture or a refund.
pub(crate) fn optional_amount(amount: Option<i64>) -> Result<Option<i64>, Fault> {
    amount.map(chargeable).transpose().map_err(|error| Fault::invalid("amount", error.to_string()))
}

/// A request for a new payment, and what it is paid with.
pub(crate) fn new_payment(request: &proto::CreatePaymentRequest) -> Result<(NewPayment, TokenRef), Fault> {
    let mut violations = Violations::new();
    let amount = violations.check("amount", chargeable(request.amount));
    let currency = violations.check("currency", request.currency.parse::<Currency>());
    let token = request.payment_method.as_ref().map(|method| method.token.parse::<TokenRef>());
    if token.is_none() {
        violations.add("payment_method", "must be given, with a token from POST /v1/tokens");
    }
    let token = token.and_then(|token| violations.check("payment_method.token", token));
    let capture_method = match proto::payment::CaptureMethod::try_from(request.capture_method) {
        Ok(proto::payment::CaptureMethod::Manual) => CaptureMethod::Manual,
        Ok(_) => CaptureMethod::Automatic,
        Err(_) => {
            violations.add("capture_method", "must be AUTOMATIC or MANUAL");
            CaptureMethod::Manual
        }
    };
    if request.convenience_fee < 0 || amount.is_some_and(|amount| request.convenience_fee > amount) {
        violations
            .add("convenience_fee", "must not be negative, nor more than the amount that it is a part of");
    }
    text(&mut violations, "reference", &request.reference, REFERENCE_MAX);
    text(&mut violations, "description", &request.description, DESCRIPTION_MAX);
    if request.metadata.len() > METADATA_MAX {
        violations.add("metadata", format!("must have at most {METADATA_MAX} entries"));
    }
    for (key, value) in &request.metadata {
        if key.is_empty() {
            violations.add("metadata", "must not have an empty key");
        }
        text(&mut violations, "metadata", key, METADATA_KEY_MAX);
        // A key is the caller's own text: it is named only where it is short enough to be one, and has
        // fewer digits than any card number.
        let digits = key.bytes().filter(u8::is_ascii_digit).count();
        let nameable = key.len() <= METADATA_KEY_MAX && digits <= METADATA_KEY_DIGITS_NAMED_MAX;
        let field = if nameable { format!("metadata.{key}") } else { "metadata".into() };
        text(&mut violations, &field, value, METADATA_VALUE_MAX);
    }
    violations.finish()?;
    let (Some(amount), Some(currency), Some(token)) = (amount, currency, token) else {
        return Err(Fault::new(Reason::Internal, "A field was lost while it was checked."));
    };
    let new = NewPayment {
        amount,
        convenience_fee: request.convenience_fee,
        currency,
        capture_method,
        confirm: request.confirm.unwrap_or(true),
        initiator: Initiator::Customer,
        mandate: None,
        reference: request.reference.clone(),
        description: request.description.clone(),
        metadata: request.metadata.clone(),
    };
    Ok((new, token))
}

/// The part of a payment's metadata that a list is asked for: `key=value`.
pub(crate) fn metadata_entry(text: &str) -> Result<Option<(String, String)>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Some((key.to_owned(), value.to_owned()))),
        _ => Err(Fault::invalid("metadata", "must be key=value")),
    }
}

/// The first id that a payment of this time can have, as ids begin with the milliseconds (UUIDv7, RFC 9562).
pub(crate) fn first_id_at(field: &str, time: Option<&Time>) -> Result<Option<PaymentId>, Fault> {
    let Some(time) = time else { return Ok(None) };
    let wrong = || Fault::invalid(field, "must be a time after 1970");
    let seconds = u64::try_from(time.seconds).map_err(|_| wrong())?;
    let nanos = u64::try_from(time.nanos).map_err(|_| wrong())?;
    let milliseconds = seconds.checked_mul(1_000).and_then(|ms| ms.checked_add(nanos.div_ceil(1_000_000)));
    let milliseconds = milliseconds.filter(|ms| *ms < 1 << 48).ok_or_else(wrong)?;
    Ok(Some(PaymentId::new(Uuid::from_u128(u128::from(milliseconds) << 80))))
}

/// The bounds of the amounts that a list is asked for.
pub(crate) fn amounts(least: Option<i64>, most: Option<i64>) -> Result<(), Fault> {
    if least.zip(most).is_some_and(|(least, most)| least > most) {
        return Err(Fault::invalid("amount_min", "must not be more than amount_max"));
    }
    Ok(())
}

/// How many to list; `otherwise` where the caller does not say.
pub(crate) fn page_size(asked: i32, otherwise: usize) -> Result<usize, Fault> {
    match asked {
        0 => Ok(otherwise),
        1..=PAGE_SIZE_MAX => Ok(usize::try_from(asked).unwrap_or_default()),
        _ => Err(Fault::invalid("page_size", format!("must be 0 to {PAGE_SIZE_MAX}"))),
    }
}

/// What a page token means: where its page begins, in a list of this kind.
pub(crate) fn page_token<K: FromStr>(kind: PageKind, token: &str) -> Result<Option<K>, Fault> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = || Fault::invalid("page_token", "must be the next_page_token of an earlier page");
    let digits = token.strip_prefix(kind.mark()).ok_or_else(wrong)?;
    Ok(Some(format!("{}{digits}", kind.prefix()).parse().map_err(|_| wrong())?))
}

/// The token for the page after this one.
pub(crate) fn next_page_token(kind: PageKind, last: &impl Display) -> String {
    let last = last.to_string();
    format!("{}{}", kind.mark(), last.strip_prefix(kind.prefix()).unwrap_or(&last))
}

/// Lists that come in pages. A token of one is none of another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PageKind {
    Payments,
    Refunds,
    Events,
}

impl PageKind {
    const fn mark(self) -> &'static str {
        match self {
            Self::Payments => "p1",
            Self::Refunds => "r1",
            Self::Events => "e1",
        }
    }

    /// What the keys of the list begin with.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Payments => "pay_",
            Self::Refunds => "re_",
            Self::Events => "",
        }
    }
}
