//! What this replica knows of its place among the others: asked for every answer.

use tokio::sync::watch;

use super::{Epoch, Lease, Role};

/// Whether this replica may speak for the ledger, and who may instead. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Place {
    lease: Lease,
    role: watch::Receiver<Role>,
}

impl Place {
    pub(super) const fn new(lease: Lease, role: watch::Receiver<Role>) -> Self {
        Self { lease, role }
    }

    /// Of a replica that never leads.
    #[cfg(test)]
    pub(super) fn of_a_follower() -> Self {
        Self::new(Lease::default(), watch::channel(Role::unknown()).1)
    }

    /// Whether it leads in this epoch, at this very moment: its lease may have ended while this process did not
    /// run, and then its memory is old.
    pub(super) fn leads_in(&self, epoch: Epoch) -> bool {
        self.lease.epoch() == Some(epoch)
    }

    /// Who else leads, with the address where there is one; empty while nobody is known to.
    pub(super) fn leader(&self) -> String {
        match &*self.role.borrow() {
            Role::Following { leader, address } if address.is_empty() => leader.clone(),
            Role::Following { leader, address } => format!("{leader} at {address}"),
            Role::Leading { .. } => String::new(),
        }
    }
}
