//! RootService: which root of trust is in use, wrapping keys under another, and shares, for operators.

use std::sync::{Arc, OnceLock};

use mesh::{Call, Fault, Reason};
use paymesh_proto::crypto::v1::{self as proto, root_service_server::RootService};
use tokio::sync::{Semaphore, mpsc::error::TrySendError};
use tonic::{Request, Response, Status};

use super::streams::{Messages, messages, send};
use crate::{
    audit::{Recorder, outcome_of},
    domain::{
        algorithm::Verb,
        audit::{Act, Entry, Outcome, Subject},
        shares::{Share, ShareError},
    },
    opening::sealed,
    root::{RootError, Roots},
    rotation::{self, Progress, RotationError},
    store::Store,
};

/// The most acts that wait to be put on record until the vault is open. Equal ones in a row are one.
const WAITING_MAX: usize = 256;

/// The audit log, once the vault is open. Until then acts wait in memory, as the log's key is not known.
#[derive(Default)]
pub struct LaterRecorder {
    recorder: OnceLock<Recorder>,
    waiting: std::sync::Mutex<Vec<Entry>>,
}

impl LaterRecorder {
    /// The vault is open: what waited is put on record.
    pub async fn open(&self, recorder: Recorder) -> Result<(), Fault> {
        let waiting = {
            let mut waiting = self.waiting();
            let _ = self.recorder.set(recorder.clone());
            std::mem::take(&mut *waiting)
        };
        recorder.submit(waiting).await
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn submit(&self, entry: Entry) -> Result<(), Fault> {
        let recorder = {
            let mut waiting = self.waiting();
            let Some(recorder) = self.recorder.get() else {
                let room = waiting.len() < WAITING_MAX;
                match waiting.last_mut().filter(|last| last.act == entry.act) {
                    Some(last) => last.count = last.count.saturating_add(entry.count),
                    None if room => waiting.push(entry),
                    None => return Err(sealed()),
                }
                return Ok(());
            };
            recorder.clone()
        };
        recorder.submit(entry).await
    }
}

/// Answers RootService.
pub struct RootHandler<S> {
    store: S,
    roots: Roots,
    recorder: Arc<LaterRecorder>,
    /// One rotation at a time: a second would find nothing to do, and double what the root is asked.
    rotating: Arc<Semaphore>,
}

impl<S: Store> RootHandler<S> {
    /// For the keys of `store` under `roots`. What is done goes to `recorder`.
    pub fn new(store: S, roots: Roots, recorder: Arc<LaterRecorder>) -> Self {
        Self { store, roots, recorder, rotating: Arc::new(Semaphore::new(1)) }
    }
}

fn entry(call: &Call, verb: Verb, outcome: Outcome, count: u32) -> Entry {
    let act =
        Act { workload: call.peer().clone(), tenant: None, subject: Subject::None, key: None, verb, outcome };
    Entry { act, count, bytes: 0 }
}

impl From<RotationError> for Fault {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Store(error) => error.into(),
            RotationError::Root(error @ RootError::NotOnRecord(_)) => {
                tracing::error!(%error, "keys are not wrapped anew here");
                Self::new(
                    Reason::Conflict,
                    "Another root of trust took the place of this replica's: configure that one, and restart.",
                )
            }
            RotationError::Root(error) => error.into(),
            RotationError::Damaged { .. } => {
                let said = format!("{error}; the log names them. All others are wrapped anew.");
                Self::new(Reason::Internal, said)
            }
            RotationError::Contended => Self::new(
                Reason::Conflict,
                "Keys are wrapped under another root meanwhile, as by a replica with another configuration; try again.",
            ),
            other @ RotationError::Random(_) => {
                tracing::error!(error = %other, "keys could not be wrapped anew");
                Self::new(Reason::Internal, "The service could not use its keys.")
            }
        }
    }
}

fn share_fault(error: ShareError) -> Fault {
    Fault::invalid("share", error.to_string())
}

#[tonic::async_trait]
impl<S: Store> RootService for RootHandler<S> {
    type RotateRootStream = Messages<proto::RotateRootResponse>;

    async fn get_root_status(
        &self,
        _: Request<proto::GetRootStatusRequest>,
    ) -> Result<Response<proto::RootStatus>, Status> {
        let record = self.store.root().await.map_err(Fault::from)?;
        let census = rotation::census(&self.store).await.map_err(Fault::from)?;
        let current = self.roots.current();
        Ok(Response::new(proto::RootStatus {
            sealed: self.recorder.recorder.get().is_none(),
            current: current.to_string(),
            previous: self.roots.previous().map(ToString::to_string).unwrap_or_default(),
            previous_needed: rotation::needs_another(record, &census, current.id()),
            answers: self.roots.answers(),
            wrapped: census
                .into_iter()
                .map(|(stamp, keys)| {
                    let (root, version) =
                        stamp.map(|stamp| (stamp.root.to_string(), stamp.version)).unwrap_or_default();
                    proto::root_status::Wrapped { root, version, keys }
                })
                .collect(),
        }))
    }

    async fn rotate_root(
        &self,
        request: Request<proto::RotateRootRequest>,
    ) -> Result<Response<Self::RotateRootStream>, Status> {
        let call = Call::of(&request)?;
        let recorder = self.recorder.recorder.get().cloned().ok_or_else(sealed)?;
        let turn = Arc::clone(&self.rotating).try_acquire_owned().map_err(|_| {
            Fault::new(Reason::Overloaded, "Keys are being wrapped anew already.").retry_after_s(5)
        })?;
        let (store, roots) = (self.store.clone(), self.roots.clone());
        Ok(Response::new(messages(move |answers| async move {
            let said = |progress: &Progress| proto::RotateRootResponse {
                keys: progress.keys,
                keys_total: progress.keys_total,
                rewrapped: progress.rewrapped,
                done: false,
                under: progress.under.to_string(),
            };
            // A reader that is slow is told less often, and does not hold it up.
            let progress = |progress: &Progress| {
                !matches!(answers.try_send(Ok(said(progress))), Err(TrySendError::Closed(_)))
            };
            recorder.submit(entry(&call, Verb::RotateRoot, Outcome::Done, 1)).await?;
            let rotated = rotation::rotate(&store, &roots, progress).await.map_err(Fault::from);
            drop(turn);
            if rotated.is_err() {
                recorder.submit(entry(&call, Verb::RotateRoot, outcome_of(&rotated), 1)).await?;
            }
            let done = rotated?;
            tracing::warn!(under = %done.under, rewrapped = done.rewrapped, "keys were wrapped under the root in use");
            send(&answers, proto::RotateRootResponse { done: true, ..said(&done) }).await
        })))
    }

    async fn unseal(
        &self,
        request: Request<proto::UnsealRequest>,
    ) -> Result<Response<proto::UnsealResponse>, Status> {
        let call = Call::of(&request)?;
        let given = Share::parse(&request.get_ref().share).and_then(|share| self.roots.give(share));
        let given = given.map_err(share_fault);
        self.recorder.submit(entry(&call, Verb::Unseal, outcome_of(&given), 1)).await?;
        let given = given?;
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let (needed, unsealed) = (count(given.needed), given.unsealed);
        Ok(Response::new(proto::UnsealResponse { given: count(given.given), needed, unsealed }))
    }
}
