//! Decisions and commits: reads a payment, lets the domain decide, writes it down, and begins anew where somebody else
//! was faster.

use money::{PaymentId, TenantId, Timestamp};
use tokio::sync::{Mutex, MutexGuard};

use super::{Claim, Commit, CommitError, Committed, Store};
use crate::{
    answers,
    domain::payment::{Change, Payment, Rejection},
};

/// How often somebody else may be faster. In this process all but the newest stand in line, so those are newcomers, and
/// other replicas.
const TRIES: u32 = 64;
/// How many lines there are.
const LINES: usize = 256;

/// Where those stand in line who found that somebody else was faster. Nobody holds it while a processor is asked.
pub struct Lines(Vec<Mutex<()>>);

impl Default for Lines {
    fn default() -> Self {
        Self((0..LINES).map(|_| Mutex::default()).collect())
    }
}

impl Lines {
    async fn stand(&self, payment: PaymentId) -> Option<MutexGuard<'_, ()>> {
        // The tail of a UUIDv7 is random.
        let line = self.0.get(usize::from(payment.uuid().as_bytes()[15]) % LINES)?;
        Some(line.lock().await)
    }
}

/// What became of a mutating request.
#[derive(Debug, Clone)]
pub enum Begun {
    /// It is new, and this was written for it.
    New(Box<Done>),
    /// It was accepted before and is not answered.
    Underway {
        /// What it made or changes.
        subject: String,
    },
    /// It was answered with these bytes.
    Answered(Vec<u8>),
}

/// What a decision became.
#[derive(Debug, Clone)]
pub struct Done {
    /// What was written.
    pub change: Change,
    /// Whether the ledger still has to confirm something that it was told before.
    pub earlier_postings: bool,
}

/// Lets the domain begin something on a payment, together with the request's key.
pub async fn begin<S: Store>(
    store: &S,
    lines: &Lines,
    claim: Claim,
    id: PaymentId,
    now: Timestamp,
    decide: impl Fn(Payment) -> Result<Change, Rejection>,
) -> Result<Begun, CommitError> {
    let tenant = claim.scope.tenant.clone();
    let mut _in_line = None;
    for tried in 0..TRIES {
        if tried == 1 {
            _in_line = lines.stand(id).await;
        }
        let found = store.payment(tenant.clone(), id).await?;
        let change = match found.map(&decide) {
            Some(Ok(change)) => change,
            // An answer that was given stays the answer, whatever the payment has become since.
            refused => {
                return match store.find_claim(claim).await? {
                    Some(known) => Ok(known.into()),
                    None => {
                        Err(refused.and_then(Result::err).map_or(CommitError::PaymentNotFound, Into::into))
                    }
                };
            }
        };
        if let Some(begun) = commit(store, Some(claim.clone()), change, now).await? {
            return Ok(begun);
        }
    }
    Err(CommitError::Contended)
}

/// Writes a new payment down, together with its request's key.
pub async fn create<S: Store>(
    store: &S,
    claim: Claim,
    change: Change,
    now: Timestamp,
) -> Result<Begun, CommitError> {
    commit(store, Some(claim), change, now).await?.ok_or(CommitError::Contended)
}

/// Lets the domain change a payment. `read`: the payment as it was read before; if it is of another version by now, it
/// is read again.
pub async fn change<S: Store>(
    store: &S,
    lines: &Lines,
    read: Payment,
    now: Timestamp,
    decide: impl Fn(Payment) -> Result<Change, Rejection>,
) -> Result<Done, CommitError> {
    let (tenant, id): (TenantId, PaymentId) = (read.tenant.clone(), read.id);
    let mut payment = Some(read);
    let mut _in_line = None;
    for tried in 0..TRIES {
        if tried == 1 {
            _in_line = lines.stand(id).await;
        }
        let read = match payment.take() {
            Some(read) => read,
            None => store.payment(tenant.clone(), id).await?.ok_or(CommitError::PaymentNotFound)?,
        };
        // Without a claim there is nothing that could have been answered.
        if let Some(Begun::New(done)) = commit(store, None, decide(read)?, now).await? {
            return Ok(*done);
        }
    }
    Err(CommitError::Contended)
}

/// `None`: somebody else was faster.
async fn commit<S: Store>(
    store: &S,
    claim: Option<Claim>,
    mut change: Change,
    now: Timestamp,
) -> Result<Option<Begun>, CommitError> {
    change.payment.version += 1;
    let answers = answers::of(&change);
    let committed = store.commit(Commit { claim, change: change.clone(), answers }, now).await?;
    Ok(match committed {
        Committed::Contended => None,
        Committed::Done { earlier_postings } => Some(Begun::New(Box::new(Done { change, earlier_postings }))),
        Committed::Underway { subject } => Some(Begun::Underway { subject }),
        Committed::Answered(answer) => Some(Begun::Answered(answer)),
    })
}

impl From<super::Known> for Begun {
    fn from(known: super::Known) -> Self {
        match known {
            super::Known::Underway { subject } => Self::Underway { subject },
            super::Known::Answered(answer) => Self::Answered(answer),
        }
    }
}
