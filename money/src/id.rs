//! Typed identifiers: a prefix that says what a thing is, over a UUID.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why an identifier was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be {prefix}_ and 32 lower-case hexadecimal digits")]
pub struct IdError {
    /// The prefix that was expected.
    pub prefix: &'static str,
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of this kind of id, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps a UUID; new ids take a UUIDv7, so that they sort by time.
            pub fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID within.
            pub fn uuid(&self) -> Uuid {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse($prefix, text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn parse(prefix: &'static str, text: &str) -> Result<Uuid, IdError> {
    let digits = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    match digits {
        // One id has one spelling: upper case, hyphens and braces are refused.
        Some(d) if d.len() == 32 && d.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
            Uuid::parse_str(d).map_err(|_| IdError { prefix })
        }
        _ => Err(IdError { prefix }),
    }
}

typed_id!(
    /// A payment: `pay_…`.
    PaymentId, "pay"
);
typed_id!(
    /// A refund of a payment: `re_…`.
    RefundId, "re"
);
typed_id!(
    /// A card in the vault: `tok_…`.
    TokenId, "tok"
);
typed_id!(
    /// An event of a payment: `evt_…`.
    EventId, "evt"
);
typed_id!(
    /// Where a tenant wants webhooks sent: `whe_…`.
    WebhookEndpointId, "whe"
);
typed_id!(
    /// A webhook on its way to one endpoint: `whd_…`.
    WebhookDeliveryId, "whd"
);
typed_id!(
    /// A tax calculation: `taxc_…`.
    CalculationId, "taxc"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_reads_back_as_itself(bytes in any::<[u8; 16]>()) {
            let id = PaymentId::new(Uuid::from_bytes(bytes));
            prop_assert_eq!(id.to_string().parse::<PaymentId>(), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<PaymentId>(&json).unwrap(), id);
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,64}") {
            prop_assume!(!text.starts_with("pay_"));
            prop_assert!(text.parse::<PaymentId>().is_err());
        }
    }

    #[test]
    fn one_id_has_one_spelling() {
        let right = "pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b";
        assert!(right.parse::<PaymentId>().is_ok());
        for wrong in [
            "re_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b",
            "pay_01933C5E8F7A7C3E9D5B2A4F6E8C0D1B",
            "pay_01933c5e-8f7a-7c3e-9d5b-2a4f6e8c0d1b",
            "pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1",
            "pay_",
            "pay",
            "",
        ] {
            assert_eq!(wrong.parse::<PaymentId>(), Err(IdError { prefix: "pay" }), "{wrong}");
        }
    }
}
