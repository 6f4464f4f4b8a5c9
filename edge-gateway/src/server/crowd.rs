//! How many connections come from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::limits::address::of_client;

/// The connections by address. It has an entry for an address only while it has connections.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<HashMap<u128, usize>>);

impl Crowd {
    /// One more connection from there for as long as it is held, if there are fewer than `max`.
    pub(crate) fn join(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Member> {
        let address = of_client(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&address).map_or(0, |count| *count);
        if count >= max {
            return None;
        }
        counts.insert(address, count + 1);
        Some(Member { crowd: Arc::clone(self), address })
    }
}

/// A connection, counted until this is dropped.
pub(crate) struct Member {
    crowd: Arc<Crowd>,
    address: u128,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leaves_no_trace() {
        let (crowd, address) = (Arc::new(Crowd::default()), IpAddr::from([192, 0, 2, 1]));
        assert!(crowd.join(address, 0).is_none());
        assert!(crowd.0.lock().unwrap().is_empty());
        let held = crowd.join(address, 1);
        assert!(held.is_some() && crowd.join(address, 1).is_none());
        drop(held);
        assert!(crowd.0.lock().unwrap().is_empty());
    }
}
