//! AuditService: the audit log, listed and verified, for operators.

use std::sync::Arc;

use mesh::{Fault, Reason, SpiffeId, Violations, clock};
use money::Timestamp;
use paymesh_proto::crypto::v1::{self as proto, audit_service_server::AuditService};
use tokio::sync::{Semaphore, mpsc::error::TrySendError, watch};
use tonic::{Request, Response, Status};

use super::streams::{Messages, messages, send};
use crate::{
    audit::{READ_AT_ONCE, verify},
    domain::{
        algorithm::Verb,
        audit::{ChainKey, Chained, Entry, Filter, Link, Record, Subject},
        keys::KeyName,
    },
    store::AuditLog,
};

/// The most records that are looked at for one page of a list.
const LOOKED_AT_MAX: usize = 100 * READ_AT_ONCE;
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Answers AuditService.
pub struct AuditHandler<L> {
    log: L,
    key: ChainKey,
    /// The end of the log as this process knows it.
    end: watch::Receiver<Link>,
    /// One check at a time: each reads all there is.
    checking: Arc<Semaphore>,
}

impl<L: AuditLog> AuditHandler<L> {
    /// Reads `log`, whose hashes are made with `key`.
    pub fn new(log: L, key: ChainKey, end: watch::Receiver<Link>) -> Self {
        Self { log, key, end, checking: Arc::new(Semaphore::new(1)) }
    }
}

#[tonic::async_trait]
impl<L: AuditLog> AuditService for AuditHandler<L> {
    type VerifyAuditLogStream = Messages<proto::VerifyAuditLogResponse>;

    async fn verify_audit_log(
        &self,
        request: Request<proto::VerifyAuditLogRequest>,
    ) -> Result<Response<Self::VerifyAuditLogStream>, Status> {
        let mut violations = Violations::new();
        let asked = Some(&*request.get_ref().known_end).filter(|text| !text.is_empty());
        let asked = asked.and_then(|text| violations.check("known_end", text.parse::<Link>()));
        violations.finish()?;
        let turn = Arc::clone(&self.checking).try_acquire_owned().map_err(|_| {
            Fault::new(Reason::Overloaded, "The audit log is being verified already.").retry_after_s(5)
        })?;
        let known: Vec<Link> = asked.into_iter().chain([*self.end.borrow()]).collect();
        let (log, key) = (self.log.clone(), self.key.clone());
        let records_total = log.end(Link::START).await.map_err(Fault::from)?.sequence;
        Ok(Response::new(messages(move |answers| async move {
            let said = |end: Link| proto::VerifyAuditLogResponse {
                records: end.sequence,
                records_total: records_total.max(end.sequence),
                end: end.to_string(),
                ..Default::default()
            };
            // A reader that is slow is told less often, and does not hold the check up.
            let progress = |end| !matches!(answers.try_send(Ok(said(end))), Err(TrySendError::Closed(_)));
            let (end, offence) = verify(&log, key, known, progress).await.map_err(Fault::from)?;
            drop(turn);
            let offence = offence.map(|offence| offence.to_string()).unwrap_or_default();
            send(&answers, proto::VerifyAuditLogResponse { done: true, offence, ..said(end) }).await
        })))
    }

    async fn list_audit_records(
        &self,
        request: Request<proto::ListAuditRecordsRequest>,
    ) -> Result<Response<proto::ListAuditRecordsResponse>, Status> {
        let Asked { filter, size, mut after, from, until } = asked(request.get_ref())?;
        if let Some(from) = from {
            after = after.max(self.log.last_before(from).await.map_err(Fault::from)?);
        }
        let mut answer = proto::ListAuditRecordsResponse::default();
        let (mut looked_at, mut over) = (0, false);
        while !over && answer.records.len() < size && looked_at < LOOKED_AT_MAX {
            let found = self.log.records(after, READ_AT_ONCE).await.map_err(Fault::from)?;
            over = found.len() < READ_AT_ONCE;
            for found in found {
                // What cannot be read is the verification's concern.
                let readable = found.chained.as_ref();
                if readable.is_some_and(|chained| until.is_some_and(|until| chained.record.at >= until)) {
                    over = true;
                    break;
                }
                if answer.records.len() == size {
                    over = false;
                    break;
                }
                (after, looked_at) = (found.sequence, looked_at + 1);
                answer.records.extend(readable.filter(|chained| filter.matches(&chained.record)).map(record));
            }
        }
        if !over {
            answer.next_page_token = after.to_string();
        }
        Ok(Response::new(answer))
    }
}

