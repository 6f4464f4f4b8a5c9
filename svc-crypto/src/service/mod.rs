//! The gRPC face: what comes over the wire into the domain's words and back. Decides nothing.

mod audit;
mod convert;
mod crypto;
mod keys;
mod root;
mod streams;
mod to_its_end;
mod vault;
mod vault_audit;

use mesh::{BatchLimits, Fault, Reason};

pub use audit::AuditHandler;
pub use crypto::CryptoHandler;
pub use keys::KeysHandler;
pub use root::{LaterRecorder, RootHandler};
pub use to_its_end::ToItsEnd;
pub use vault::VaultHandler;
pub use vault_audit::Audited;

/// Refuses a batch that is longer than what the mesh's batching hands on at once.
fn check_count(field: &str, items: usize) -> Result<(), Fault> {
    let items_max = BatchLimits::default().items_max;
    if items <= items_max {
        Ok(())
    } else {
        Err(Fault::invalid(field, format!("must have at most {items_max}")))
    }
}

/// The reason that an item's refusal carries.
fn reason_of(fault: &Fault) -> String {
    fault.reason().as_str().to_owned()
}

fn internal() -> Fault {
    Fault::new(Reason::Internal, "The service could not use its keys.")
}
