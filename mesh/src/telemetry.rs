//! Logs for people and machines; traces, metrics and the same logs over OTLP where an endpoint is configured.

use std::{
    io::IsTerminal as _,
    sync::atomic::{AtomicBool, AtomicU16, Ordering},
    time::Duration,
};

use opentelemetry::{
    global,
    trace::{
        SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
    },
};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    metrics::SdkMeterProvider,
    trace::{Sampler, SdkTracerProvider},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, FilterFn, LevelFilter},
    layer::SubscriberExt as _,
    reload,
    util::SubscriberInitExt as _,
};

use crate::{
    call::is_outside_request_id,
    log_filter::{Apply, LogFilter},
    log_format::WithScope,
    log_scope::ScopeIds,
    panic_guard,
    trace::TraceContext,
};

/// How to be seen from outside.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Which events are logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or `target=level`
    /// pairs, such as `info,mesh=debug`.
    pub log: String,
    /// The form of the log.
    pub format: LogFormat,
    /// Where an OpenTelemetry collector takes OTLP over gRPC. Without it nothing is exported.
    #[schemars(example = "http://127.0.0.1:4317")]
    pub otlp_endpoint: Option<String>,
    /// Of a thousand traces that start here, how many are recorded.
    #[schemars(range(max = 1000))]
    pub sample_per_mille: u16,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info".into(), format: LogFormat::Auto, otlp_endpoint: None, sample_per_mille: 1_000 }
    }
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter cannot be read.
    #[error("telemetry.log: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The exporter could not be made.
    #[error("telemetry.otlp_endpoint: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// A log is already being written by this process.
    #[error("telemetry: {0}")]
    Init(#[from] tracing_subscriber::util::TryInitError),
}

/// What is wrong with a configuration, without starting anything.
pub(crate) fn check(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    EnvFilter::try_new(&config.log)?;
    Ok(())
}

static EXPORTING: AtomicBool = AtomicBool::new(false);
static SAMPLE_PER_MILLE: AtomicU16 = AtomicU16::new(0);

/// A trace that begins here. Whether it is recorded is decided now, once for all hops.
pub fn start_trace(fresh: uuid::Uuid) -> TraceContext {
    // The last bytes of a UUIDv7 are random.
    let draw = fresh.as_u64_pair().1 % 1_000;
    let sampled = is_exporting() && draw < u64::from(SAMPLE_PER_MILLE.load(Ordering::Relaxed));
    TraceContext::start(fresh, sampled)
}

/// The trace of a request from outside: the one that its `traceparent` names, or a new one. Whether it is
/// recorded is decided here all the same: it is our cost. Ids that hold what could be a card number are not
/// taken over, as they go into every log.
pub fn trace_from_outside(header: Option<&str>, fresh: uuid::Uuid) -> TraceContext {
    let new = start_trace(fresh);
    let named =
        header.and_then(|header| TraceContext::parse(header).filter(|_| is_outside_request_id(header)));
    named.map_or(new, |named| TraceContext { sampled: new.sampled, ..named })
}

/// Whether traces and metrics are sent anywhere.
pub(crate) fn is_exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// Whether the spans of a trace go anywhere.
pub fn is_recorded(trace: TraceContext) -> bool {
    trace.sampled && is_exporting()
}

