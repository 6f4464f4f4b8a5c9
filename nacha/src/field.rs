//! The fields of all records, by the names that the Nacha Operating Rules give them.

use std::fmt;

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A field of a record.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Field {
            $(#[doc = concat!("The ", $text, ".")] $name,)*
        }

        impl Field {
            /// Its name in the rules.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

fields! {
    Record = "record",
    RecordType = "record type code",
    PriorityCode = "priority code",
    ImmediateDestination = "immediate destination",
    ImmediateOrigin = "immediate origin",
    FileCreationDate = "file creation date",
    FileCreationTime = "file creation time",
    FileIdModifier = "file ID modifier",
    RecordSize = "record size",
    BlockingFactor = "blocking factor",
    FormatCode = "format code",
    ImmediateDestinationName = "immediate destination name",
    ImmediateOriginName = "immediate origin name",
    ReferenceCode = "reference code",
    ServiceClassCode = "service class code",
    CompanyName = "company name",
    CompanyDiscretionaryData = "company discretionary data",
    CompanyIdentification = "company identification",
    StandardEntryClassCode = "standard entry class code",
    CompanyEntryDescription = "company entry description",
    CompanyDescriptiveDate = "company descriptive date",
    EffectiveEntryDate = "effective entry date",
    SettlementDate = "settlement date",
    OriginatorStatusCode = "originator status code",
    OriginatingDfi = "originating DFI identification",
    BatchNumber = "batch number",
    Entries = "entries of the batch",
    TransactionCode = "transaction code",
    ReceivingDfi = "receiving DFI identification",
    AccountNumber = "DFI account number",
    Amount = "amount",
    IndividualId = "individual identification number",
    IndividualName = "individual name",
    DiscretionaryData = "discretionary data",
    AddendaIndicator = "addenda record indicator",
    TraceNumber = "trace number",
    AddendaTypeCode = "addenda type code",
    PaymentInformation = "payment related information",
    AddendaSequence = "addenda sequence number",
    EntrySequence = "entry detail sequence number",
    ReturnReasonCode = "return reason code",
    OriginalTraceNumber = "original entry trace number",
    DateOfDeath = "date of death",
    OriginalReceivingDfi = "original receiving DFI identification",
    AddendaInformation = "addenda information",
    OriginalSettlementDate = "original settlement date",
    OriginalReturnDate = "date original entry returned",
    ReturnTraceNumber = "return trace number",
    ReturnSettlementDate = "return settlement date",
    OriginalReturnReasonCode = "reason code of the return",
    DishonoredTraceNumber = "dishonored return trace number",
    DishonoredSettlementDate = "dishonored return settlement date",
    DishonoredReasonCode = "dishonored return reason code",
    ChangeCode = "change code",
    CorrectedData = "corrected data",
    EntryCount = "entry/addenda count",
    EntryHash = "entry hash",
    TotalDebit = "total debit entry dollar amount",
    TotalCredit = "total credit entry dollar amount",
    MessageAuthenticationCode = "message authentication code",
    BatchCount = "batch count",
    BlockCount = "block count",
    Filler = "filler",
    Reserved = "reserved field",
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
