//! One replica of the ledger: it has an engine while it leads, and names the leader while it does not.

use std::time::Duration;

use mesh::{Drain, StartError};
use tokio::sync::watch;

use super::{Epoch, Leadership, Postgres, PostgresConfig, PostgresIndex, Role};
use crate::{
    engine::{Engine, EngineError},
    store::{Led, ports::JournalError, recovery::RecoveryError},
};

/// How long to wait after the server failed while the state was read.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type Leading = Option<(Epoch, Engine<PostgresIndex>)>;

/// The ledger, as those who ask this replica see it. Cheap to clone.
#[derive(Clone)]
pub struct PostgresStore {
    pub(super) postgres: Postgres,
    leading: watch::Receiver<Leading>,
}

impl PostgresStore {
    /// Connects and checks all that can be checked; nobody leads here before [`Replica::run`] runs.
    pub async fn open(config: &PostgresConfig) -> Result<(Self, Replica), StartError> {
        let (postgres, leadership) = Postgres::open(config).await?;
        let (to, leading) = watch::channel(None);
        let store = Self { postgres: postgres.clone(), leading };
        Ok((store, Replica { postgres, leadership, leading: to }))
    }
}

impl Led for PostgresStore {
    type Index = PostgresIndex;
    type Archive = Postgres;
    type Term = Epoch;

    fn lead(&self) -> Result<(Engine<PostgresIndex>, Epoch), EngineError> {
        let place = self.postgres.place();
        match &*self.leading.borrow() {
            Some((epoch, engine)) if place.leads_in(*epoch) => Ok((engine.clone(), *epoch)),
            _ => Err(EngineError::NotLeader { leader: place.leader() }),
        }
    }

    /// Whoever drains keeps its place until all that it has begun is answered.
    fn confirm(&self, epoch: Epoch) -> Result<(), EngineError> {
        let place = self.postgres.place();
        if place.leads_in(epoch) { Ok(()) } else { Err(EngineError::NotLeader { leader: place.leader() }) }
    }

    /// Can be read also where this replica does not lead.
    fn archive(&self) -> Postgres {
        self.postgres.clone()
    }
}

/// What a replica does as long as it is there.
pub struct Replica {
    postgres: Postgres,
    leadership: Leadership,
    leading: watch::Sender<Leading>,
}

/// Why an engine no longer runs.
enum End {
    /// Another one leads, or may do so.
    Replaced,
    /// The journal failed: what was written last is not known.
    Stopped(EngineError),
    /// This process ends.
    Drained,
}

impl Replica {
    /// Leads whenever it can, until the drain begins: from then on it takes no place, and what was begun is done
    /// before the one that it has is given up. Returns earlier only where what is stored is damaged, which the log tells.
    pub async fn run(self, drain: Drain) {
        let Self { postgres, leadership, leading } = self;
        let left = Drain::new();
        let leaving = left.clone();
        let keeping = leadership.keep(drain.clone(), async move { leaving.started().await });
        let work = async {
            work(&postgres, &leading, &drain).await;
            left.start();
        };
        tokio::join!(keeping, work);
    }
}

async fn work(postgres: &Postgres, leading: &watch::Sender<Leading>, drain: &Drain) {
    let mut role = postgres.role();
    let mut index_first = false;
    loop {
        let epoch = {
            let leads = role.wait_for(|role| matches!(role, Role::Leading { .. }));
            match drain.unless_started(leads).await {
                Some(Ok(role)) => match *role {
                    Role::Leading { epoch } => epoch,
                    Role::Following { .. } => continue,
                },
                // The leadership is kept for as long as this runs.
                Some(Err(_)) | None => return,
            }
        };
        let mut losing = role.clone();
        let starting = async {
            tokio::select! {
                started = Box::pin(start(postgres, epoch, index_first)) => started,
                _ = losing.wait_for(|role| *role != Role::Leading { epoch }) => Err(Failure::Replaced),
            }
        };
        let Some(started) = drain.unless_started(starting).await else { return };
        let engine = match started {
            Ok(engine) => engine,
            Err(Failure::Replaced) => {
                tracing::warn!(epoch, "the ledger was no longer to be served before it was read");
                continue;
            }
            Err(Failure::Passing(error)) => {
                tracing::error!(%error, "the ledger could not be read; it is tried again");
                if drain.unless_started(tokio::time::sleep(RETRY_AFTER)).await.is_none() {
                    return;
                }
                continue;
            }
            Err(Failure::Lasting(error)) => {
                tracing::error!(%error, "the ledger in PostgreSQL cannot be served");
                return;
            }
        };
        tracing::info!(epoch, "the ledger is served");
        leading.send_replace(Some((epoch, engine.clone())));
        let replaced = role.wait_for(|role| *role != Role::Leading { epoch });
        let end = tokio::select! {
            _ = replaced => End::Replaced,
            error = engine.stopped() => End::Stopped(error),
            () = drain.started() => End::Drained,
        };
        leading.send_replace(None);
        match end {
            End::Replaced => tracing::warn!(epoch, "the ledger is no longer served"),
            End::Stopped(error) => {
                tracing::error!(%error, epoch, "the ledger is read anew");
                // Whether that passes is found out before anybody is served.
                index_first = matches!(error, EngineError::Index(_));
                postgres.give_up(epoch);
                // Its release comes first, whoever takes the place after it.
                let _ = role.wait_for(|role| *role != Role::Leading { epoch }).await;
            }
            End::Drained => return engine.close().await,
        }
    }
}

/// Why an engine could not be started.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another one took over.
    Replaced,
    /// The server failed, or may have.
    Passing(String),
    /// What is stored is damaged or of somebody else.
    Lasting(String),
}

pub(super) async fn start(
    postgres: &Postgres,
    epoch: Epoch,
    index_first: bool,
) -> Result<Engine<PostgresIndex>, Failure> {
    let error = match postgres.begin(epoch, index_first).await {
        Ok(beginning) => {
            return Engine::start(beginning).map_err(|error| Failure::Passing(error.to_string()));
        }
        Err(error) => error,
    };
    let is_damage = matches!(
        error,
        RecoveryError::Journal(JournalError::Damaged { .. } | JournalError::Foreign(_))
            | RecoveryError::Ahead { .. }
            | RecoveryError::Index(mesh::StoreError::Corrupt(_))
    );
    // What is read while another one writes does not fit together, which says nothing of what is stored. It is asked
    // after all was read: if the epoch still is ours, nobody else wrote by then.
    if is_damage && postgres.is_led_in(epoch).await {
        return Err(Failure::Lasting(error.to_string()));
    }
    Err(Failure::Passing(error.to_string()))
}
