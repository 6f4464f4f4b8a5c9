//! svc-payments: takes a payment from a request to a durable, balanced posting, and back.
//!
//! Promises: a payment is on disk before anyone acts on it; a processor call is idempotent by our own
//! reference; an outcome that is not known is a state that is asked about until it settles; captured ≤
//! authorized and refunded ≤ captured under any concurrency; the same key and request get the same
//! answer, also after a crash.
//!
//! Map: [`domain`] decides (pure), [`store`] writes down, [`driver`] asks the other services and the
//! processor, `worker` takes up what a crash or silence left behind, [`service`] speaks gRPC, [`watch`]
//! streams a payment's events, [`webhooks`] hears processors.

mod answers;
pub mod clients;
pub mod config;
pub mod convert;
pub mod domain;
pub mod driver;
pub mod processor;
pub mod service;
pub mod store;
pub mod watch;
pub mod watchers;
pub mod webhooks;

mod under_way;
mod validate;
mod worker;

use std::sync::Arc;

use mesh::{Parts, Service, ServiceContext, StartError};
use paymesh_proto::payments::v1::{
    payment_service_server::PaymentServiceServer, webhook_service_server::WebhookServiceServer,
};

use ::webhooks::WebhookSecret;

use crate::{
    clients::Clients,
    config::Config,
    driver::Driver,
    processor::{Processor, Processors, simulator::Simulator},
    service::Payments as Handlers,
    store::{EmbeddedStore, PostgresConfig, PostgresStore, Store},
    webhooks::Webhooks,
};

/// The services that a payment goes through.
const UPSTREAMS: [&str; 4] = ["svc-crypto", "svc-fraud", "svc-ledger", "svc-tax"];

/// The payments service.
pub struct Payments;

impl Service for Payments {
    const NAME: &'static str = "svc-payments";
    type Config = Config;

    fn upstreams(_: &Config) -> Vec<String> {
        UPSTREAMS.map(str::to_owned).into()
    }

    fn check(config: &Config) -> Result<(), String> {
        config.postgres.as_ref().map_or(Ok(()), PostgresConfig::check)
    }

    async fn build(config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
        let (clock, drain) = (context.clock(), context.drain());
        let Some(postgres) = &config.postgres else {
            let store = EmbeddedStore::open(&context.data_dir().join("payments.db"))?;
            let pruning = mesh::idempotency::pruning(store.engine(), clock, drain);
            let parts = Box::pin(serve(store, config, context)).await?;
            return Ok(parts.worker("idempotency pruning", pruning));
        };
        let store = PostgresStore::open(postgres).await?;
        let pruned = store.clone();
        let prune = move |now| {
            let store = pruned.clone();
            async move { store.prune(now).await }
        };
        let pruning = mesh::idempotency::pruning_with(prune, clock, drain);
        let parts = Box::pin(serve(store, config, context)).await?;
        Ok(parts.worker("idempotency pruning", pruning))
    }
}

/// What is the same for every store.
async fn serve<S: Store>(store: S, config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
    // Where no other process can have anything under way, the background takes up everything.
    store.make_all_due(context.clock().now()).await?;
    let secret = match &config.simulator_webhook_secret_file {
        Some(path) => WebhookSecret::read(path)?,
        None => WebhookSecret::read_or_make(&context.data_dir().join("simulator-webhook-secret"))?,
    };
    let simulator =
        Simulator::open(&context.data_dir().join("simulator.db"), context.clock())?.with_webhooks(secret);
    let [crypto, fraud, ledger, tax] = UPSTREAMS;
    let clients = Clients::new(
        context.upstream(crypto)?,
        context.upstream(fraud)?,
        context.upstream(ledger)?,
        context.upstream(tax)?,
    );
    let identity = context.identity().clone();
    let (clock, ids) = (context.clock(), context.ids());
    let processors: [Arc<dyn Processor>; 1] = [Arc::new(simulator)];
    config.check(&processors.each_ref().map(|processor| processor.name()))?;
    let limits = |name: &str| config.processors.get(name).cloned().unwrap_or_default();
    let processors = Processors::new(processors.map(|processor| {
        let limits = limits(processor.name());
        (processor, limits)
    }));
    let driver = Driver::new(store, clients, processors, clock, ids, identity, config);
    let background = worker::run(Arc::clone(&driver), context.drain());
    Ok(Parts::new()
        .serve(PaymentServiceServer::new(Handlers::new(Arc::clone(&driver))))
        .serve(WebhookServiceServer::new(Webhooks::new(driver)))
        .worker("due work", background))
}
