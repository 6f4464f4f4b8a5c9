//! Ties a log record that is sent over OTLP to the RPC that is being worked on, where no span does.

use opentelemetry::{
    Context, InstrumentationScope, SpanId, TraceFlags, TraceId,
    logs::{AnyValue, LogRecord as _},
    trace::TraceContextExt,
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    logs::{LogProcessor, SdkLogRecord},
};

use crate::scope;

/// Adds the scope's ids to each record. It comes before the processor that sends.
#[derive(Debug)]
pub(crate) struct ScopeIds;

impl LogProcessor for ScopeIds {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        let Some(scope) = scope::current().filter(|scope| !scope.has_span) else { return };
        let credential = scope.credential.as_deref().map(|credential| ("credential", credential));
        let fields = scope.fields().chain(credential);
        record.add_attributes(fields.map(|(name, value)| (name, AnyValue::from(value.to_owned()))));
        // The caller's span is the nearest that is known of; a span that a handler made of its own is nearer.
        if !Context::map_current(TraceContextExt::has_active_span) {
            let trace = scope.call.trace();
            let flags = if trace.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
            record.set_trace_context(TraceId::from(trace.trace_id), SpanId::from(trace.span_id), Some(flags));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}
