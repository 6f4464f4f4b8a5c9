//! `/readyz`: whether every service that requests need says SERVING (grpc.health.v1). The connections that
//! streams have of their own are not asked: a service is ready or not, whichever way it is reached.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh::{Call, Drain, Upstream};
use serde::Serialize;
use tokio::{sync::Mutex, task::JoinSet};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// A service that has not answered by then is not ready.
const CHECK_DEADLINE: Duration = Duration::from_secs(1);
/// An answer this young is given again: probes from outside cannot be multiplied into the mesh.
const CACHED_FOR: Duration = Duration::from_millis(200);

/// The body of the answer.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) status: &'static str,
    /// Those that are not serving.
    pub(crate) not_serving: Vec<NotServing>,
}

/// A service that is not ready.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub(crate) struct NotServing {
    pub(crate) service: String,
    pub(crate) status: &'static str,
}

impl Report {
    pub(crate) fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}

/// Asks the services.
pub(crate) struct Readiness {
    upstreams: Arc<BTreeMap<Arc<str>, Upstream>>,
    drain: Drain,
    latest: Arc<Mutex<Option<(Instant, Report)>>>,
}

impl Readiness {
    pub(crate) fn new(upstreams: BTreeMap<Arc<str>, Upstream>, drain: Drain) -> Self {
        Self { upstreams: Arc::new(upstreams), drain, latest: Arc::default() }
    }

    /// Asks every service, unless that was done just now.
    pub(crate) async fn report(&self, call: &Call) -> Report {
        if self.drain.has_started() {
            return Report { status: "draining", not_serving: Vec::new() };
        }
        // Held across the question on purpose: one question answers all who wait.
        let mut latest = Arc::clone(&self.latest).lock_owned().await;
        if let Some((at, report)) = &*latest
            && at.elapsed() < CACHED_FOR
        {
            return report.clone();
        }
        let (upstreams, call) = (Arc::clone(&self.upstreams), call.clone());
        // A task of its own: who asks and goes away at once has still asked, and the answer is kept.
        let asking = tokio::spawn(async move {
            let report = ask(&upstreams, &call).await;
            *latest = Some((Instant::now(), report.clone()));
            report
        });
        asking.await.unwrap_or_else(|_| Report { status: "not ready", not_serving: Vec::new() })
    }
}

async fn ask(upstreams: &BTreeMap<Arc<str>, Upstream>, call: &Call) -> Report {
    let mut checks = JoinSet::new();
    for (service, upstream) in upstreams {
        let (service, upstream) = (Arc::clone(service), upstream.clone());
        let request = call.request(HealthCheckRequest { service: String::new() });
        checks.spawn(async move {
            let answer =
                tokio::time::timeout(CHECK_DEADLINE, HealthClient::new(upstream).check(request)).await;
            let status = match answer {
                Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => return None,
                Ok(Ok(_)) => "NOT_SERVING",
                Ok(Err(_)) => "UNREACHABLE",
                Err(_) => "TIMEOUT",
            };
            Some(NotServing { service: service.to_string(), status })
        });
    }
    let mut not_serving: Vec<NotServing> = checks.join_all().await.into_iter().flatten().collect();
    not_serving.sort_by(|left, right| left.service.cmp(&right.service));
    let status = if not_serving.is_empty() { "ready" } else { "not ready" };
    Report { status, not_serving }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use mesh::{Harness, Origin, SpiffeId, TraceContext, tls::Identity};

    use super::*;

    /// Otherwise every such request would have all services asked again.
    #[tokio::test]
    async fn the_answer_is_kept_also_when_who_asked_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let harness = Harness::new(dir.path()).unwrap();
        let identity = Identity::load(&harness.certificate("edge-gateway").unwrap()).unwrap();
        let peer = SpiffeId::of("svc-tax").unwrap();
        // It takes the connection and says nothing.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let upstream = Upstream::new(&identity, &peer, &address).unwrap();
        let readiness = Readiness::new([("svc-tax".into(), upstream)].into(), Drain::new());
        let call = Call::start(Origin {
            peer,
            tenant: None,
            request_id: "r".into(),
            trace: TraceContext { trace_id: 1, span_id: 1, sampled: false },
            deadline: None,
            idempotency_key: None,
        });
        {
            let asked = std::pin::pin!(readiness.report(&call));
            assert!(asked.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let waiting = async {
            while readiness.latest.lock().await.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(CHECK_DEADLINE * 10, waiting).await.unwrap();
        assert!(!readiness.report(&call).await.is_ready());
    }
}
