//! `Debug` for messages that carry cardholder data: their names, never their content.

use std::fmt;

macro_rules! redacted {
    ($($message:ty),+ $(,)?) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), "(redacted)"))
            }
        }
    )+};
}

redacted!(
    crate::crypto::v1::CardInput,
    crate::crypto::v1::DetokenizeResponse,
    crate::crypto::v1::EncryptRequest,
    crate::crypto::v1::DecryptResponse,
    crate::crypto::v1::DataKey,
    crate::crypto::v1::ComputeMacRequest,
    crate::crypto::v1::VerifyMacRequest,
    crate::crypto::v1::BlindIndexRequest,
    crate::crypto::v1::FormatRequest,
    crate::crypto::v1::FormatResponse,
    crate::crypto::v1::SignRequest,
    crate::crypto::v1::VerifyRequest,
    crate::crypto::v1::LargeRequest,
    crate::crypto::v1::large_request::Part,
    crate::crypto::v1::LargeResponse,
    crate::crypto::v1::UnsealRequest,
    crate::payments::v1::ReceiveWebhookRequest,
);

#[cfg(test)]
mod tests {
    use crate::crypto::v1::{CardInput, TokenizeRequest};

    /// Every message with a field marked sensitive must be in the list of `build.rs`.
    #[test]
    fn every_sensitive_message_is_redacted() {
        let build = include_str!("../build.rs");
        let pool = crate::descriptor_pool();
        let sensitive = pool.get_extension_by_name("paymesh.options.v1.sensitive").unwrap();
        let mut found = 0;
        for message in pool.all_messages() {
            if message.fields().any(|field| field.options().has_extension(&sensitive)) {
                found += 1;
                assert!(build.contains(&format!("\".{}\"", message.full_name())), "{}", message.full_name());
            }
        }
        assert!(found >= 4, "the option is read from the descriptors");
    }

    #[test]
    fn debug_does_not_show_the_card() {
        let card = CardInput { number: "4242424242424242".into(), cvc: "987".into(), ..Default::default() };
        let shown = format!("{:?}", TokenizeRequest { card: Some(card), ..Default::default() });
        assert!(!shown.contains("4242") && !shown.contains("987"), "{shown}");
    }
}
