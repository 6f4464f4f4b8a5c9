//! The reasons for returns (Nacha Operating Rules, Appendix Four) and for changes (Appendix Five).

use crate::banking::TimeFrame;

/// Whether and when an entry that came back may be presented again (Nacha Operating Rules, subsection 2.13.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Twice more, within 180 days of the first settlement, as the same entry under `RETRY PYMT`.
    Twice,
    /// If the receiver has allowed it anew since the return.
    WithConsent,
    /// Once its cause is remedied: corrected, and for R11 within 60 days of the return's settlement.
    Corrected,
    /// Not at all.
    Never,
}

/// What a return reason code is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnKind {
    /// The receiving institution or an operator returns an entry.
    Return,
    /// The originating institution refuses a return.
    Dishonored,
    /// The receiving institution insists on a return that was refused.
    Contested,
}

macro_rules! return_codes {
    ($($code:ident $kind:ident $frame:ident $again:ident $meaning:literal,)*) => {
        /// Why an entry was returned, a return dishonored, or that contested. Codes that are not here are not assigned.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ReturnCode {
            $(#[doc = concat!("The reason: ", $meaning, ".")] $code,)*
        }

        impl ReturnCode {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// As it is written: `R01`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => stringify!($code),)*
                }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$code => $meaning,)*
                }
            }

            /// Who uses it.
            pub const fn kind(self) -> ReturnKind {
                match self {
                    $(Self::$code => ReturnKind::$kind,)*
                }
            }

            /// Until when it may be used.
            pub const fn time_frame(self) -> TimeFrame {
                match self {
                    $(Self::$code => TimeFrame::$frame,)*
                }
            }

            /// Whether the entry may be presented again.
            pub const fn again(self) -> Again {
                match self {
                    $(Self::$code => Again::$again,)*
                }
            }
        }
    };
}

return_codes! {
    R01 Return TwoBankingDays Twice "insufficient funds",
    R02 Return TwoBankingDays Never "account closed",
    R03 Return TwoBankingDays Corrected "no account, or unable to locate it",
    R04 Return TwoBankingDays Corrected "invalid account number",
    R05 Return SixtyDays Never "unauthorized debit to a consumer's account with a corporate class code",
    R06 Return Open Never "returned at the originating institution's request",
    R07 Return SixtyDays Never "authorization revoked by the customer",
    R08 Return TwoBankingDays WithConsent "payment stopped",
    R09 Return TwoBankingDays Twice "uncollected funds",
    R10 Return SixtyDays Never "the customer does not know the originator or has not authorized it",
    R11 Return SixtyDays Corrected "not in accordance with the terms of the authorization",
    R12 Return TwoBankingDays Corrected "account sold to another institution",
    R13 Return TwoBankingDays Never "routing number of no participant",
    R14 Return TwoBankingDays Never "representative payee deceased or unable to continue",
    R15 Return TwoBankingDays Never "beneficiary or account holder deceased",
    R16 Return TwoBankingDays Never "account frozen, or entry returned at OFAC's instruction",
    R17 Return TwoBankingDays Corrected "file record edit criteria, or questionable circumstances",
    R18 Return TwoBankingDays Corrected "improper effective entry date",
    R19 Return TwoBankingDays Corrected "amount field error",
    R20 Return TwoBankingDays Never "not a transaction account",
    R21 Return TwoBankingDays Corrected "invalid company identification",
    R22 Return TwoBankingDays Corrected "invalid individual identification number",
    R23 Return Open Never "credit refused by the receiver",
    R24 Return TwoBankingDays Never "duplicate entry",
    R25 Return TwoBankingDays Corrected "addenda error",
    R26 Return TwoBankingDays Corrected "mandatory field error",
    R27 Return TwoBankingDays Corrected "trace number error",
    R28 Return TwoBankingDays Corrected "routing number check digit error",
    R29 Return TwoBankingDays Never "corporate customer advises not authorized",
    R30 Return TwoBankingDays Never "not a participant in check truncation",
    R31 Return Open Never "permissible return of a corporate entry",
    R32 Return TwoBankingDays Never "the receiving institution cannot settle",
    R33 Return SixtyDays Never "return of an XCK entry",
    R34 Return TwoBankingDays Never "participation of the receiving institution is limited",
    R35 Return TwoBankingDays Never "improper debit entry",
    R36 Return TwoBankingDays Never "improper credit entry",
    R37 Return SixtyDays Never "source document presented for payment",
    R38 Return SixtyDays Never "payment stopped on the source document",
    R39 Return TwoBankingDays Never "improper source document, or it was presented for payment",
    R40 Return Open Never "return of an ENR entry by a federal agency",
    R41 Return Open Never "invalid transaction code (ENR)",
    R42 Return Open Never "routing number or check digit error (ENR)",
    R43 Return Open Never "invalid account number (ENR)",
    R44 Return Open Never "invalid individual identification number (ENR)",
    R45 Return Open Never "invalid individual or company name (ENR)",
    R46 Return Open Never "invalid representative payee indicator (ENR)",
    R47 Return Open Never "duplicate enrollment (ENR)",
    R50 Return TwoBankingDays Never "state law affecting the acceptance of RCK entries",
    R51 Return SixtyDays Never "item is ineligible, or RCK entry improper",
    R52 Return SixtyDays Never "payment stopped on the item of an RCK entry",
    R53 Return SixtyDays Never "item and RCK entry both presented for payment",
    R61 Dishonored FiveBankingDays Never "misrouted return",
    R62 Dishonored FiveBankingDays Never "return of an erroneous or reversing debit",
    R67 Dishonored FiveBankingDays Never "duplicate return",
    R68 Dishonored FiveBankingDays Never "untimely return",
    R69 Dishonored FiveBankingDays Never "field errors",
    R70 Dishonored FiveBankingDays Never "permissible return not accepted, or return not requested",
    R71 Contested TwoBankingDays Never "misrouted dishonored return",
    R72 Contested TwoBankingDays Never "untimely dishonored return",
    R73 Contested TwoBankingDays Never "timely original return",
    R74 Contested TwoBankingDays Never "corrected return",
    R75 Contested TwoBankingDays Never "return not a duplicate",
    R76 Contested TwoBankingDays Never "no errors found",
    R77 Contested TwoBankingDays Never "dishonored return R62 not accepted",
    R80 Return Open Never "coding error of an IAT entry",
    R81 Return Open Never "not a participant in IAT",
    R82 Return Open Never "invalid foreign receiving institution",
    R83 Return Open Never "foreign receiving institution cannot settle",
    R84 Return Open Never "entry not processed by the gateway",
    R85 Return Open Never "incorrectly coded outbound international payment",
    R90 Return Open Never "returned for obligations of sanctions compliance",
}

