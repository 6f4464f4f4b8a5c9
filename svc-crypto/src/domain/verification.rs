//! Verification codes (CVC, CVV, CID) on their way from the payer to the authorization.
//!
//! PCI DSS 3.3.1: they are not kept after the authorization, not even encrypted. So they live here and nowhere
//! else: in memory, for minutes, and for one reading. They have no form that could be printed or stored, and no
//! digest is made of them. A restart forgets them, which is meant. Pure: the time is passed in.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use money::{TenantId, Timestamp, TokenId};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The most digits that a code has.
const DIGITS_MAX: usize = 4;

/// A verification code. Wiped when dropped; `Debug` shows no digit.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct VerificationCode {
    digits: [u8; DIGITS_MAX],
    length: u8,
}

impl VerificationCode {
    /// Takes up a code that was judged with its card; `None` for what can be none.
    pub fn new(text: &str) -> Option<Self> {
        let legal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mut code = Self { digits: [0; DIGITS_MAX], length: u8::try_from(text.len()).ok()? };
        code.digits.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        legal.then_some(code)
    }

    /// The digits. Never to be logged, kept, nor put in an error.
    pub fn expose(&self) -> &str {
        let digits = self.digits.get(..self.length.into()).unwrap_or_default();
        std::str::from_utf8(digits).unwrap_or_default()
    }
}

impl fmt::Debug for VerificationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerificationCode(redacted)")
    }
}

type Card = (TenantId, TokenId);

/// Where a code is, and its place in the order of expiry.
struct Held {
    slot: usize,
    due: (Timestamp, u64),
}

/// The codes that wait for their authorization, at most one for each card.
///
/// All digits are in one allocation that never moves nor grows, so that none is left behind by a growing container
/// and the whole of it can be locked in memory.
pub struct Codes {
    slots: Box<[VerificationCode]>,
    free: Vec<usize>,
    held: HashMap<Card, Held>,
    /// The first to expire first.
    order: BTreeMap<(Timestamp, u64), Card>,
    lifetime: Duration,
    sequence: u64,
}

impl Codes {
    /// Holds at most `held_max` codes, each for `lifetime` at most.
    pub fn new(held_max: usize, lifetime: Duration) -> Self {
        Self {
            slots: std::iter::repeat_with(VerificationCode::default).take(held_max).collect(),
            free: (0..held_max).rev().collect(),
            held: HashMap::new(),
            order: BTreeMap::new(),
            lifetime,
            sequence: 0,
        }
    }

    /// Holds a card's code, in the place of the one before. Where there is no room, the oldest gives way: by then
    /// its authorization has most likely come to nothing.
    pub fn hold(&mut self, tenant: &TenantId, token: TokenId, code: &VerificationCode, now: Timestamp) {
        let card = (tenant.clone(), token);
        self.expire(now);
        self.forget(&card);
        if self.free.is_empty() {
            self.forget_first();
        }
        let lifetime_ns = i64::try_from(self.lifetime.as_nanos()).unwrap_or(i64::MAX);
        let expires_at = Timestamp::from_nanos(now.as_nanos().saturating_add(lifetime_ns));
        let Some(slot) = self.free.pop() else { return };
        if let Some(place) = self.slots.get_mut(slot) {
            // Field by field: no copy beside the one that is wiped.
            (place.digits, place.length) = (code.digits, code.length);
        }
        self.sequence += 1;
        let due = (expires_at, self.sequence);
        self.order.insert(due, card.clone());
        self.held.insert(card, Held { slot, due });
    }

    /// Gives a card's code, for once: it is wiped here.
    pub fn take(&mut self, tenant: &TenantId, token: TokenId, now: Timestamp) -> Option<VerificationCode> {
        self.expire(now);
        let card = (tenant.clone(), token);
        let code = self.slots.get(self.held.get(&card)?.slot)?.clone();
        self.forget(&card);
        Some(code)
    }

    /// Wipes a card's code, if there is one.
    pub fn drop_card(&mut self, tenant: &TenantId, token: TokenId) {
        self.forget(&(tenant.clone(), token));
    }

