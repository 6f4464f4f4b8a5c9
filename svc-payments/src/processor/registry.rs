//! The processors there are, by name. Every call to one goes through here: nothing waits longer than it may, a processor
//! that is slow holds up nobody but itself, and one that fails is left alone for a while.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mesh::client::{
    BreakerSettings,
    breaker::{Breaker, Outcome, Pass},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::Instant};

use super::{Asked, Inquiry, Processor, ProcessorRequest};
use crate::domain::operation::{Failure, ProcessorOutcome};

/// What one processor may cost, and when it is left alone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessorLimits {
    /// How long a call may take before its outcome counts as unknown, in milliseconds. Default 2000.
    #[schemars(range(min = 1))]
    pub timeout_ms: u64,
    /// How many calls are under way at once; others wait for their turn as long as a call may take. Default 256.
    #[schemars(range(min = 1))]
    pub in_flight_max: usize,
    /// When it is asked for nothing new: a call fails when its outcome is unknown.
    pub breaker: BreakerSettings,
}

impl Default for ProcessorLimits {
    fn default() -> Self {
        Self { timeout_ms: 2_000, in_flight_max: 256, breaker: BreakerSettings::default() }
    }
}

/// The processors there are.
#[derive(Clone, Default)]
pub struct Processors(Arc<BTreeMap<String, Guarded>>);

struct Guarded {
    processor: Arc<dyn Processor>,
    timeout: Duration,
    places: Semaphore,
    breaker: Mutex<Breaker>,
}

/// What became of asking a processor for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Performed {
    /// It was asked, and this is how that ended.
    Asked(ProcessorOutcome),
    /// It was not asked: it fails, has too much under way, or is not configured.
    NotAsked,
}

impl Processors {
    /// These, each within its limits.
    pub fn new(processors: impl IntoIterator<Item = (Arc<dyn Processor>, ProcessorLimits)>) -> Self {
        let guarded = processors.into_iter().map(|(processor, limits)| {
            let guarded = Guarded {
                timeout: Duration::from_millis(limits.timeout_ms),
                places: Semaphore::new(limits.in_flight_max),
                breaker: Mutex::new(Breaker::new(&limits.breaker, Instant::now())),
                processor: Arc::clone(&processor),
            };
            (processor.name().to_owned(), guarded)
        });
        Self(Arc::new(guarded.collect()))
    }

    /// The processor of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Processor>> {
        self.0.get(name).map(|guarded| &guarded.processor)
    }

    /// Has a processor carry a request out. An answer that does not come in time is an unknown outcome.
    pub async fn perform(&self, name: &str, reference: &str, request: ProcessorRequest) -> Performed {
        let Some(guarded) = self.0.get(name) else {
            tracing::error!(processor = name, "a payment is with a processor that is not configured");
            return Performed::NotAsked;
        };
        let Some(pass) = guarded.admit() else { return Performed::NotAsked };
        let mut admitted = Admitted { guarded, pass: Some(pass) };
        let place = tokio::time::timeout(guarded.timeout, guarded.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Performed::NotAsked };
        let performed = guarded.processor.perform(reference, request);
        let outcome = tokio::time::timeout(guarded.timeout, performed).await;
        let outcome = outcome.unwrap_or(ProcessorOutcome::Unanswered);
        let failed = matches!(outcome, ProcessorOutcome::Unanswered | ProcessorOutcome::NotTaken(_));
        admitted.ended(if failed { Outcome::Failed } else { Outcome::Succeeded });
        Performed::Asked(outcome)
    }

    /// Asks a processor what became of a request. That is done also while it fails: unknown outcomes wait for it.
    pub async fn inquire(&self, name: &str, asked: Asked<'_>) -> Inquiry {
        let Some(guarded) = self.0.get(name) else { return Inquiry::Unanswered };
        let answer = tokio::time::timeout(guarded.timeout, guarded.processor.inquire(asked)).await;
        answer.unwrap_or(Inquiry::Unanswered)
    }
}

impl Guarded {
    fn admit(&self) -> Option<Pass> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now()).ok()
    }
}

