//! Money, currencies and typed identifiers: the words that every service shares.
//!
//! Pure. Amounts are integer minor units and every operation on them is checked; there is no float
//! and no conversion between currencies. Knows nothing of services, stores or wires.

mod currency;
mod id;
mod tenant;
mod time;
mod token;

pub use currency::{Currency, CurrencyError};
pub use id::{
    CalculationId, EventId, IdError, PaymentId, RefundId, TokenId, WebhookDeliveryId, WebhookEndpointId,
};
pub use tenant::{TenantError, TenantId};
pub use time::Timestamp;
pub use token::{DigitToken, TokenError, TokenRef};

/// The largest amount that a payment, a refund or a tax line may have, in minor units.
pub const AMOUNT_MAX: i64 = 999_999_999_999;

/// Why an amount was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Zero or less.
    #[error("must be greater than 0")]
    NotPositive,
    /// More than [`AMOUNT_MAX`].
    #[error("must not exceed {AMOUNT_MAX}")]
    TooLarge,
}

/// Checks that an amount in minor units is one that can be charged: `0 < amount ≤ AMOUNT_MAX`.
pub fn chargeable(amount: i64) -> Result<i64, AmountError> {
    match amount {
        ..=0 => Err(AmountError::NotPositive),
        1..=AMOUNT_MAX => Ok(amount),
        _ => Err(AmountError::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chargeable_amounts_have_closed_bounds() {
        assert_eq!(chargeable(0), Err(AmountError::NotPositive));
        assert_eq!(chargeable(i64::MIN), Err(AmountError::NotPositive));
        assert_eq!(chargeable(1), Ok(1));
        assert_eq!(chargeable(AMOUNT_MAX), Ok(AMOUNT_MAX));
        assert_eq!(chargeable(AMOUNT_MAX + 1), Err(AmountError::TooLarge));
    }
}
