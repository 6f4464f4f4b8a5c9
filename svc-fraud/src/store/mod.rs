//! Where assessments are kept and payments are counted.
//!
//! Every implementation passes the one suite in `contract.rs`.

mod counts;
mod embedded;

#[cfg(test)]
mod contract;

use std::future::Future;

use mesh::StoreError;
use money::Timestamp;

use crate::domain::{Assessment, Subject};

pub use embedded::{EmbeddedStore, Options};

/// Keeps assessments. Cheap to clone.
pub trait Store: Clone + Send + Sync + 'static {
    /// Assesses each of these at `now`, in order, and keeps what was decided and counted before it
    /// answers. A payment that was assessed before gets its first assessment again, whatever else is
    /// said of it now, and is not counted again. All or nothing: on an error none was assessed.
    fn assess(
        &self,
        subjects: Vec<Subject>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<Assessment>, StoreError>> + Send;
}
