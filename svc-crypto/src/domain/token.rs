//! Tokens: what stands for a card, what may be shown of it, and what is sealed.
//!
//! Three tags are made of a card, each under a key of its own, so that none can be looked up in the
//! place of another: the index tag (finds the token of a card seen before; never leaves the store), the
//! fingerprint (shown to callers), the request tag (compares requests under one idempotency key).

use money::{DigitToken, TenantId, Timestamp, TokenId};

use super::{
    canonical,
    card::{Brand, Card, Month, Pan},
    keys::{MAC_BYTES, MacKey},
    secret::{SecretBytes, SecretText},
};

const CONTEXT_LABEL: &[u8] = b"paymesh card 1";
const INDEX_LABEL: &[u8] = b"paymesh card index 1";
const FINGERPRINT_LABEL: &[u8] = b"paymesh card fingerprint 1";
const REQUEST_LABEL: &[u8] = b"paymesh tokenize request 1";

/// The layout of what is sealed, so that it can change later.
const LAYOUT: u8 = 1;
/// How many bytes of the fingerprint's tag are shown: 128 bits, twice as many digits.
const FINGERPRINT_BYTES: usize = 16;

/// The token that a caller asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// An id, which every card has.
    #[default]
    Opaque,
    /// Digits in the form of a card number beside it.
    Digits,
}

/// What may be shown of a card (PCI DSS 3.4.1: at most BIN and last four).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The scheme.
    pub brand: Brand,
    /// The first digits, see [`Pan::bin`].
    pub bin: String,
    /// The last four digits.
    pub last4: String,
    /// The last month in which it is valid.
    pub expiry: Month,
    /// The same for the same card of the same tenant; lower-case hexadecimal.
    pub fingerprint: String,
}

impl Shown {
    /// What may be shown of this card, with its fingerprint under the tenant's key for that.
    pub fn of(card: &Card, key: &MacKey) -> Self {
        Self {
            brand: card.pan.brand(),
            bin: card.pan.bin().to_owned(),
            last4: card.pan.last4().to_owned(),
            expiry: card.expiry,
            fingerprint: fingerprint(&card.pan, key),
        }
    }
}

/// A token and what may be shown of its card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What stands for the card.
    pub id: TokenId,
    /// What stands for it beside that, in the form of a card number, where that was asked for.
    pub digits: Option<DigitToken>,
    /// The card, as far as it may be shown.
    pub shown: Shown,
    /// When the card was first stored.
    pub created_at: Timestamp,
}

/// What is sealed of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCard {
    /// The number.
    pub pan: Pan,
    /// The holder, empty if not given.
    pub holder_name: SecretText,
}

/// What was opened is not a card: it was sealed by a newer version, or for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is stored under the token is not a card that this version can read")]
pub struct LayoutError;

/// What a sealed card is bound to: moved to another tenant or token, it does not open.
pub fn context(tenant: &TenantId, token: TokenId) -> Vec<u8> {
    canonical::encode(&[CONTEXT_LABEL, tenant.as_str().as_bytes(), token.uuid().as_bytes()])
}

/// The bytes to seal: the layout, how many digits, the digits, the holder's name.
pub fn encode(card: &Card) -> SecretBytes {
    let (digits, holder_name) = (card.pan.digits(), card.holder_name.expose());
    // One allocation of the final size, or copies of the number would stay behind unwiped.
    let mut bytes = Vec::with_capacity(2 + digits.len() + holder_name.len());
    bytes.push(LAYOUT);
    // A number has at most 19 digits.
    bytes.push(u8::try_from(digits.len()).unwrap_or_default());
    bytes.extend_from_slice(digits.as_bytes());
    bytes.extend_from_slice(holder_name.as_bytes());
    SecretBytes::new(bytes)
}

/// Reads what [`encode`] wrote.
pub fn decode(bytes: &SecretBytes) -> Result<SealedCard, LayoutError> {
    let (&[layout, length], rest) = bytes.expose().split_first_chunk().ok_or(LayoutError)?;
    let (digits, holder_name) = rest.split_at_checked(length.into()).ok_or(LayoutError)?;
    let digits = std::str::from_utf8(digits).map_err(|_| LayoutError)?;
    let holder_name = std::str::from_utf8(holder_name).map_err(|_| LayoutError)?;
    match Pan::restore(digits) {
        Some(pan) if layout == LAYOUT => {
            Ok(SealedCard { pan, holder_name: SecretText::new(holder_name.to_owned()) })
        }
        _ => Err(LayoutError),
    }
}

