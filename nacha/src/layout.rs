//! Where each field stands in its record. Reader and writer both use these places, and there is no other list.

use crate::field::Field;

/// Characters of a record, without the end of its line.
pub const RECORD_LENGTH: usize = 94;
/// Records of a block: a file is filled up to a multiple of it.
pub const BLOCKING_FACTOR: usize = 10;

/// A field's place: positions from 1, both inclusive, as the rules give them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) field: Field,
    from: usize,
    to: usize,
}

impl Slot {
    pub(crate) const fn length(self) -> usize {
        self.to + 1 - self.from
    }

    pub(crate) const fn range(self) -> std::ops::Range<usize> {
        self.from - 1..self.to
    }
}

macro_rules! record {
    ($(#[$doc:meta])* $module:ident { $($name:ident: $field:ident $from:literal..=$to:literal,)* }) => {
        $(#[$doc])*
        pub(crate) mod $module {
            use super::{Field, Slot};
            $(pub(crate) const $name: Slot = Slot { field: Field::$field, from: $from, to: $to };)*
            #[cfg(test)]
            pub(crate) const ALL: &[Slot] = &[$($name),*];
        }
    };
}

/// Of every record.
pub(crate) const RECORD_TYPE: Slot = Slot { field: Field::RecordType, from: 1, to: 1 };
/// Of every addenda record.
pub(crate) const ADDENDA_TYPE: Slot = Slot { field: Field::AddendaTypeCode, from: 2, to: 3 };
/// Of every addenda record but that of a payment.
pub(crate) const ADDENDA_CODE: Slot = Slot { field: Field::ReturnReasonCode, from: 4, to: 6 };

record! {
    /// Type 1.
    file_header {
        PRIORITY: PriorityCode 2..=3,
        DESTINATION: ImmediateDestination 4..=13,
        ORIGIN: ImmediateOrigin 14..=23,
        DATE: FileCreationDate 24..=29,
        TIME: FileCreationTime 30..=33,
        MODIFIER: FileIdModifier 34..=34,
        SIZE: RecordSize 35..=37,
        BLOCKING: BlockingFactor 38..=39,
        FORMAT: FormatCode 40..=40,
        DESTINATION_NAME: ImmediateDestinationName 41..=63,
        ORIGIN_NAME: ImmediateOriginName 64..=86,
        REFERENCE: ReferenceCode 87..=94,
    }
}

record! {
    /// Type 5.
    batch_header {
        SERVICE_CLASS: ServiceClassCode 2..=4,
        COMPANY_NAME: CompanyName 5..=20,
        COMPANY_DATA: CompanyDiscretionaryData 21..=40,
        COMPANY_ID: CompanyIdentification 41..=50,
        SEC: StandardEntryClassCode 51..=53,
        DESCRIPTION: CompanyEntryDescription 54..=63,
        DESCRIPTIVE_DATE: CompanyDescriptiveDate 64..=69,
        EFFECTIVE: EffectiveEntryDate 70..=75,
        SETTLEMENT: SettlementDate 76..=78,
        ORIGINATOR_STATUS: OriginatorStatusCode 79..=79,
        ODFI: OriginatingDfi 80..=87,
        NUMBER: BatchNumber 88..=94,
    }
}

record! {
    /// Type 6.
    entry {
        CODE: TransactionCode 2..=3,
        RECEIVER: ReceivingDfi 4..=12,
        ACCOUNT: AccountNumber 13..=29,
        AMOUNT: Amount 30..=39,
        ID: IndividualId 40..=54,
        NAME: IndividualName 55..=76,
        DISCRETIONARY: DiscretionaryData 77..=78,
        INDICATOR: AddendaIndicator 79..=79,
        TRACE: TraceNumber 80..=94,
    }
}

record! {
    /// Type 7, addenda 05.
    payment {
        INFORMATION: PaymentInformation 4..=83,
        SEQUENCE: AddendaSequence 84..=87,
        ENTRY: EntrySequence 88..=94,
    }
}

record! {
    /// Type 7, addenda 98.
    change {
        CODE: ChangeCode 4..=6,
        ORIGINAL_TRACE: OriginalTraceNumber 7..=21,
        RESERVED: Reserved 22..=27,
        ORIGINAL_RECEIVER: OriginalReceivingDfi 28..=35,
        DATA: CorrectedData 36..=64,
        RESERVED_TOO: Reserved 65..=79,
        TRACE: TraceNumber 80..=94,
    }
}

record! {
    /// Type 7, addenda 99 of a return.
    returned {
        CODE: ReturnReasonCode 4..=6,
        ORIGINAL_TRACE: OriginalTraceNumber 7..=21,
        DEATH: DateOfDeath 22..=27,
        ORIGINAL_RECEIVER: OriginalReceivingDfi 28..=35,
        INFORMATION: AddendaInformation 36..=79,
        TRACE: TraceNumber 80..=94,
    }
}

record! {
    /// Type 7, addenda 99 of a dishonored return.
    dishonored {
        CODE: DishonoredReasonCode 4..=6,
        ORIGINAL_TRACE: OriginalTraceNumber 7..=21,
        RESERVED: Reserved 22..=27,
        ORIGINAL_RECEIVER: OriginalReceivingDfi 28..=35,
        RESERVED_TOO: Reserved 36..=38,
        RETURN_TRACE: ReturnTraceNumber 39..=53,
        RETURN_SETTLEMENT: ReturnSettlementDate 54..=56,
        RETURN_CODE: OriginalReturnReasonCode 57..=58,
        INFORMATION: AddendaInformation 59..=79,
        TRACE: TraceNumber 80..=94,
    }
}

record! {
    /// Type 7, addenda 99 of a contested dishonored return.
    contested {
        CODE: ReturnReasonCode 4..=6,
        ORIGINAL_TRACE: OriginalTraceNumber 7..=21,
        RETURNED: OriginalReturnDate 22..=27,
        ORIGINAL_RECEIVER: OriginalReceivingDfi 28..=35,
        SETTLEMENT: OriginalSettlementDate 36..=38,
        RETURN_TRACE: ReturnTraceNumber 39..=53,
        RETURN_SETTLEMENT: ReturnSettlementDate 54..=56,
        RETURN_CODE: OriginalReturnReasonCode 57..=58,
        DISHONORED_TRACE: DishonoredTraceNumber 59..=73,
        DISHONORED_SETTLEMENT: DishonoredSettlementDate 74..=76,
        DISHONORED_CODE: DishonoredReasonCode 77..=78,
        RESERVED: Reserved 79..=79,
        TRACE: TraceNumber 80..=94,
    }
}

record! {
    /// Type 8.
    batch_control {
        SERVICE_CLASS: ServiceClassCode 2..=4,
        COUNT: EntryCount 5..=10,
        HASH: EntryHash 11..=20,
        DEBIT: TotalDebit 21..=32,
        CREDIT: TotalCredit 33..=44,
        COMPANY_ID: CompanyIdentification 45..=54,
        AUTHENTICATION: MessageAuthenticationCode 55..=73,
        RESERVED: Reserved 74..=79,
        ODFI: OriginatingDfi 80..=87,
        NUMBER: BatchNumber 88..=94,
    }
}

record! {
    /// Type 9.
    file_control {
        BATCHES: BatchCount 2..=7,
        BLOCKS: BlockCount 8..=13,
        COUNT: EntryCount 14..=21,
        HASH: EntryHash 22..=31,
        DEBIT: TotalDebit 32..=43,
        CREDIT: TotalCredit 44..=55,
        RESERVED: Reserved 56..=94,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_record_fill_it_without_overlap() {
        for (slots, first) in [
            (file_header::ALL, 2),
            (batch_header::ALL, 2),
            (entry::ALL, 2),
            (payment::ALL, 4),
            (change::ALL, 4),
            (returned::ALL, 4),
            (dishonored::ALL, 4),
            (contested::ALL, 4),
            (batch_control::ALL, 2),
            (file_control::ALL, 2),
        ] {
            let end = slots.iter().fold(first, |next, slot| {
                assert_eq!(slot.from, next, "{}", slot.field);
                slot.to + 1
            });
            assert_eq!(end, RECORD_LENGTH + 1);
        }
        assert_eq!((RECORD_TYPE.range(), ADDENDA_TYPE.range(), ADDENDA_CODE.range()), (0..1, 1..3, 3..6));
    }
}
