//! Whether and when a call that failed is made again. Pure: chance is handed in.

use std::time::Duration;

use http::HeaderMap;
use tonic::Code;

use super::{
    contract::Repeatable,
    random::{Dice, up_to},
    settings::{RetrySettings, doubled, ms},
};
use crate::fault::RETRY_PUSHBACK;

/// How often this call was tried before (gRFC A6).
pub(super) const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection had ended before the request left this process.
    NotSent,
    /// No connection could be made.
    Unreachable,
    /// The server said that it did not look at the request: REFUSED_STREAM, or a GOAWAY before it
    /// (RFC 9113, sections 6.8 and 8.7).
    Refused,
    /// The connection was lost; whether the request was carried out is not known.
    Lost,
    /// The server answered with this code.
    Answered(Code),
    /// An earlier attempt of this very call arrived, and is still being carried out.
    Underway,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    No,
    /// At once, on another connection: nothing was sent, so nothing is repeated.
    AtOnce,
    /// After a wait, if the budget allows.
    After(Duration),
}

impl Failure {
    /// Whether the request may have been carried out, or still be.
    pub(super) fn may_have_begun(self) -> bool {
        matches!(self, Self::Lost | Self::Answered(Code::Unavailable) | Self::Underway)
    }
}

/// Decides. `retries` were made before; `has_key` says whether the call carries an idempotency key.
pub(super) fn decide(
    failure: Failure,
    repeatable: Repeatable,
    has_key: bool,
    retries: u32,
    pushback: Option<Pushback>,
    settings: &RetrySettings,
    dice: &dyn Dice,
) -> Again {
    let may_repeat = match repeatable {
        Repeatable::Never => false,
        Repeatable::WithKey => has_key,
        Repeatable::ById | Repeatable::Reads => true,
    };
    let safe = match failure {
        Failure::NotSent => return Again::AtOnce,
        // It has been made, and is only asked what came of it: as often as there is time.
        Failure::Underway => {
            return match pushback {
                Some(Pushback::After(wait)) => Again::After(somewhat_later(dice, wait)),
                Some(Pushback::Never) | None => Again::No,
            };
        }
        Failure::Unreachable | Failure::Refused => true,
        Failure::Lost | Failure::Answered(Code::Unavailable) => may_repeat,
        Failure::Answered(_) => false,
    };
    if !safe || retries >= settings.retries_max {
        return Again::No;
    }
    match pushback {
        Some(Pushback::Never) => Again::No,
        Some(Pushback::After(wait)) => Again::After(somewhat_later(dice, wait)),
        None => {
            let most = doubled(ms(settings.backoff_base_ms), retries, ms(settings.backoff_max_ms));
            Again::After(up_to(dice, most))
        }
    }
}

/// Whoever was told to wait equally long is not to come back all at once.
fn somewhat_later(dice: &dyn Dice, wait: Duration) -> Duration {
    wait.saturating_add(up_to(dice, wait / 5))
}

/// What a server wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushback {
    After(Duration),
    Never,
}

impl Pushback {
    /// Milliseconds after which to try again; negative, and what cannot be read, is never (gRFC A6).
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(RETRY_PUSHBACK)?.to_str().unwrap_or_default();
        Some(text.parse().map_or(Self::Never, |wait| Self::After(ms(wait))))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::client::random::ThreadDice;

    fn again(failure: Failure, repeatable: Repeatable, has_key: bool) -> bool {
        let settings = RetrySettings::default();
        decide(failure, repeatable, has_key, 0, None, &settings, &ThreadDice) != Again::No
    }

    #[test]
    fn only_what_may_be_repeated_is_unless_it_never_left() {
        use Repeatable::{ById, Never, Reads, WithKey};
        let unavailable = Failure::Answered(Code::Unavailable);
        for failure in [unavailable, Failure::Lost] {
            assert!(!again(failure, Never, true));
            assert!(!again(failure, WithKey, false));
            assert!(again(failure, WithKey, true));
            assert!(again(failure, ById, false) && again(failure, Reads, false));
        }
        for failure in [Failure::NotSent, Failure::Unreachable, Failure::Refused] {
            assert!(again(failure, Never, false), "{failure:?}");
        }
        for code in [Code::Internal, Code::ResourceExhausted, Code::DeadlineExceeded, Code::Aborted] {
            assert!(!again(Failure::Answered(code), Reads, true), "{code:?}");
        }
    }

    #[test]
    fn waits_grow_within_their_bounds_and_a_pushback_comes_first() {
        struct Most;
        impl Dice for Most {
            fn draw(&self, below: u64) -> u64 {
                below - 1
            }
        }
        let settings = RetrySettings { retries_max: 9, ..RetrySettings::default() };
        let wait = |retries, pushback| {
            decide(Failure::Lost, Repeatable::Reads, false, retries, pushback, &settings, &Most)
        };
        let waits: Vec<Again> = (0..7).map(|retries| wait(retries, None)).collect();
        let expected = [25, 50, 100, 200, 400, 500, 500].map(|most| Again::After(ms(most)));
        assert_eq!(waits, expected);
        assert_eq!(wait(9, None), Again::No);
        let read = |text| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_PUSHBACK, HeaderValue::from_static(text));
            Pushback::read(&headers)
        };
        assert_eq!(wait(0, read("1500")), Again::After(ms(1_500 + 300)), "and at most a fifth more");
        for never in ["-1", "soon", "", "99999999999"] {
            assert_eq!(wait(0, read(never)), Again::No, "{never}");
        }
        assert_eq!(Pushback::read(&HeaderMap::new()), None);
    }
}