    /// Wipes the codes whose time is over.
    pub fn expire(&mut self, now: Timestamp) {
        while self.order.first_key_value().is_some_and(|((expires_at, _), _)| *expires_at <= now) {
            self.forget_first();
        }
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn forget_first(&mut self) {
        if let Some((_, card)) = self.order.first_key_value() {
            let card = card.clone();
            self.forget(&card);
        }
    }

    fn forget(&mut self, card: &Card) {
        let Some(Held { slot, due }) = self.held.remove(card) else { return };
        self.order.remove(&due);
        if let Some(code) = self.slots.get_mut(slot) {
            code.zeroize();
            self.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn code(text: &str) -> VerificationCode {
        VerificationCode::new(text).unwrap()
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    fn token(n: u128) -> TokenId {
        TokenId::new(uuid::Uuid::from_u128(n))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn codes(held_max: usize) -> Codes {
        Codes::new(held_max, Duration::from_secs(900))
    }

    /// Whether no digit is left of what is not held any more.
    fn is_wiped(codes: &Codes) -> bool {
        codes.free.iter().all(|slot| codes.slots[*slot] == VerificationCode::default())
            && codes.free.len() + codes.held.len() == codes.slots.len()
            && codes.order.len() == codes.held.len()
    }

    #[test]
    fn a_code_is_given_once_and_to_its_card_alone() {
        let (mut codes, acme) = (codes(10), tenant("acme"));
        codes.hold(&acme, token(1), &code("123"), at(0));
        assert_eq!(codes.take(&tenant("other"), token(1), at(1)), None);
        assert_eq!(codes.take(&acme, token(2), at(1)), None);
        assert_eq!(codes.take(&acme, token(1), at(1)).unwrap().expose(), "123");
        assert_eq!(codes.take(&acme, token(1), at(1)), None);
        assert!(codes.is_empty() && is_wiped(&codes));
    }

    #[test]
    fn the_latest_code_of_a_card_counts() {
        let (mut codes, acme) = (codes(1), tenant("acme"));
        codes.hold(&acme, token(1), &code("123"), at(0));
        codes.hold(&acme, token(1), &code("9876"), at(800));
        assert_eq!(codes.take(&acme, token(1), at(1_600)).unwrap().expose(), "9876");
        assert!(is_wiped(&codes));
    }

    #[test]
    fn its_time_runs_out() {
        let (mut codes, acme) = (codes(10), tenant("acme"));
        codes.hold(&acme, token(1), &code("123"), at(0));
        codes.hold(&acme, token(2), &code("456"), at(1));
        assert_eq!(codes.take(&acme, token(1), at(900)), None);
        assert_eq!(codes.len(), 1);
        codes.expire(at(901));
        assert!(codes.is_empty() && is_wiped(&codes));
    }

    #[test]
    fn where_there_is_no_room_the_oldest_gives_way() {
        let (mut codes, acme) = (codes(2), tenant("acme"));
        for n in 1..=3 {
            codes.hold(&acme, token(n), &code("123"), at(0));
        }
        assert_eq!(codes.take(&acme, token(1), at(0)), None);
        assert!(codes.take(&acme, token(2), at(0)).is_some() && codes.take(&acme, token(3), at(0)).is_some());
        let mut none = Codes::new(0, Duration::from_secs(900));
        none.hold(&acme, token(1), &code("123"), at(0));
        assert_eq!(none.take(&acme, token(1), at(0)), None);
    }

    #[test]
    fn a_card_that_is_deleted_takes_its_code_along() {
        let (mut codes, acme) = (codes(2), tenant("acme"));
        codes.hold(&acme, token(1), &code("123"), at(0));
        codes.drop_card(&acme, token(1));
        assert!(codes.is_empty() && is_wiped(&codes));
    }

    #[test]
    fn it_cannot_be_printed_and_is_digits_only() {
        assert!(!format!("{:?}", code("7316")).contains('7'));
        for wrong in ["", "12345", "12a", "é1", " 123"] {
            assert_eq!(VerificationCode::new(wrong), None, "{wrong}");
        }
    }

    proptest! {
        /// As a map would do it, whatever the order of events; and nothing is left behind, nor ever moves.
        #[test]
        fn it_does_what_a_map_with_times_does(events in vec((0_u8..3, 0_u128..6, 0_i64..400), 1..100)) {
            let (mut codes, acme, mut model) = (codes(6), tenant("acme"), HashMap::new());
            let (address, mut now) = (codes.slots.as_ptr(), 0);
            for (number, (kind, n, gap)) in (0..).zip(events) {
                now += gap;
                model.retain(|_, (_, held_at)| now < *held_at + 900);
                match kind {
                    0 => {
                        let text = format!("{:03}", number % 1_000);
                        codes.hold(&acme, token(n), &code(&text), at(now));
                        model.insert(n, (text, now));
                    }
                    1 => {
                        let taken = codes.take(&acme, token(n), at(now)).map(|code| code.expose().to_owned());
                        prop_assert_eq!(taken, model.remove(&n).map(|(text, _)| text));
                    }
                    _ => {
                        codes.drop_card(&acme, token(n));
                        model.remove(&n);
                        codes.expire(at(now));
                    }
                }
                prop_assert_eq!(codes.len(), model.len());
                prop_assert!(is_wiped(&codes) && codes.slots.as_ptr() == address);
            }
        }
    }
}
