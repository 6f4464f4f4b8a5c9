//! The edge as a service of the mesh.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mesh::{Parts, Service, ServiceContext, StartError, Upstream};

use crate::{
    auth::{self, Authenticator, ScopeTable},
    config::EdgeConfig,
    face::Face,
    gateway::{Gateway, Limits, grpc_web::GrpcWeb},
    limits::Limiter,
    metrics::EdgeMetrics,
    openapi,
    readiness::Readiness,
    server::{self, Patience, Server},
    stream::Streams,
    transcode::{Segment, Transcoder},
};

/// REST in, gRPC out.
///
/// Its HTTP port is its own (`listen`, or an already bound `listener`); its RPC port has only health,
/// and the admin port is that of every service.
#[derive(Debug)]
pub struct Edge;

impl Service for Edge {
    const NAME: &'static str = "edge-gateway";
    type Config = EdgeConfig;

    fn check(config: &EdgeConfig) -> Result<(), String> {
        auth::check(&config.api_keys, &config.auth).map_err(|error| error.to_string())
    }

    fn upstreams(config: &EdgeConfig) -> Vec<String> {
        // An API that cannot be read is no matter of configuration: `build` says so.
        let api = Transcoder::new(&paymesh_proto::descriptor_pool());
        let led_to = api.map(|api| api.upstreams().into_iter().map(|name| name.to_string()).collect());
        let mut all: BTreeSet<String> = led_to.unwrap_or_default();
        all.extend(config.ready_services.iter().cloned());
        all.into_iter().collect()
    }

    async fn build(config: EdgeConfig, context: &ServiceContext) -> Result<Parts, StartError> {
        let api = Transcoder::new(&paymesh_proto::descriptor_pool())
            .map_err(|error| StartError::Config(format!("the API: {error}")))?;
        let authenticator = Authenticator::load(&config.api_keys, &config.auth, context)?;
        let scopes = ScopeTable::of(&api).map_err(|error| StartError::Config(format!("the API: {error}")))?;
        let credentials = authenticator.workers(context);
        let mut upstreams = BTreeMap::new();
        for name in api.upstreams() {
            let upstream = context.upstream(&name)?;
            upstreams.insert(name, upstream);
        }
        let mut streaming_upstreams = BTreeMap::new();
        for route in api.routes().iter().filter(|route| route.streaming) {
            if !streaming_upstreams.contains_key(&route.upstream) {
                let upstream = context.upstream_for_streams(&route.upstream, config.streams_max)?;
                streaming_upstreams.insert(Arc::clone(&route.upstream), upstream);
            }
        }
        let mut needed: BTreeMap<Arc<str>, Upstream> = upstreams.clone();
        for name in &config.ready_services {
            if !needed.contains_key(name.as_str()) {
                needed.insert(name.as_str().into(), context.upstream(name)?);
            }
        }
        let listener = match config.listener {
            Some(listener) => listener,
            None => mesh::server::bind(config.listen)
                .map_err(StartError::io(format!("the edge's address {}", config.listen)))?,
        };
        let address = listener.local_addr().map_err(StartError::io("the edge's address"))?;
        let first_segments = api.routes().iter().filter_map(|route| match route.template.segments.first() {
            Some(Segment::Literal(text)) => Some(text.clone()),
            _ => None,
        });
        let header_timeout = Duration::from_millis(config.header_timeout_ms);
        let stream_duration_max = Duration::from_millis(config.stream_duration_max_ms);
        let limiter = Limiter::new(&config.limits, context.metrics())?;
        let rpcs = api.routes().iter().map(|route| (&route.rpc, &route.descriptor));
        let face = Face::new(&config.http, rpcs)?;
        let gateway = Gateway {
            guarded: first_segments.collect(),
            openapi: openapi::document(&api).into(),
            readiness: Readiness::new(needed, context.drain()),
            metrics: EdgeMetrics::new(context.metrics()),
            clock: context.clock(),
            ids: context.ids(),
            identity: context.identity().clone(),
            limits: Limits {
                request_timeout: Duration::from_millis(config.request_timeout_ms),
                body_bytes_max: config.body_bytes_max,
                in_flight_max: config.in_flight_max,
                body_rate_min: config.patience.body_rate_min,
                body_grace: header_timeout,
            },
            limiter,
            face,
            grpc_web: GrpcWeb::new(config.http.grpc_web, &api),
            no_rpc: "none".into(),
            streams: Streams::new(
                config.streams_max,
                stream_duration_max,
                Duration::from_millis(config.stream_heartbeat_ms),
                context.drain(),
            ),
            api: Arc::new(api),
            upstreams,
            streaming_upstreams,
            authenticator,
            scopes,
        };
        let per_address_max = config.limits.connections_per_address_max;
        let patience = Patience::new(header_timeout, per_address_max, stream_duration_max, &config.patience);
        let server = Server::new(Arc::new(gateway), patience);
        let mut parts = Parts::new();
        let mut certificate = None;
        if let Some(tls) = &config.https {
            let watched = server::tls::load(tls, context.clock())?;
            let every = Duration::from_secs(tls.reload_s.max(1));
            parts = parts.worker("certificate", watched.clone().keep(every, context.drain()));
            certificate = Some(watched);
            if let Some(address) = tls.plain_listen {
                let listener = mesh::server::bind(address)
                    .map_err(StartError::io(format!("the edge's address {address}")))?;
                let serving =
                    Arc::clone(&server).serve(listener, None, tls.plain_connections_max, context.drain());
                parts = parts.worker("http-plain", serving);
            }
        }
        tracing::info!(%address, tls = certificate.is_some(), "the edge takes HTTP requests");
        Ok(parts
            .worker("credentials", credentials)
            .worker("http", server.serve(listener, certificate, config.connections_max, context.drain())))
    }
}
