//! Takes, keeps and gives up the leadership of a ledger. What to do is decided in `leader`.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use mesh::{Drain, StoreError};
use tokio::{sync::watch, time::timeout};
use tokio_postgres::{Client, Row, error::SqlState};

use super::{
    leader::{Epoch, Intent, Role, Seen, Step, decide, interval},
    session::{Purpose, Server, as_bigint, failed, from_bigint, said},
};

const LOOK: &str = "SELECT epoch, leader, address, released,
    greatest(0, ceil(extract(epoch FROM lease_until - clock_timestamp()) * 1000))::bigint FROM leadership";

/// Guarded by the epoch: who has been replaced renews nothing.
const RENEW: &str = "UPDATE leadership SET lease_until = clock_timestamp() + $2 * interval '1 millisecond'
    WHERE epoch = $1 AND NOT released";

const RELEASE: &str = "UPDATE leadership SET released = true WHERE epoch = $1";

/// Guarded by what was seen: of those who race for an epoch one changes the row, and the others then see
/// another epoch. It waits for appends that hold the row, and in turn holds up those that come later. The
/// watermark's epoch fences what applies records; whoever needs both rows takes them in this order.
const TAKE: &str = "WITH taken AS (
        UPDATE leadership SET epoch = epoch + 1, leader = $2, address = $3, released = false,
            lease_until = clock_timestamp() + $4 * interval '1 millisecond'
        WHERE epoch = $1 AND (released OR lease_until <= clock_timestamp())
        RETURNING epoch
    )
    UPDATE watermark SET epoch = taken.epoch FROM taken RETURNING taken.epoch";

/// Ends what the last leader's sessions are still at: nothing of it is committed unless it was already.
const END_WRITERS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = $1 AND datname = current_database() AND usename = current_user";

/// Who a replica says it is.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) address: String,
}

/// Whether this replica may still speak for the ledger, to be asked right before an answer from memory. It
/// ends by this process's clock, before any other replica may lead. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Lease(Arc<Mutex<Option<(Epoch, Instant)>>>);

impl Lease {
    /// The epoch that is held now.
    pub fn epoch(&self) -> Option<Epoch> {
        self.held(Instant::now()).map(|(epoch, _)| epoch)
    }