/// What a request for a list asks for.
struct Asked {
    filter: Filter,
    size: usize,
    /// The record that the page before looked at last.
    after: u64,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

fn asked(request: &proto::ListAuditRecordsRequest) -> Result<Asked, Fault> {
    fn given<T>(
        violations: &mut Violations,
        field: &'static str,
        text: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if text.is_empty() { None } else { violations.check(field, read(text)) }
    }
    let mut violations = Violations::new();
    let unknown_verb = || "must be a verb of the audit log, such as encrypt or detokenize".to_owned();
    let filter = Filter {
        tenant: given(&mut violations, "tenant", &request.tenant, |text| {
            text.parse().map_err(|error: money::TenantError| error.to_string())
        }),
        key_name: given(&mut violations, "key_name", &request.key_name, |text| {
            KeyName::parse(text).map_err(|error| error.to_string())
        }),
        token: given(&mut violations, "token", &request.token, |text| {
            text.parse().map_err(|error: money::TokenError| error.to_string())
        }),
        verb: given(&mut violations, "verb", &request.verb, |text| {
            Verb::from_name(text).ok_or_else(unknown_verb)
        }),
        workload: given(&mut violations, "workload", &request.workload, |text| {
            SpiffeId::of(text).map_err(|_| "must be 1 to 63 characters of a-z, 0-9 and '-'".to_owned())
        }),
        refused: request.refused,
    };
    let after = given(&mut violations, "page_token", &request.page_token, |text| {
        text.parse().map_err(|_| "must be the next_page_token of an earlier answer".to_owned())
    });
    let [from, until] = [("from", &request.from), ("until", &request.until)].map(|(field, time)| {
        let read = clock::from_proto(time.as_ref()?).ok_or("must be a time in the years 1678 to 2261");
        violations.check(field, read)
    });
    let size = match usize::try_from(request.page_size) {
        Ok(0) => Some(PAGE_DEFAULT),
        Ok(size) => Some(size.min(PAGE_MAX)),
        Err(_) => violations.check("page_size", Err::<usize, _>("must not be negative")),
    };
    violations.finish()?;
    // Nothing was noted, so everything was read.
    Ok(Asked { filter, size: size.unwrap_or(PAGE_DEFAULT), after: after.unwrap_or(0), from, until })
}

fn record(chained: &Chained) -> proto::AuditRecord {
    let Record { sequence, at, entry: Entry { act, count, bytes } } = &chained.record;
    let (key_name, token) = match &act.subject {
        Subject::None => (String::new(), String::new()),
        Subject::Key(name) => (name.as_str().to_owned(), String::new()),
        Subject::Token(token) => (String::new(), token.to_string()),
    };
    proto::AuditRecord {
        sequence: *sequence,
        at: Some(clock::to_proto(*at)),
        workload: act.workload.name().to_owned(),
        tenant: act.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
        key_name,
        token,
        key_id: act.key.map(|key| key.id.to_string()).unwrap_or_default(),
        key_version: act.key.map_or(0, |key| key.version),
        verb: act.verb.as_str().to_owned(),
        reason: act.outcome.as_str().to_owned(),
        count: *count,
        bytes: *bytes,
        hash: chained.hash.to_vec().into(),
    }
}