impl ReturnCode {
    /// Of `R01`. Nothing for a code that is not assigned.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// Of `01`, as a dishonored return names the return's.
    pub(crate) fn parse_digits(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.digits() == text)
    }

    /// `01`.
    pub(crate) fn digits(self) -> &'static str {
        &self.as_str()[1..]
    }
}

macro_rules! change_codes {
    ($($code:ident $meaning:literal,)*) => {
        /// What a notification of change says is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ChangeCode {
            $(#[doc = concat!("To be changed: ", $meaning, ".")] $code,)*
        }

        impl ChangeCode {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// As it is written: `C01`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => stringify!($code),)*
                }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$code => $meaning,)*
                }
            }
        }
    };
}

change_codes! {
    C01 "incorrect account number",
    C02 "incorrect routing number",
    C03 "incorrect routing number and account number",
    C04 "incorrect individual or company name",
    C05 "incorrect transaction code",
    C06 "incorrect account number and transaction code",
    C07 "incorrect routing number, account number and transaction code",
    C08 "incorrect foreign receiving institution (IAT)",
    C09 "incorrect individual identification number",
    C10 "incorrect company name (no longer assigned)",
    C11 "incorrect company identification (no longer assigned)",
    C12 "incorrect company name and identification (no longer assigned)",
    C13 "addenda format error",
    C14 "incorrect class code for an outbound international payment",
}

impl ChangeCode {
    /// Of `C01`. Nothing for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_they_are_written() {
        for code in ReturnCode::ALL {
            assert_eq!(ReturnCode::parse(code.as_str()), Some(*code));
            assert_eq!(ReturnCode::parse_digits(code.digits()), Some(*code));
        }
        for code in ChangeCode::ALL {
            assert_eq!(ChangeCode::parse(code.as_str()), Some(*code));
        }
        for text in ["", "R00", "R63", "R86", "R1", "r01", "C01", "R010"] {
            assert_eq!(ReturnCode::parse(text), None, "{text}");
        }
        assert_eq!((ChangeCode::parse("C15"), ChangeCode::parse("C61")), (None, None));
    }

    #[test]
    fn an_unauthorized_entry_is_never_presented_again() {
        for code in [ReturnCode::R05, ReturnCode::R07, ReturnCode::R10, ReturnCode::R29] {
            assert_eq!(code.again(), Again::Never);
        }
        let twice: Vec<_> = ReturnCode::ALL.iter().filter(|code| code.again() == Again::Twice).collect();
        assert_eq!(twice, [&ReturnCode::R01, &ReturnCode::R09]);
    }

    #[test]
    fn consumers_have_sixty_days() {
        let sixty: Vec<_> = ReturnCode::ALL
            .iter()
            .filter(|code| code.time_frame() == TimeFrame::SixtyDays)
            .map(|code| code.as_str())
            .collect();
        assert_eq!(sixty, ["R05", "R07", "R10", "R11", "R33", "R37", "R38", "R51", "R52", "R53"]);
    }
}