    fn held(&self, now: Instant) -> Option<(Epoch, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).filter(|(_, until)| now < *until)
    }

    fn set(&self, held: Option<(Epoch, Instant)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// The place of the leader, and this replica's way to it.
pub struct Leadership {
    server: Server,
    member: Member,
    role: watch::Sender<Role>,
    lease: Lease,
    /// The last epoch that is to be given up.
    given_up: watch::Sender<Epoch>,
    session: Option<Client>,
}

impl Leadership {
    pub(super) fn new(server: Server, member: Member) -> Self {
        let role = watch::Sender::new(Role::unknown());
        let given_up = watch::Sender::new(0);
        Self { server, member, role, lease: Lease::default(), given_up, session: None }
    }

    pub(super) fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    pub(super) fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Whoever is sent an epoch here gives it up, if it is held, and leads again in a later one.
    pub(super) fn given_up(&self) -> watch::Sender<Epoch> {
        self.given_up.clone()
    }

    /// Leads whenever it can, until the drain begins, after which it takes no place and keeps the one that it has
    /// until `leaving`; then gives that up and returns. What the engine still writes must be done by then.
    pub async fn keep(mut self, drain: Drain, leaving: impl Future<Output = ()>) {
        let every = interval(self.server.lease());
        let mut leaving = pin!(leaving);
        let mut is_leaving = false;
        let mut given_up = self.given_up.subscribe();
        loop {
            let held = self.lease.held(Instant::now());
            // With a place to lose, no answer is waited for longer than it lasts.
            let patience = held.map_or(self.server.lease(), |(_, until)| until - Instant::now());
            let stepped = tokio::select! {
                stepped = timeout(patience, self.step(is_leaving, &drain)) => stepped,
                // A place that is being taken is known to be ours first, and then given up.
                () = &mut leaving, if !is_leaving && held.is_some() => {
                    is_leaving = true;
                    // What was under way may have left the session in the middle of something.
                    self.session = None;
                    continue;
                }
            };
            let mut wait = every;
            match stepped {
                Ok(Ok(next)) => wait = next,
                Ok(Err(error)) => self.give_session_up(&error.to_string()),
                Err(_) => self.give_session_up("no answer in time"),
            }
            match self.lease.held(Instant::now()) {
                // Nobody looks at the place again: it is free, or its end comes by itself.
                None if is_leaving => return self.follow(Role::unknown()),
                None if held.is_some() && self.leads() => self.follow(Role::unknown()),
                // While there is a place to give up it is tried again and again.
                Some((_, until)) => wait = wait.min(until - Instant::now()),
                None => {}
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The sender is ours, so that this is no error.
                _ = given_up.changed() => {}
                () = &mut leaving, if !is_leaving => is_leaving = true,
            }
            if self.leads() && self.lease.held(Instant::now()).is_none() {
                self.follow(Role::unknown());
            }
        }
    }

    /// Looks, and does what is to be done. Says after how long to look again.
    async fn step(&mut self, leaving: bool, drain: &Drain) -> Result<Duration, StoreError> {
        let lease = self.server.lease();
        if self.session.is_none() {
            let client = self.server.connect(Purpose::Lead).await?;
            // A takeover must not be forgotten by the server either.
            self.server.pin_durability(&client).await?;
            self.session = Some(client);
        }
        let Some(client) = &self.session else { return Ok(Duration::ZERO) };
        let seen = seen(&client.query_one(LOOK, &[]).await.map_err(failed)?)?;
        let held = self.lease.held(Instant::now()).map(|(epoch, _)| epoch);
        let intent = match held {
            _ if leaving => Intent::Leave,
            Some(epoch) if epoch <= *self.given_up.borrow() => Intent::LeadAnew,
            _ if drain.has_started() => Intent::Finish,
            _ => Intent::Lead,
        };
        match decide(&seen, held, intent, lease) {
            Step::Renew(epoch) => {
                let asked_at = Instant::now();
                if self.execute(RENEW, epoch, Some(lease)).await? {
                    self.lease.set(Some((epoch, asked_at + lease)));
                    return Ok(interval(lease));
                }
                // Replaced between the two.
                self.follow(Role::unknown());
                Ok(Duration::ZERO)
            }
            Step::Release(epoch) => {
                self.role.send_replace(Role::unknown());
                // Where it fails it is tried again for as long as the lease lasts.
                self.execute(RELEASE, epoch, None).await?;
                self.lease.set(None);
                tracing::info!(epoch, "this replica gave the ledger's leadership up");
                Ok(Duration::ZERO)
            }
            Step::Take(of) => {
                let asked_at = Instant::now();
                let Some(epoch) = take(client, &self.server, &self.member, of).await? else {
                    return Ok(Duration::ZERO);
                };
                tracing::info!(epoch, "this replica leads the ledger");
                self.lease.set(Some((epoch, asked_at + lease)));
                self.role.send_replace(Role::Leading { epoch });
                Ok(interval(lease))
            }
            Step::Follow(wait) => {
                self.follow(Role::Following { leader: seen.leader, address: seen.address });
                Ok(wait)
            }
        }
    }

    async fn execute(
        &self,
        statement: &str,
        epoch: Epoch,
        lease: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let Some(client) = &self.session else { return Ok(false) };
        let epoch = as_bigint(epoch)?;
        let changed = match lease {
            Some(lease) => client.execute(statement, &[&epoch, &millis(lease)]).await,
            None => client.execute(statement, &[&epoch]).await,
        };
        Ok(changed.map_err(failed)? == 1)
    }

    fn leads(&self) -> bool {
        matches!(*self.role.borrow(), Role::Leading { .. })
    }

    /// Leads no more, if it did.
    fn follow(&self, role: Role) {
        self.lease.set(None);
        if self.leads() {
            tracing::warn!("this replica no longer leads the ledger");
        }
        self.role.send_if_modified(|current| {
            let changed = *current != role;
            *current = role;
            changed
        });
    }

    fn give_session_up(&mut self, error: &str) {
        tracing::warn!(error, "who leads the ledger could not be asked");
        self.session = None;
    }
}

/// Takes the place of an epoch's leader whose lease has ended. `None` when somebody else did.
pub(super) async fn take(
    client: &Client,
    server: &Server,
    member: &Member,
    of: Epoch,
) -> Result<Option<Epoch>, StoreError> {
    let taken = match try_take(client, server, member, of).await {
        // A session of the last leader holds a lock and does not go on: its machine is gone, or it hangs.
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            let writers = server.writers(of);
            client.query_one(END_WRITERS, &[&writers]).await.map_err(failed)?;
            tracing::warn!(epoch = of, "sessions of the last leader were ended: {}", said(&error));
            try_take(client, server, member, of).await
        }
        other => other,
    };
    taken.map_err(failed)?.map(|row| from_bigint(row.get(0))).transpose()
}

async fn try_take(
    client: &Client,
    server: &Server,
    member: &Member,
    of: Epoch,
) -> Result<Option<Row>, tokio_postgres::Error> {
    // Beyond the range it is no epoch of any row.
    let seen = i64::try_from(of).unwrap_or(i64::MAX);
    client.query_opt(TAKE, &[&seen, &member.name, &member.address, &millis(server.lease())]).await
}

/// The row as it is now.
pub(super) async fn look(client: &Client) -> Result<Seen, StoreError> {
    seen(&client.query_one(LOOK, &[]).await.map_err(failed)?)
}

fn seen(row: &Row) -> Result<Seen, StoreError> {
    Ok(Seen {
        epoch: from_bigint(row.get(0))?,
        leader: row.get(1),
        address: row.get(2),
        released: row.get(3),
        left: Duration::from_millis(from_bigint(row.get(4))?),
    })
}

#[allow(clippy::cast_precision_loss)] // A lease is far below 2⁵³ ms.
fn millis(lease: Duration) -> f64 {
    lease.as_millis() as f64
}
