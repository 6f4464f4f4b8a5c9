//! svc-tax calculates the tax on a list of lines and keeps what it calculated.
//!
//! Map: [`domain`] holds the rates and the calculation, and is pure; [`store`] keeps calculations;
//! [`service`] is the gRPC face; [`config`] says which rates are used; `rates.toml` is the data.
//!
//! Promises:
//! - Tax is rounded once per category and rate, half away from zero (EN 16931); the lines' shares add up
//!   to it, and everything adds up to the total. No floats.
//! - A calculation is kept with the rates that it was made with: a later change of rates does not
//!   restate it.
//! - An answer leaves after it is on disk. With an idempotency key the first answer is given again.
//!
//! Not here: rates of regions, of counties and cities, and by kind of goods; reverse charge; the
//! numbering of documents.

pub mod config;
pub mod domain;
pub mod service;
pub mod store;

mod wire;

use mesh::{Parts, ServiceContext, StartError};
use paymesh_proto::tax::v1::tax_service_server::TaxServiceServer;

pub use config::Config;

/// The tax service.
pub struct Tax;

impl mesh::Service for Tax {
    const NAME: &'static str = "svc-tax";
    type Config = Config;

    fn check(config: &Config) -> Result<(), String> {
        config.rates().map(drop)
    }

    async fn build(config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
        let rates = config.rates().map_err(StartError::Config)?;
        let store = store::EmbeddedStore::open(&context.data_dir().join("tax.db"))?;
        let pruning = mesh::idempotency::pruning(store.engine(), context.clock(), context.drain());
        let api = service::TaxApi::new(store, rates, context.clock(), context.ids());
        Ok(Parts::new().serve(TaxServiceServer::new(api)).worker("idempotency pruning", pruning))
    }
}