/// Keeps the exporters alive; flushes them when told.
#[derive(Default)]
pub struct Telemetry {
    tracer: Option<SdkTracerProvider>,
    meter: Option<SdkMeterProvider>,
    logger: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// Starts logging, and exporting where an endpoint is configured. Once per process, within a runtime.
    pub fn start(config: &TelemetryConfig, process: &'static str) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::try_new(&config.log)?;
        let pretty = match config.format {
            LogFormat::Auto => std::io::stderr().is_terminal(),
            LogFormat::Pretty => true,
            LogFormat::Json => false,
        };
        let writer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let log = if pretty {
            let writer = writer.with_target(false).compact().with_ansi(std::io::stderr().is_terminal());
            writer.map_event_format(WithScope::plain).boxed()
        } else {
            let writer = writer.json().flatten_event(true).with_current_span(true).with_span_list(false);
            writer.map_event_format(WithScope::json).boxed()
        };
        let telemetry = match &config.otlp_endpoint {
            Some(endpoint) => Self::exporting(config, endpoint, process)?,
            None => Self::default(),
        };
        let spans = telemetry
            .tracer
            .as_ref()
            .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(process)));
        // The log's filter is the log's alone: what is logged does not decide what is traced.
        let spans =
            spans.map(|layer| layer.with_filter(LevelFilter::INFO.and(FilterFn::new(shows_no_message))));
        let (filter, written) = reload::Layer::new(filter);
        let (sent_filter, sent) = reload::Layer::new(EnvFilter::try_new(&config.log)?);
        let logs = telemetry.logger.as_ref().map(OpenTelemetryTracingBridge::new);
        let is_sent = logs.is_some();
        let logs = logs.map(|layer| {
            layer.with_filter(
                sent_filter.and(FilterFn::new(|of| is_not_of_the_export(of) && shows_no_message(of))),
            )
        });
        tracing_subscriber::registry()
            .with(log.with_filter(filter.and(FilterFn::new(shows_no_message))))
            .with(spans)
            .with(logs)
            .try_init()?;
        let mut apply: Vec<Apply> = vec![Box::new(move |filter| written.reload(filter))];
        if is_sent {
            apply.push(Box::new(move |filter| sent.reload(filter)));
        }
        LogFilter::new(&config.log, apply).install();
        panic_guard::log_where_only();
        SAMPLE_PER_MILLE.store(config.sample_per_mille, Ordering::Relaxed);
        EXPORTING.store(telemetry.tracer.is_some(), Ordering::Relaxed);
        Ok(telemetry)
    }

    fn exporting(
        config: &TelemetryConfig,
        endpoint: &str,
        process: &'static str,
    ) -> Result<Self, TelemetryError> {
        let resource = Resource::builder().with_service_name(process).build();
        let spans =
            opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        #[allow(clippy::float_arithmetic)] // the exporter's own unit
        let ratio = f64::from(config.sample_per_mille.min(1_000)) / 1_000.0;
        let tracer = SdkTracerProvider::builder()
            .with_batch_exporter(spans)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
            .with_resource(resource.clone())
            .build();
        let metrics =
            opentelemetry_otlp::MetricExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let reader = opentelemetry_sdk::metrics::PeriodicReader::builder(metrics)
            .with_interval(Duration::from_secs(10))
            .build();
        let meter = SdkMeterProvider::builder().with_reader(reader).with_resource(resource.clone()).build();
        global::set_meter_provider(meter.clone());
        let logs = opentelemetry_otlp::LogExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let logger = SdkLoggerProvider::builder()
            .with_log_processor(ScopeIds)
            .with_batch_exporter(logs)
            .with_resource(resource)
            .build();
        Ok(Self { tracer: Some(tracer), meter: Some(meter), logger: Some(logger) })
    }

    /// Sends what is still held back. Blocks, so call it off the runtime's threads.
    pub fn flush(self) {
        let tracer = self.tracer.map(|provider| provider.shutdown());
        let meter = self.meter.map(|provider| provider.shutdown());
        let logger = self.logger.map(|provider| provider.shutdown());
        for error in [tracer, meter, logger].into_iter().flatten().filter_map(Result::err) {
            tracing::warn!(%error, "telemetry could not be flushed");
        }
    }
}

/// Whether an event may be sent: one about the sending itself would make another one for ever.
fn is_not_of_the_export(event: &tracing::Metadata<'_>) -> bool {
    const EXPORT: [&str; 5] = ["h2", "hyper", "hyper_util", "tonic", "tower"];
    let source = event.target().split("::").next().unwrap_or_default();
    // `opentelemetry_sdk`, `opentelemetry-otlp`, … name their events after themselves.
    !EXPORT.contains(&source) && !source.starts_with("opentelemetry")
}

/// Whether a line of the log may be shown at all: lapin logs the messages that come back to it, with their bodies.
pub fn shows_no_message(event: &tracing::Metadata<'_>) -> bool {
    event.target() != "lapin::returned_messages"
}

/// Makes the span a child of the caller's, in the same trace.
pub fn adopt(span: &Span, trace: TraceContext) {
    if !is_exporting() {
        return;
    }
    let flags = if trace.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace_id, span_id) = (TraceId::from(trace.trace_id), SpanId::from(trace.span_id));
    let remote = SpanContext::new(trace_id, span_id, flags, true, TraceState::default());
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(remote));
}

/// The trace context of the current span, where spans are exported.
pub(crate) fn current_trace() -> Option<TraceContext> {
    if !is_exporting() {
        return None;
    }
    let context = Span::current().context();
    let span = context.span();
    let current = span.span_context();
    current.is_valid().then(|| TraceContext {
        trace_id: u128::from_be_bytes(current.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(current.span_id().to_bytes()),
        sampled: current.is_sampled(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_from_outside_keeps_its_ids_and_decides_nothing() {
        let fresh = uuid::Uuid::from_u128(7);
        let of = |header| trace_from_outside(Some(header), fresh);
        let outside = of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(outside.to_string(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        for unfit in [
            "00-4242424242424242a448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-4242424242424242-01",
            "nonsense",
        ] {
            assert_eq!(of(unfit), start_trace(fresh), "{unfit}");
        }
        assert_eq!(trace_from_outside(None, fresh), start_trace(fresh));
    }
}
