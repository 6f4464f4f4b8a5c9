//! Which entries may be in which batch: rules of the classes, the same for what is written and what is read.

use crate::code::ReturnKind;
use crate::error::Problem;
use crate::field::Field;
use crate::model::{Addenda, BatchHeader, DescriptiveDate, Entry};
use crate::value::{AMOUNT_MAX, Direction, Purpose, SAME_DAY_AMOUNT_MAX, SecCode, ServiceClass};

/// What a batch of reversals is called.
pub const REVERSAL: &str = "REVERSAL";

type Wrong = (Field, Problem);

/// Whether an entry is one of that batch.
pub(crate) fn entry(header: &BatchHeader, class: ServiceClass, entry: &Entry) -> Result<(), Wrong> {
    let code = entry.code;
    let rule = |field, text| Err((field, Problem::Rule(text)));
    if !(0..=AMOUNT_MAX).contains(&entry.amount) {
        return Err((Field::Amount, Problem::Range { min: 0, max: AMOUNT_MAX }));
    }
    match (class, code.direction) {
        (ServiceClass::Credits, Direction::Debit) => {
            return rule(Field::TransactionCode, "must be a credit: the service class is 220");
        }
        (ServiceClass::Debits, Direction::Credit) => {
            return rule(Field::TransactionCode, "must be a debit: the service class is 225");
        }
        _ => {}
    }
    if entry.trace.odfi() != header.odfi {
        return rule(Field::TraceNumber, "must begin with the batch's originating DFI identification");
    }
    let returned = code.purpose == Purpose::Returned;
    match &entry.addenda {
        Addenda::Change(_) => {
            if header.sec != SecCode::Cor {
                return rule(Field::AddendaTypeCode, "must not be 98 outside of a COR batch");
            }
            if entry.amount != 0 {
                return rule(Field::Amount, "must be 0 in a notification of change");
            }
        }
        _ if header.sec == SecCode::Cor => {
            return rule(Field::AddendaTypeCode, "must be 98 in a COR batch");
        }
        Addenda::Return(data) => kind(data.code.kind(), ReturnKind::Return)?,
        Addenda::Dishonored(data) => {
            kind(data.code.kind(), ReturnKind::Dishonored)?;
            kind(data.return_code.kind(), ReturnKind::Return)?;
        }
        Addenda::Contested(data) => {
            kind(data.code.kind(), ReturnKind::Contested)?;
            kind(data.return_code.kind(), ReturnKind::Return)?;
            kind(data.dishonored_code.kind(), ReturnKind::Dishonored)?;
        }
        Addenda::None | Addenda::Payment(_) if returned => {
            return rule(Field::AddendaTypeCode, "must be 98 or 99 for this transaction code");
        }
        Addenda::None | Addenda::Payment(_) => return forward(header, entry),
    }
    if returned {
        Ok(())
    } else {
        rule(Field::TransactionCode, "must be that of a return or notification of change")
    }
}

fn kind(found: ReturnKind, right: ReturnKind) -> Result<(), Wrong> {
    if found == right {
        return Ok(());
    }
    Err((Field::ReturnReasonCode, Problem::Rule("must be one that is used in a record of this kind")))
}

fn forward(header: &BatchHeader, entry: &Entry) -> Result<(), Wrong> {
    let code = entry.code;
    let addenda = entry.addenda != Addenda::None;
    let rule = |field, text| Err((field, Problem::Rule(text)));
    match code.purpose {
        Purpose::Live if entry.amount == 0 => return rule(Field::Amount, "must be greater than 0"),
        Purpose::Prenote | Purpose::ZeroDollar if entry.amount != 0 => {
            return rule(Field::Amount, "must be 0 for this transaction code");
        }
        Purpose::ZeroDollar if header.sec != SecCode::Ccd || !addenda => {
            return rule(
                Field::TransactionCode,
                "must not be one without an amount, but in CCD with an addenda",
            );
        }
        _ => {}
    }
    if header.sec == SecCode::Tel {
        if addenda {
            return rule(Field::AddendaIndicator, "must be 0 in a TEL batch");
        }
        if (code.direction == Direction::Credit) != (header.description == REVERSAL) {
            return rule(
                Field::TransactionCode,
                "must be a debit in a TEL batch, and a credit in its reversal",
            );
        }
    }
    if matches!(header.descriptive_date, DescriptiveDate::SameDay(_)) && entry.amount > SAME_DAY_AMOUNT_MAX {
        return Err((Field::Amount, Problem::Range { min: 0, max: SAME_DAY_AMOUNT_MAX }));
    }
    Ok(())
}
