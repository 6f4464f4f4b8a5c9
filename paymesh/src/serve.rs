//! `paymesh serve`: one service in a process of its own.

use edge_gateway::Edge;
use mesh::{Service, StartError, run::serve_from_file};
use svc_crypto::Crypto;
use svc_fraud::Fraud;
use svc_ledger::Ledger;
use svc_payments::Payments;
use svc_tax::Tax;

use crate::{args::ServeArgs, dev::SERVICES};

/// Runs the service until it is told to stop.
pub fn serve(args: &ServeArgs) -> Result<(), StartError> {
    let config = args.config.as_path();
    match args.service.as_str() {
        Crypto::NAME => serve_from_file::<Crypto>(config),
        Ledger::NAME => serve_from_file::<Ledger>(config),
        Fraud::NAME => serve_from_file::<Fraud>(config),
        Tax::NAME => serve_from_file::<Tax>(config),
        Payments::NAME => serve_from_file::<Payments>(config),
        Edge::NAME => serve_from_file::<Edge>(config),
        other => {
            let text = format!("there is no service {other}; there are {}", SERVICES.join(", "));
            Err(StartError::Config(text))
        }
    }
}
