//! What a payment is paid with, as far as a payment may know it: never a number of a card or an account.

use money::TokenId;
use serde::{Deserialize, Serialize};

/// What a payment is paid with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Method {
    /// A card of the vault.
    Card {
        /// The token that every card has, whichever was given.
        token: TokenId,
        /// What may be known of it.
        card: CardSummary,
        /// The saved method that it was taken from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saved: Option<String>,
    },
    /// A bank account, by direct debit.
    BankAccount {
        /// The saved method.
        saved: String,
        /// What may be known of it.
        account: BankAccountSummary,
    },
    /// A wallet, such as Apple Pay.
    Wallet {
        /// The saved method.
        saved: String,
        /// Whose, such as `APPLE_PAY`.
        brand: String,
    },
}

impl Method {
    /// What rules and routes call it: `CARD`, `BANK_ACCOUNT`, `WALLET`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Card { .. } => "CARD",
            Self::BankAccount { .. } => "BANK_ACCOUNT",
            Self::Wallet { .. } => "WALLET",
        }
    }

    /// The saved method, where it is one.
    pub fn saved(&self) -> Option<&str> {
        match self {
            Self::Card { saved, .. } => saved.as_deref(),
            Self::BankAccount { saved, .. } | Self::Wallet { saved, .. } => Some(saved),
        }
    }
}

/// The part of a card that may be shown, and its keyed fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardSummary {
    /// The scheme, as the vault names it.
    pub brand: String,
    /// The first six digits.
    pub bin: String,
    /// The last four digits.
    pub last4: String,
    /// The vault's keyed fingerprint.
    pub fingerprint: String,
}

/// The part of a bank account that may be shown, and its keyed fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankAccountSummary {
    /// The bank's ABA routing number: public.
    pub routing_number: String,
    /// The last four digits of the account's number.
    pub last4: String,
    /// A keyed fingerprint of both numbers.
    pub fingerprint: String,
}
