//! `/readyz`: whether every service that requests need says SERVING (grpc.health.v1).

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
    upstreams: BTreeMap<Arc<str>, Upstream>,
    drain: Drain,
    latest: Mutex<Option<(Instant, Report)>>,
}

impl Readiness {
    pub(crate) fn new(upstreams: BTreeMap<Arc<str>, Upstream>, drain: Drain) -> Self {
        Self { upstreams, drain, latest: Mutex::new(None) }
    }

    /// Asks every service, unless that was done just now.
    pub(crate) async fn report(&self, call: &Call) -> Report {
        if self.drain.has_started() {
            return Report { status: "draining", not_serving: Vec::new() };
        }
        // Held across the question on purpose: one question answers all who wait.
        let mut latest = self.latest.lock().await;
        if let Some((at, report)) = &*latest
            && at.elapsed() < CACHED_FOR
        {
            return report.clone();
        }
        let report = self.ask(call).await;
        *latest = Some((Instant::now(), report.clone()));
        report
    }

    async fn ask(&self, call: &Call) -> Report {
        let mut checks = JoinSet::new();
        for (service, upstream) in &self.upstreams {
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
}
