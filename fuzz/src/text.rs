//! Short texts: what is taken has one spelling, and card numbers are only what they may be.

use std::{fmt::Display, str::FromStr, sync::LazyLock};

use crypto_envelope::{
    envelope::KeyRef,
    secret::{KeyBytes, SecretText},
};
use edge_gateway::transcode::Template;
use mesh::{SpiffeId, TraceContext, call};
use money::{CalculationId, Currency, EventId, PaymentId, RefundId, TenantId, TokenId, TokenRef};
use svc_crypto::domain::{
    card::Pan,
    format_preserving::{Alphabet, FormatPreservingKey},
    keys::KeyName,
    verification::VerificationCode,
};
use svc_ledger::domain::{Code, LedgerCode, Reference};
use uuid::Uuid;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b",
        "tok_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b",
        "taxc_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b",
        "EUR",
        "acme-2",
        "0123456789012345",
        "4242 4242 4242 4242",
        "378282246310005",
        "payments.notes",
        "svc-payments",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "99999999H",
        "/v1/{name=payments/*}:capture",
        "7316",
        "Az09",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn one_spelling<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    one_spelling::<PaymentId>(text);
    one_spelling::<RefundId>(text);
    one_spelling::<EventId>(text);
    one_spelling::<CalculationId>(text);
    one_spelling::<TokenId>(text);
    one_spelling::<TokenRef>(text);
    one_spelling::<Currency>(text);
    one_spelling::<TenantId>(text);
    one_spelling::<LedgerCode>(text);
    assert!(text.parse::<Code>().is_err() || text.parse().is_ok_and(|code: Code| code.as_str() == text));
    assert!(
        text.parse::<Reference>().is_err() || text.parse().is_ok_and(|of: Reference| of.as_str() == text)
    );
    assert!(KeyName::parse(text).is_ok_and(|name| name.as_str() == text) || KeyName::parse(text).is_err());
    if let Ok(id) = SpiffeId::of(text) {
        assert_eq!(id.name(), text);
    }
    if let Some(trace) = TraceContext::parse(text) {
        assert_eq!(TraceContext::parse(&String::from_utf8_lossy(&trace.header())), Some(trace));
    }
    if call::parse_timeout(text).is_some() || call::is_outside_request_id(text) {
        assert!(text.is_ascii());
    }
    if let Ok(template) = Template::parse(text) {
        for index in 0..template.variables.len() {
            template.parameter(index);
        }
    }
    if let Some(code) = VerificationCode::new(text) {
        assert_eq!(code.expose(), text);
    }
    card(text);
    format_preserving(text);
}

/// A number is the digits that were typed, and at least four of them are never shown.
fn card(text: &str) {
    let Ok(pan) = Pan::parse(text) else { return };
    assert!(text.bytes().filter(u8::is_ascii_digit).eq(pan.digits().bytes()));
    assert!(pan.bin().len() + pan.last4().len() + 4 <= pan.digits().len());
    assert_eq!(Pan::restore(pan.digits()).as_ref(), Some(&pan));
    assert!(text.parse::<TokenRef>().is_err(), "a card number is no token");
}

static KEY: LazyLock<FormatPreservingKey> = LazyLock::new(|| {
    let reference = KeyRef { id: Uuid::from_u128(7), version: 3 };
    FormatPreservingKey::new(reference, &KeyBytes::take(&mut [9; 32]))
});

/// What is encrypted has the same form, and is decrypted again.
fn format_preserving(text: &str) {
    for alphabet in Alphabet::ALL {
        let Ok(encrypted) = KEY.encrypt(alphabet, b"context", text) else {
            assert!(KEY.decrypt(alphabet, b"context", text).is_err());
            continue;
        };
        assert_eq!(encrypted.expose().len(), text.len());
        let decrypted = KEY.decrypt(alphabet, b"context", encrypted.expose());
        assert_eq!(decrypted.as_ref().map(SecretText::expose), Ok(text));
    }
}
