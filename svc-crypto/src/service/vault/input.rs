//! Cards as they come over the wire, one or many.

use mesh::{Call, Fault, Reason};
use money::TenantId;
use paymesh_proto::crypto::v1::{
    CardInput, batch_tokenize_request,
    batch_tokenize_response::{Item, Violation, item},
    token as proto_token,
};
use tokio::task::JoinHandle;

use super::{Answer, VaultHandler, answer_of, refusal};
use crate::{
    domain::{
        card::{self, Draft, Month},
        secret::SecretText,
        token::Format,
    },
    service::reason_of,
    store::{Put, PutError, Store},
};

/// A card in memory that is wiped, and the token that it is to have.
pub(super) struct Input {
    number: SecretText,
    exp_month: i32,
    exp_year: i32,
    pub(super) cvc: SecretText,
    holder_name: SecretText,
    pub(super) format: Format,
}

impl Input {
    pub(super) fn take(card: Option<CardInput>, format: i32) -> Result<Self, Fault> {
        let card = card.ok_or_else(|| Fault::invalid("card", "must be given"))?;
        let CardInput { number, exp_month, exp_year, cvc, holder_name } = card;
        let [number, cvc, holder_name] = [number, cvc, holder_name].map(SecretText::new);
        let format = match proto_token::Format::try_from(format) {
            Ok(proto_token::Format::Unspecified | proto_token::Format::Opaque) => Format::Opaque,
            Ok(proto_token::Format::Digits) => Format::Digits,
            Err(_) => return Err(Fault::invalid("token_format", "must be OPAQUE or DIGITS")),
        };
        Ok(Self { number, exp_month, exp_year, cvc, holder_name, format })
    }

    pub(super) fn draft(&self) -> Draft<'_> {
        Draft {
            number: self.number.expose(),
            exp_month: self.exp_month,
            exp_year: self.exp_year,
            cvc: self.cvc.expose(),
            holder_name: self.holder_name.expose(),
        }
    }
}

/// A card of a batch on its way into the store.
struct Underway {
    tenant: TenantId,
    input: Input,
    put: JoinHandle<Result<Put, PutError>>,
}

impl<S: Store> VaultHandler<S> {
    /// All at once, so that they share commits; the answers in the order asked.
    pub(super) async fn tokenize_all(
        &self,
        call: &Call,
        items: Vec<batch_tokenize_request::Item>,
    ) -> Vec<Item> {
        let mut begun = Vec::with_capacity(items.len());
        for item in items {
            begun.push(self.begin(call, item).await);
        }
        let mut answers = Vec::with_capacity(begun.len());
        for item in begun {
            let answer = match item {
                Ok(underway) => self.finish(underway).await,
                Err(fault) => Err(fault),
            };
            answers.push(answer.map_or_else(|fault| refused(&fault), accepted));
        }
        answers
    }

    async fn begin(&self, call: &Call, item: batch_tokenize_request::Item) -> Result<Underway, Fault> {
        let input = Input::take(item.card, item.token_format)?;
        let (tenant, now) = (call.tenant_of_item(&item.tenant)?, self.clock.now());
        let card = card::validate(input.draft(), Month::of(now)).map_err(|errors| refusal(&errors))?;
        let put = self.put_of(tenant.clone(), None, card, input.format, now).await?;
        let store = self.store.clone();
        let put = tokio::spawn(mesh::scope::carry(async move { store.put_card(put).await }));
        Ok(Underway { tenant, input, put })
    }

    async fn finish(&self, Underway { tenant, input, put }: Underway) -> Result<Answer, Fault> {
        let lost = |_| Fault::new(Reason::Internal, "What became of this card is not known; send it again.");
        let answer = answer_of(put.await.map_err(lost)?)?;
        self.hold_code(&tenant, &answer.token, &input);
        Ok(answer)
    }
}

fn accepted(answer: Answer) -> Item {
    Item { result: Some(item::Result::Token(answer.token)), violations: Vec::new() }
}

fn refused(fault: &Fault) -> Item {
    let violations = fault.violations().iter().map(|violation| Violation {
        field: violation.field.clone(),
        description: violation.description.clone(),
    });
    Item { result: Some(item::Result::Reason(reason_of(fault))), violations: violations.collect() }
}
