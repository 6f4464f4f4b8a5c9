//! The processors there are, by name. Every call to one goes through here: nothing waits longer than it may.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Asked, Inquiry, Processor, ProcessorRequest};
use crate::domain::operation::{Failure, ProcessorOutcome};

/// The processors there are.
#[derive(Clone)]
pub struct Processors {
    by_name: Arc<BTreeMap<String, Arc<dyn Processor>>>,
    timeout: Duration,
}

impl Processors {
    /// These, each of which may take so long to answer.
    pub fn new(processors: impl IntoIterator<Item = Arc<dyn Processor>>, timeout: Duration) -> Self {
        let by_name = processors.into_iter().map(|processor| (processor.name().to_owned(), processor));
        Self { by_name: Arc::new(by_name.collect()), timeout }
    }

    /// The processor of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Processor>> {
        self.by_name.get(name)
    }

    /// The names that there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Has a processor carry a request out. An answer that does not come in time is an unknown outcome.
    pub async fn perform(&self, name: &str, reference: &str, request: ProcessorRequest) -> ProcessorOutcome {
        let Some(processor) = self.get(name) else {
            tracing::error!(processor = name, "a payment is with a processor that is not configured");
            return ProcessorOutcome::NotTaken(unavailable());
        };
        let performed = tokio::time::timeout(self.timeout, processor.perform(reference, request)).await;
        performed.unwrap_or(ProcessorOutcome::Unanswered)
    }

    /// Asks a processor what became of a request.
    pub async fn inquire(&self, name: &str, asked: Asked<'_>) -> Inquiry {
        let Some(processor) = self.get(name) else { return Inquiry::Unanswered };
        let answer = tokio::time::timeout(self.timeout, processor.inquire(asked)).await;
        answer.unwrap_or(Inquiry::Unanswered)
    }
}

/// The processor cannot be asked now, and was not.
fn unavailable() -> Failure {
    Failure::new("PROCESSOR_UNAVAILABLE", "The processor cannot be reached now; nothing was charged.")
}
