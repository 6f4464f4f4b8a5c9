//! A stream of a payment's events: what is on record after a given number, then what comes.
//!
//! The place among the watchers is taken before the first read, and the store is read again after each
//! ring: so there is no gap; and each read begins after the last number sent: so nothing comes twice.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use mesh::{Call, Fault};
use money::{PaymentId, TenantId};
use paymesh_proto::payments::v1 as proto;
use tokio::sync::mpsc;
use tonic::{Status, codegen::tokio_stream::Stream};

use crate::{
    convert,
    driver::Driver,
    store::{Page, Store},
    watchers::Watcher,
};

/// How many events are read at once, and may wait for a slow reader.
const EVENTS_PER_READ: usize = 32;

type Item = Result<proto::PaymentEvent, Status>;

/// The events as they are sent. Dropping it ends the watching.
pub struct EventStream(mpsc::Receiver<Item>);

impl Stream for EventStream {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.poll_recv(context)
    }
}

/// What to watch.
pub(crate) struct Watched {
    pub(crate) tenant: TenantId,
    pub(crate) payment: PaymentId,
    /// Only events with a higher number.
    pub(crate) after: i64,
}

/// Begins to watch a payment that is known to exist. Ends with the call's deadline, when the service
/// stops, or after the time that a watcher has.
pub(crate) fn begin<S: Store>(
    driver: &Arc<Driver<S>>,
    call: &Call,
    watched: Watched,
) -> Result<EventStream, Fault> {
    let watcher = driver.watchers.enter(watched.tenant.clone(), watched.payment)?;
    let (sender, receiver) = mpsc::channel(EVENTS_PER_READ);
    let longest = Instant::now() + Duration::from_millis(driver.config.watch_duration_max_ms);
    let end = call.deadline().map_or(longest, |deadline| deadline.min(longest));
    let driver = Arc::clone(driver);
    tokio::spawn(async move {
        let feeding = tokio::time::timeout_at(end.into(), feed(&driver, watcher, watched, sender));
        driver.watchers.unless_closing(feeding).await
    });
    Ok(EventStream(receiver))
}

async fn feed<S: Store>(
    driver: &Driver<S>,
    mut watcher: Watcher,
    watched: Watched,
    sender: mpsc::Sender<Item>,
) {
    let Watched { tenant, payment, mut after } = watched;
    loop {
        let page = Page { after: Some(after), limit: EVENTS_PER_READ };
        let (of, recorded) = match driver.store.events(tenant.clone(), payment, page).await {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => {
                let _ = sender.send(Err(Fault::from(error).into())).await;
                return;
            }
        };
        for event in &recorded {
            if sender.send(Ok(convert::event(&of, event))).await.is_err() {
                return;
            }
            after = event.sequence;
        }
        if recorded.len() < EVENTS_PER_READ {
            tokio::select! {
                () = watcher.news() => {}
                () = sender.closed() => return,
            }
        }
    }
}
