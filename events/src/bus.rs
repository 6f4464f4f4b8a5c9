//! The publisher where no broker is configured: to whoever listens within the process.

use tokio::sync::broadcast;

use crate::{
    event::Event,
    publish::{Publisher, Publishing},
};

/// Delivers events within the process. Always succeeds: who listens too slowly misses some, and is told how many.
///
/// Nothing outlives the process: an event that nobody listened to is gone. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus(broadcast::Sender<Event>);

/// So many events were missed, the oldest that were waiting: state that was made from events has to be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were missed")]
pub struct Missed(pub u64);

/// Receives what is published from its beginning on.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Event>);

impl Bus {
    /// Of which each listener may be `backlog_max` events behind, at least 1.
    pub fn new(backlog_max: usize) -> Self {
        Self(broadcast::Sender::new(backlog_max.max(1)))
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.subscribe())
    }
}

impl Subscription {
    /// The next event; `None` once there will be no more.
    ///
    /// # Errors
    /// [`Missed`], once for each time that some were; then it goes on with the oldest that is still there.
    pub async fn next(&mut self) -> Option<Result<Event, Missed>> {
        match self.0.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(Missed(missed))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Publisher for Bus {
    fn publish<'a>(&'a self, batch: &'a [Event]) -> Publishing<'a> {
        for event in batch {
            // Nobody listens: that is no failure.
            let _ = self.0.send(event.clone());
        }
        Box::pin(std::future::ready(vec![Ok(()); batch.len()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::event;

    #[tokio::test]
    async fn listeners_get_what_comes_after_them_and_the_slow_are_told_what_they_missed() {
        let bus = Bus::new(4);
        assert_eq!(bus.publish(&[event("a", 1)]).await, [Ok(())], "nobody has to listen");
        let mut listener = bus.subscribe();
        let batch: Vec<Event> = (2..=7).map(|sequence| event("a", sequence)).collect();
        assert_eq!(bus.publish(&batch).await, vec![Ok(()); 6]);
        assert_eq!(listener.next().await, Some(Err(Missed(2))));
        for sequence in 4..=7 {
            assert_eq!(listener.next().await, Some(Ok(event("a", sequence))));
        }
        drop(bus);
        assert_eq!(listener.next().await, None);
    }
}
