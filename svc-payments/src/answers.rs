//! Answers that callers wait for, as they are kept with the commit that makes them true.

use mesh::{IdempotencyKey, idempotency::Scope};

use crate::{convert, domain::payment::Change};

/// The answers that a change gives, with the keys that they are kept under.
pub(crate) fn of(change: &Change) -> Vec<(Scope, Vec<u8>)> {
    let answer = |(waiting, refund): &(crate::domain::operation::Waiting, _)| {
        // A stored key was checked when it came in, so it is one.
        let key: IdempotencyKey = waiting.key.parse().ok()?;
        let payment = &change.payment;
        let bytes = match refund {
            Some(refund) => convert::encode_refund(payment, payment.refund(*refund)?),
            None => convert::encode_payment(payment),
        };
        Some((Scope { tenant: payment.tenant.clone(), rpc: waiting.rpc.name(), key }, bytes))
    };
    change.answered.iter().filter_map(answer).collect()
}
