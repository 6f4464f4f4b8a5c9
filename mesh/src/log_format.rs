//! Adds the ids of the RPC that is being worked on to each line of the log, where no span has them.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::scope::{self, Scope};

/// A format whose lines carry the scope's ids.
pub(crate) struct WithScope<E> {
    inner: E,
    json: bool,
}

impl<E> WithScope<E> {
    /// A format of JSON objects, one a line.
    pub(crate) fn json(inner: E) -> Self {
        Self { inner, json: true }
    }

    /// A format of `name=value` lines.
    pub(crate) fn plain(inner: E) -> Self {
        Self { inner, json: false }
    }
}

impl<S, N, E> FormatEvent<S, N> for WithScope<E>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    E: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // The log's filter may have left the span out; and an object has the innermost one only.
        let is_its = |span: tracing_subscriber::registry::SpanRef<'_, S>| scope::SPANS.contains(&span.name());
        let shows_span = || {
            if self.json {
                context.lookup_current().is_some_and(is_its)
            } else {
                context.event_scope().is_some_and(|mut spans| spans.any(is_its))
            }
        };
        let Some(scope) = scope::current().filter(|scope| !(scope.has_span && shows_span())) else {
            return self.inner.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        // A span that a handler made of its own is what the inner format calls the span.
        let name = if context.lookup_current().is_some() { "within" } else { "span" };
        match line.strip_suffix('}').filter(|_| self.json) {
            Some(object) => write!(writer, "{object},\"{name}\":{}}}", AsJson(&scope))?,
            None => write!(writer, "{line}{}", AsText(&scope))?,
        }
        writer.write_char('\n')
    }
}

struct AsJson<'a>(&'a Scope);

impl fmt::Display for AsJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{\"name\":\"rpc\"")?;
        for (name, value) in self.0.fields() {
            write!(f, ",\"{name}\":\"{value}\"")?;
        }
        // Its name may be of an identity provider's making.
        if let Some(credential) = &self.0.credential {
            write!(f, ",\"credential\":{}", serde_json::Value::from(&**credential))?;
        }
        write!(f, ",\"trace_id\":\"{:032x}\"}}", self.0.call.trace().trace_id)
    }
}

struct AsText<'a>(&'a Scope);

impl fmt::Display for AsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.0.fields() {
            write!(f, " {name}={value}")?;
        }
        if let Some(credential) = &self.0.credential {
            write!(f, " credential={credential:?}")?;
        }
        write!(f, " trace_id={:032x}", self.0.call.trace().trace_id)
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::testing::{call_of, log::Lines};

    /// What was written by `work`, one string a line.
    fn lines_of(json: bool, work: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone()).with_ansi(false);
        if json {
            let layer = layer.json().flatten_event(true).map_event_format(WithScope::json);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        } else {
            let layer = layer.compact().map_event_format(WithScope::plain);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        }
        lines.read()
    }

    fn work() {
        tracing::info!("before");
        let (service, rpc) = ("svc-test", "a.B/C");
        let call = call_of("acme");
        let scope = |has_span| {
            let credential = Some("a \"name\"".into());
            Some(Scope { service, rpc: rpc.into(), call: call.clone(), credential, has_span })
        };
        let mut scoped = scope(false);
        scope::within(&mut scoped, || {
            tracing::info!(n = 1, "within");
            tracing::info_span!("own").in_scope(|| tracing::info!("in a span"));
        });
        let mut scoped = scope(true);
        scope::within(&mut scoped, || tracing::info!("its span was filtered out"));
        let span = tracing::info_span!("rpc", rpc, request_id = "of the span");
        scope::within(&mut scoped, || span.in_scope(|| tracing::info!("its span says it")));
    }

    #[test]
    fn lines_of_json_carry_the_ids_once() {
        let lines = lines_of(true, work);
        let lines: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[0].get("span").is_none());
        assert_eq!(lines[3]["span"]["request_id"].as_str().unwrap().len(), 32);
        assert_eq!(lines[4]["span"]["request_id"], "of the span");
        assert_eq!((&lines[1]["span"]["rpc"], &lines[1]["n"]), (&"a.B/C".into(), &1.into()));
        assert_eq!(lines[1]["span"]["tenant"], "acme");
        assert_eq!(lines[1]["span"]["credential"], "a \"name\"");
        assert_eq!(lines[1]["span"]["request_id"].as_str().unwrap().len(), 32);
        assert_eq!(lines[1]["span"]["trace_id"].as_str().unwrap().len(), 32);
        assert_eq!((&lines[2]["span"]["name"], &lines[2]["within"]["rpc"]), (&"own".into(), &"a.B/C".into()));
    }

    #[test]
    fn lines_of_text_carry_the_ids() {
        let lines = lines_of(false, work);
        assert_eq!(lines.len(), 5);
        let has = lines
            .iter()
            .map(|line| line.contains(" rpc=a.B/C request_id=") && line.contains("peer=operator"));
        assert_eq!(has.collect::<Vec<_>>(), [false, true, true, true, false]);
    }
}
