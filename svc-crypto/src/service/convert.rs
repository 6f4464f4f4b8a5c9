//! The domain's words in the wire's form.

use mesh::clock;
use paymesh_proto::crypto::v1 as proto;

use crate::domain::{
    card::Brand,
    token::{Shown, Token},
};

pub(super) fn token(token: &Token) -> proto::Token {
    proto::Token {
        id: token.id.to_string(),
        card: Some(card(&token.shown)),
        created_at: Some(clock::to_proto(token.created_at)),
        digit_token: token.digits.map(|digits| digits.to_string()).unwrap_or_default(),
    }
}

pub(super) fn card(shown: &Shown) -> proto::Card {
    proto::Card {
        brand: brand(shown.brand).into(),
        bin: shown.bin.clone(),
        last4: shown.last4.clone(),
        exp_month: shown.expiry.month.into(),
        exp_year: shown.expiry.year,
        fingerprint: shown.fingerprint.clone(),
    }
}

fn brand(brand: Brand) -> proto::card::Brand {
    match brand {
        Brand::Visa => proto::card::Brand::Visa,
        Brand::Mastercard => proto::card::Brand::Mastercard,
        Brand::AmericanExpress => proto::card::Brand::AmericanExpress,
        Brand::Discover => proto::card::Brand::Discover,
        Brand::DinersClub => proto::card::Brand::DinersClub,
        Brand::Jcb => proto::card::Brand::Jcb,
        Brand::UnionPay => proto::card::Brand::Unionpay,
        Brand::Other => proto::card::Brand::Other,
    }
}
