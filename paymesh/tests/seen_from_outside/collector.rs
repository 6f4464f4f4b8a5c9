//! An OpenTelemetry collector that keeps everything: the OTLP services over gRPC, in this process.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value},
    logs::v1::LogRecord,
    metrics::v1::metric,
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// What has arrived.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Received>>);

#[derive(Default)]
struct Received {
    traces: Vec<ExportTraceServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
    logs: Vec<ExportLogsServiceRequest>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().traces.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.lock().unwrap().metrics.push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.0.lock().unwrap().logs.push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

impl Collector {
    /// Starts it on a free port; returns its endpoint.
    pub(crate) async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .add_service(MetricsServiceServer::new(self.clone()))
            .add_service(LogsServiceServer::new(self.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        endpoint
    }

    /// Everything as it came over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let received = self.0.lock().unwrap();
        let traces = received.traces.iter().flat_map(prost::Message::encode_to_vec);
        let metrics = received.metrics.iter().flat_map(prost::Message::encode_to_vec);
        let logs = received.logs.iter().flat_map(prost::Message::encode_to_vec);
        traces.chain(metrics).chain(logs).collect()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let received = self.0.lock().unwrap();
        let resources = received.traces.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    pub(crate) fn logs(&self) -> Vec<LogRecord> {
        let received = self.0.lock().unwrap();
        let resources = received.logs.iter().flat_map(|request| &request.resource_logs);
        let scopes = resources.flat_map(|resource| &resource.scope_logs);
        scopes.flat_map(|scope| scope.log_records.clone()).collect()
    }

    /// The services that a sum of this name has a point of.
    pub(crate) fn counted(&self, name: &str) -> Vec<String> {
        let received = self.0.lock().unwrap();
        let resources = received.metrics.iter().flat_map(|request| &request.resource_metrics);
        let metrics = resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
        let mut services: Vec<String> = metrics
            .filter(|metric| metric.name == name)
            .filter_map(|metric| match &metric.data {
                Some(metric::Data::Sum(sum)) => Some(&sum.data_points),
                _ => None,
            })
            .flatten()
            .filter_map(|point| attribute(&point.attributes, "paymesh.service"))
            .collect();
        services.sort();
        services.dedup();
        services
    }
}

/// The service that a span is of; empty for the edge.
pub(crate) fn service_of(span: &Span) -> String {
    attribute(&span.attributes, "service").unwrap_or_default()
}

/// A text among the attributes.
fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
    match value.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}
