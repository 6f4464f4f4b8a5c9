//! `paymesh serve`: one service in a process of its own.

use edge_gateway::Edge;
use mesh::{Service, StartError, run::serve as run};
use svc_crypto::Crypto;
use svc_fraud::Fraud;
use svc_ledger::Ledger;
use svc_payments::Payments;
use svc_tax::Tax;

use crate::{args::ServeArgs, config, dev::SERVICES};

/// Runs the service until it is told to stop.
pub fn serve(args: &ServeArgs) -> Result<(), StartError> {
    if !SERVICES.contains(&args.service.as_str()) {
        return Err(unknown(&args.service));
    }
    let loaded = config::load(&args.config)?;
    match args.service.as_str() {
        Crypto::NAME => run::<Crypto>(&loaded),
        Ledger::NAME => run::<Ledger>(&loaded),
        Fraud::NAME => run::<Fraud>(&loaded),
        Tax::NAME => run::<Tax>(&loaded),
        Payments::NAME => run::<Payments>(&loaded),
        Edge::NAME => run::<Edge>(&loaded),
        other => Err(unknown(other)),
    }
}

fn unknown(service: &str) -> StartError {
    StartError::Config(format!("there is no service {service}; there are {}", SERVICES.join(", ")))
}
