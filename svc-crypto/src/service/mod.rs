//! The gRPC face: what comes over the wire into the domain's words and back. Decides nothing.

mod convert;
mod crypto;
mod vault;

use mesh::{BatchLimits, Fault};

pub use crypto::CryptoHandler;
pub use vault::VaultHandler;

/// Refuses a batch that is longer than what the mesh's batching hands on at once.
fn check_count(items: usize) -> Result<(), Fault> {
    let items_max = BatchLimits::default().items_max;
    if items <= items_max {
        Ok(())
    } else {
        Err(Fault::invalid("items", format!("must have at most {items_max}")))
    }
}

/// The reason that an item's refusal carries.
fn reason_of(fault: &Fault) -> String {
    fault.reason().as_str().to_owned()
}
