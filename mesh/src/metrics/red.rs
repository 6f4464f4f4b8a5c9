//! Rate, errors and duration of each RPC. A series is found by the RPC's place in the contract: nothing is
//! hashed, allocated or made up on the way of a request.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use opentelemetry::{KeyValue, global, metrics::Histogram as OtelHistogram};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, exemplar::HistogramWithExemplars, family::Family},
    registry::Registry,
};
use tonic::Code;

use crate::{policy::Rpc, telemetry};

/// Upper bounds in seconds: 50 µs to 10 s.
pub(crate) const BUCKETS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

/// Every code there is, in the order of its number.
pub(crate) const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcAndCode {
    rpc: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcAlone {
    rpc: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Example {
    trace_id: String,
}

type Durations = HistogramWithExemplars<Example>;

pub(super) struct Red {
    service: &'static str,
    requests: Family<RpcAndCode, Counter>,
    durations: Family<RpcAlone, Durations, fn() -> Durations>,
    otel_durations: OtelHistogram<f64>,
    /// By [`Rpc::index`]; the last is of what the contract does not have.
    series: Box<[Series]>,
}

/// What is known of one RPC, made when it is first answered, so that only what is seen is shown.
struct Series {
    rpc: &'static str,
    by_code: [OnceLock<Counter>; CODES.len()],
    duration: OnceLock<(Durations, [KeyValue; 2])>,
}

impl Red {
    pub(super) fn register(service: &'static str, registry: &mut Registry) -> Arc<Self> {
        let meter = global::meter(service);
        let otel_durations = meter
            .f64_histogram("rpc.server.duration")
            .with_unit("s")
            .with_boundaries(BUCKETS.to_vec())
            .build();
        let names = Rpc::all().map(Rpc::name).chain(["unknown"]);
        let red = Arc::new(Self {
            service,
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Durations::new(BUCKETS.into_iter())),
            otel_durations,
            series: names.map(Series::new).collect(),
        });
        registry.register("rpc_server_requests", "RPCs answered, by gRPC code", red.requests.clone());
        let help = "Time from request to answer";
        registry.register("rpc_server_duration_seconds", help, red.durations.clone());
        // Asked for when metrics are sent, so that counting a request is counting it once. The last time is
        // after the service has ended, so it must not go with the service.
        let counted = Arc::clone(&red);
        meter
            .u64_observable_counter("rpc.server.requests")
            .with_callback(move |observer| {
                for (value, attributes) in counted.counted() {
                    observer.observe(value, &attributes);
                }
            })
            .build();
        red
    }

    pub(super) fn answered(&self, rpc: Option<Rpc>, code: Code, took: Duration, trace_id: Option<u128>) {
        let unknown = self.series.len().saturating_sub(1);
        let Some(series) = self.series.get(rpc.map_or(unknown, Rpc::index)) else { return };
        let rpc = series.rpc;
        if let (Some(counter), Some((_, code))) =
            (series.by_code.get(code as usize), CODES.get(code as usize))
        {
            counter.get_or_init(|| self.requests.get_or_create_owned(&RpcAndCode { rpc, code })).inc();
        }
        let (duration, attributes) = series.duration.get_or_init(|| {
            let attributes =
                [KeyValue::new("rpc.method", rpc), KeyValue::new("paymesh.service", self.service)];
            (self.durations.get_or_create_owned(&RpcAlone { rpc }), attributes)
        });
        let example = trace_id.map(|trace_id| Example { trace_id: format!("{trace_id:032x}") });
        duration.observe(took.as_secs_f64(), example, None);
        if telemetry::is_exporting() {
            self.otel_durations.record(took.as_secs_f64(), attributes);
        }
    }

    /// Every count with what it counts.
    fn counted(&self) -> impl Iterator<Item = (u64, [KeyValue; 3])> + '_ {
        self.series.iter().flat_map(|series| {
            series.by_code.iter().zip(CODES).filter_map(|(counter, (_, code))| {
                let attributes = [
                    KeyValue::new("rpc.method", series.rpc),
                    KeyValue::new("paymesh.service", self.service),
                    KeyValue::new("rpc.grpc.status_code", code),
                ];
                Some((counter.get()?.get(), attributes))
            })
        })
    }
}

impl Series {
    fn new(rpc: &'static str) -> Self {
        Self { rpc, by_code: [const { OnceLock::new() }; CODES.len()], duration: OnceLock::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_stands_at_its_number() {
        for (number, (code, _)) in CODES.iter().enumerate() {
            assert_eq!(*code as usize, number);
        }
    }
}