/// Finds the token of a card that the tenant stored before.
pub fn index_tag(pan: &Pan, key: &MacKey) -> [u8; MAC_BYTES] {
    key.tag(&[INDEX_LABEL, pan.digits().as_bytes()])
}

fn fingerprint(pan: &Pan, key: &MacKey) -> String {
    let tag = key.tag(&[FINGERPRINT_LABEL, pan.digits().as_bytes()]);
    canonical::hex(&tag[..FINGERPRINT_BYTES])
}

/// Tells whether two requests under one idempotency key are the same. The verification code is no part
/// of it: not even a keyed hash of it may be stored (PCI DSS 3.3.1), and no answer depends on it.
pub fn request_tag(card: &Card, format: Format, key: &MacKey) -> [u8; MAC_BYTES] {
    let (year, month) = (card.expiry.year.to_be_bytes(), [card.expiry.month]);
    let (digits, holder_name) = (card.pan.digits().as_bytes(), card.holder_name.expose().as_bytes());
    let parts: [&[u8]; 6] = [REQUEST_LABEL, digits, &year, &month, holder_name, b"digits"];
    match format {
        // As it was before there was a choice.
        Format::Opaque => key.tag(&parts[..5]),
        Format::Digits => key.tag(&parts),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::domain::secret::KeyBytes;

    fn card(number: &str, holder: &str) -> Card {
        Card {
            pan: Pan::parse(number).unwrap(),
            expiry: Month { year: 2030, month: 12 },
            holder_name: SecretText::new(holder.into()),
        }
    }

    fn key(byte: u8) -> MacKey {
        MacKey::new(&KeyBytes::take(&mut [byte; 32]))
    }

    #[test]
    fn the_tags_of_one_card_cannot_be_matched_with_each_other() {
        let card = card("4242424242424242", "");
        let shown = Shown::of(&card, &key(1)).fingerprint;
        assert_eq!(shown.len(), 32);
        assert!(shown.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        // Even under one and the same key the three differ.
        assert_ne!(&canonical::hex(&index_tag(&card.pan, &key(1)))[..32], shown);
        assert_ne!(&canonical::hex(&request_tag(&card, Format::Opaque, &key(1)))[..32], shown);
        assert_ne!(Shown::of(&card, &key(2)).fingerprint, shown);
    }

    #[test]
    fn a_request_is_the_same_however_its_number_is_spelled() {
        let of = |card: &Card| request_tag(card, Format::Opaque, &key(1));
        let (ada, tag) = (card("4242424242424242", "Ada"), of(&card("4242424242424242", "Ada")));
        assert_eq!(tag, of(&card("4242 4242 4242 4242", "Ada")));
        assert_ne!(tag, of(&card("4242424242424242", "Eve")));
        assert_ne!(tag, of(&card("5555555555554444", "Ada")));
        assert_ne!(tag, of(&Card { expiry: Month { year: 2031, month: 12 }, ..ada.clone() }));
        assert_ne!(tag, request_tag(&ada, Format::Digits, &key(1)));
    }

    #[test]
    fn a_context_belongs_to_one_token_of_one_tenant() {
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (x, y) = (TokenId::new(uuid::Uuid::from_u128(1)), TokenId::new(uuid::Uuid::from_u128(2)));
        assert_eq!(context(&a, x), context(&a, x));
        assert_ne!(context(&a, x), context(&a, y));
        assert_ne!(context(&a, x), context(&b, x));
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back(holder in ".{0,100}") {
            let card = card("378282246310005", &holder);
            let sealed = decode(&encode(&card)).unwrap();
            prop_assert_eq!((sealed.pan, sealed.holder_name), (card.pan, card.holder_name));
        }

        #[test]
        fn reading_never_panics(bytes in vec(any::<u8>(), 0..64)) {
            let _ = decode(&SecretBytes::new(bytes));
        }
    }

    #[test]
    fn another_layout_is_refused() {
        let mut bytes = encode(&card("378282246310005", "")).into_exposed();
        bytes[0] = 2;
        assert_eq!(decode(&SecretBytes::new(bytes)), Err(LayoutError));
    }
}
