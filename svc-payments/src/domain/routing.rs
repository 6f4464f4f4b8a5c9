//! Which processor is asked for a payment, and which others if it cannot take the payment on.

use money::{Currency, PaymentId};

use super::method::Method;

/// A rule: payments that it is for go to these processors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Kinds of payment methods (`CARD`, `BANK_ACCOUNT`, `WALLET`); none: all.
    pub methods: Vec<String>,
    /// Currencies; none: all.
    pub currencies: Vec<Currency>,
    /// Brands of cards or wallets; none: all.
    pub brands: Vec<String>,
    /// What a card's BIN begins with; none: all, also what has no BIN.
    pub bins: Vec<String>,
    /// At least so much, in minor units.
    pub amount_min: Option<i64>,
    /// At most so much.
    pub amount_max: Option<i64>,
    /// Where to, with how large a share of the payments; at least one. What the share does not choose is asked if what
    /// it does choose cannot take the payment on.
    pub to: Vec<(String, u32)>,
}

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The payment: which share it falls into is the same each time.
    pub id: PaymentId,
    /// Minor units.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
    /// What it is paid with.
    pub method: &'a Method,
}

impl Rule {
    fn is_for(&self, facts: &Facts<'_>) -> bool {
        let (brand, bin) = match facts.method {
            Method::Card { card, .. } => (card.brand.as_str(), card.bin.as_str()),
            Method::Wallet { brand, .. } => (brand.as_str(), ""),
            Method::BankAccount { .. } => ("", ""),
        };
        let named =
            |names: &[String], name: &str| names.is_empty() || names.iter().any(|known| known == name);
        named(&self.methods, facts.method.name())
            && (self.currencies.is_empty() || self.currencies.contains(&facts.currency))
            && named(&self.brands, brand)
            && (self.bins.is_empty() || self.bins.iter().any(|prefix| bin.starts_with(prefix.as_str())))
            && self.amount_min.is_none_or(|least| facts.amount >= least)
            && self.amount_max.is_none_or(|most| facts.amount <= most)
    }
}

/// The processors to ask, the first first: those of the first rule that is for the payment. Empty: there is no such
/// rule.
pub fn route(rules: &[Rule], facts: &Facts<'_>) -> Vec<String> {
    let Some(rule) = rules.iter().find(|rule| rule.is_for(facts)) else { return Vec::new() };
    let mut left: Vec<(&str, u64)> =
        rule.to.iter().map(|(name, share)| (name.as_str(), u64::from(*share))).collect();
    // The tail of a UUIDv7 is random.
    let mut dice = facts.id.uuid().as_u128() & u128::from(u64::MAX >> 2);
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let all = u128::from(left.iter().map(|(_, share)| share).sum::<u64>().max(1));
        let mut at = dice % all;
        dice /= all;
        let chosen = left.iter().position(|(_, share)| {
            let within = at < u128::from(*share);
            at = at.saturating_sub(u128::from(*share));
            within
        });
        order.push(left.remove(chosen.unwrap_or(0)).0.to_owned());
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use money::TokenId;
    use uuid::Uuid;

    use super::*;
    use crate::domain::method::CardSummary;

    fn card(brand: &str, bin: &str) -> Method {
        let card = CardSummary {
            brand: brand.into(),
            bin: bin.into(),
            last4: "4242".into(),
            fingerprint: "f".into(),
        };
        Method::Card { token: TokenId::new(Uuid::from_u128(1)), card, saved: None }
    }

    fn to(names: &[(&str, u32)]) -> Vec<(String, u32)> {
        names.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect()
    }

    fn routed(rules: &[Rule], number: u128, amount: i64, currency: &str, method: &Method) -> Vec<String> {
        let id = PaymentId::new(Uuid::from_u128(number));
        route(rules, &Facts { id, amount, currency: currency.parse().unwrap(), method })
    }

    #[test]
    fn the_first_rule_that_is_for_a_payment_decides() {
        let rules = [
            Rule { bins: vec!["4242".into()], amount_min: Some(100), to: to(&[("a", 1)]), ..Rule::default() },
            Rule { brands: vec!["AMEX".into()], to: to(&[("b", 1)]), ..Rule::default() },
            Rule {
                currencies: vec!["EUR".parse().unwrap()],
                amount_max: Some(99),
                to: to(&[("c", 1)]),
                ..Rule::default()
            },
            Rule { methods: vec!["CARD".into()], to: to(&[("d", 1)]), ..Rule::default() },
        ];
        let visa = card("VISA", "424242");
        assert_eq!(routed(&rules, 1, 100, "EUR", &visa), ["a"]);
        assert_eq!(routed(&rules, 1, 99, "EUR", &visa), ["c"]);
        assert_eq!(routed(&rules, 1, 99, "USD", &visa), ["d"]);
        assert_eq!(routed(&rules, 1, 100, "EUR", &card("AMEX", "378282")), ["b"]);
        let wallet = Method::Wallet { saved: "pm_1".into(), brand: "APPLE_PAY".into() };
        assert!(routed(&rules, 1, 100, "USD", &wallet).is_empty());
    }

    #[test]
    fn shares_are_kept_and_everyone_else_is_asked_after() {
        let rules = [Rule { to: to(&[("a", 3), ("b", 1), ("never", 0)]), ..Rule::default() }];
        let visa = card("VISA", "424242");
        let mut first: HashMap<String, u32> = HashMap::new();
        // Numbers that are spread as random ones are.
        for number in (1..=4_000_u128).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)) {
            let order = routed(&rules, number, 1, "EUR", &visa);
            assert_eq!(order, routed(&rules, number, 1, "EUR", &visa), "the same each time");
            assert_eq!(order.len(), 3);
            assert_eq!(order[2], "never");
            *first.entry(order[0].clone()).or_default() += 1;
        }
        assert!((2_850..=3_150).contains(&first["a"]), "{first:?}");
        assert_eq!(first["a"] + first["b"], 4_000);
    }
}