/// A call that the breaker let through; without an outcome it says nothing.
struct Admitted<'a> {
    guarded: &'a Guarded,
    pass: Option<Pass>,
}

impl Admitted<'_> {
    fn ended(&mut self, outcome: Outcome) {
        if let Some(pass) = self.pass.take() {
            let mut breaker = self.guarded.breaker.lock().unwrap_or_else(PoisonError::into_inner);
            breaker.ended(pass, outcome, Instant::now());
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.ended(Outcome::Nothing);
    }
}

/// The processor cannot be asked now, and was not.
pub fn unavailable() -> Failure {
    Failure::new(
        "PROCESSOR_UNAVAILABLE",
        "The processor cannot take the payment on now; nothing was charged.",
    )
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        domain::operation::{Approval, OperationKind},
        processor::{Answer, WebhookError, WebhookHeaders, WebhookSubject},
    };

    /// Answers what is captured of `good`, and nothing else.
    #[derive(Default)]
    struct Picky {
        calls: AtomicUsize,
    }

    impl Processor for Picky {
        fn name(&self) -> &'static str {
            "picky"
        }

        fn perform<'a>(&'a self, _: &'a str, request: ProcessorRequest) -> Answer<'a, ProcessorOutcome> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let good = matches!(&request, ProcessorRequest::Void { of } if of == "good");
            Box::pin(async move {
                if good { ProcessorOutcome::Approved(Approval::as_asked("r")) } else { pending().await }
            })
        }

        fn inquire<'a>(&'a self, _: Asked<'a>) -> Answer<'a, Inquiry> {
            Box::pin(async { Inquiry::Pending })
        }

        fn verify_webhook(&self, _: &WebhookHeaders, _: &[u8]) -> Result<WebhookSubject, WebhookError> {
            Ok(WebhookSubject::Other)
        }
    }

    fn void(of: &str) -> ProcessorRequest {
        ProcessorRequest::Void { of: of.into() }
    }

    fn processors(limits: ProcessorLimits) -> (Arc<Picky>, Processors) {
        let picky = Arc::new(Picky::default());
        (Arc::clone(&picky), Processors::new([(picky as Arc<dyn Processor>, limits)]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_processor_that_does_not_answer_is_left_alone_and_asked_about_all_the_same() {
        let breaker = BreakerSettings { calls_min: 4, ..BreakerSettings::default() };
        let limits = ProcessorLimits { timeout_ms: 100, breaker, ..ProcessorLimits::default() };
        let (picky, processors) = processors(limits);
        for _ in 0..4 {
            let silent = processors.perform("picky", "r", void("bad")).await;
            assert_eq!(silent, Performed::Asked(ProcessorOutcome::Unanswered));
        }
        assert_eq!(processors.perform("picky", "r", void("good")).await, Performed::NotAsked);
        assert_eq!(picky.calls.load(Ordering::Relaxed), 4);
        let asked = Asked { reference: "r", processor_reference: None, kind: &OperationKind::Extend };
        assert_eq!(processors.inquire("picky", asked).await, Inquiry::Pending);
        tokio::time::advance(Duration::from_millis(500)).await;
        let again = processors.perform("picky", "r", void("good")).await;
        assert!(matches!(again, Performed::Asked(ProcessorOutcome::Approved(_))));
        assert_eq!(processors.perform("other", "r", void("good")).await, Performed::NotAsked);
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_place_in_time_was_not_asked() {
        let limits = ProcessorLimits { timeout_ms: 100, in_flight_max: 1, ..ProcessorLimits::default() };
        let (picky, processors) = processors(limits);
        let first = tokio::spawn({
            let processors = processors.clone();
            async move { processors.perform("picky", "a", void("bad")).await }
        });
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(1)).await;
        let held = processors.perform("picky", "b", void("good"));
        let held = tokio::time::timeout(Duration::from_millis(50), held).await;
        assert!(held.is_err(), "it waits for its turn");
        assert_eq!(picky.calls.load(Ordering::Relaxed), 1);
        assert_eq!(first.await.unwrap(), Performed::Asked(ProcessorOutcome::Unanswered));
    }
}
