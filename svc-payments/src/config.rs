//! The service's own configuration.

use std::{collections::BTreeMap, path::PathBuf};

use mesh::StartError;
use money::Currency;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{due::Terms, routing::Rule},
    processor::{ProcessorLimits, simulator},
    store::PostgresConfig,
};

const METHODS: [&str; 3] = ["CARD", "BANK_ACCOUNT", "WALLET"];

/// What svc-payments alone has.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where payments are kept when they are not in this service's own directory. With it, several replicas may run
    /// and all serve (docs/payments-postgres.md).
    pub postgres: Option<PostgresConfig>,
    /// What each processor may cost and when it is left alone, by its name. Absent: as it is by default.
    pub processors: BTreeMap<String, ProcessorLimits>,
    /// Which processors are asked for which payments: the first route that is for a payment decides. Absent: the
    /// simulator for all.
    pub routes: Vec<RouteConfig>,
    /// Up to this amount (minor units) a payment goes on when the fraud service cannot be reached; above
    /// it the payment waits until the service is back. 0: every payment waits.
    #[schemars(range(min = 0))]
    pub fraud_unavailable_allow_up_to: i64,
    /// How long a payment that was created without being confirmed waits for that before it expires, in seconds.
    #[schemars(range(min = 1))]
    pub unconfirmed_valid_s: u32,
    /// How long a payment waits for its payer to act (3-D Secure) before it expires, in seconds.
    #[schemars(range(min = 1))]
    pub action_valid_s: u32,
    /// How long a payment waits for its review before it expires, in seconds.
    #[schemars(range(min = 1))]
    pub review_valid_s: u32,
    /// How long an authorized payment waits for its capture before it expires, in seconds, where its processor does not
    /// say how long that is.
    #[schemars(range(min = 1))]
    pub authorization_valid_s: u32,
    /// How often work that is due is looked for, in milliseconds.
    #[schemars(range(min = 1))]
    pub work_interval_ms: u64,
    /// The most callers that watch payments' events at once; more are refused.
    #[schemars(range(min = 1))]
    pub watchers_max: usize,
    /// The most callers of one tenant that watch payments' events at once.
    #[schemars(range(min = 1))]
    pub watchers_per_tenant_max: usize,
    /// How long one caller may watch before its stream ends and it has to ask again, in milliseconds.
    #[schemars(range(min = 1))]
    pub watch_duration_max_ms: u64,
    /// A file with the secret that the simulator signs its webhooks with: `whsec_` and 24 to 64 bytes in
    /// base64. Absent: `simulator-webhook-secret` in the data directory, made at the first start.
    #[schemars(example = "secrets/simulator-webhook")]
    pub simulator_webhook_secret_file: Option<PathBuf>,
}

/// Payments that this is for go to these processors.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// Kinds of payment methods: CARD, BANK_ACCOUNT, WALLET. Absent: all.
    pub methods: Vec<String>,
    /// Currencies (ISO 4217). Absent: all.
    pub currencies: Vec<String>,
    /// Brands of cards or wallets, such as VISA. Absent: all.
    pub brands: Vec<String>,
    /// What a card's BIN begins with. Absent: all, also what has no BIN.
    pub bins: Vec<String>,
    /// The least amount, in minor units.
    pub amount_min: Option<i64>,
    /// The largest amount, in minor units.
    pub amount_max: Option<i64>,
    /// Where to: at least one. The others are asked, by chance and share, when the one that was chosen certainly did
    /// not take the payment on.
    pub to: Vec<ShareConfig>,
}

/// A processor's share of a route.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// The processor's name.
    pub processor: String,
    /// Its share, beside those of the others; 0: only when they cannot take a payment on. Default 1.
    #[serde(default = "one")]
    pub share: u32,
}

const fn one() -> u32 {
    1
}

impl Default for Config {
    fn default() -> Self {
        Self {
            postgres: None,
            processors: BTreeMap::new(),
            routes: Vec::new(),
            fraud_unavailable_allow_up_to: 0,
            unconfirmed_valid_s: 24 * 3_600,
            action_valid_s: 3_600,
            review_valid_s: 7 * 24 * 3_600,
            authorization_valid_s: 7 * 24 * 3_600,
            work_interval_ms: 500,
            watchers_max: 4_096,
            watchers_per_tenant_max: 512,
            watch_duration_max_ms: 3_600_000,
            simulator_webhook_secret_file: None,
        }
    }
}

impl Config {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// Where a route leads to no processor, or to one of those that are not set up; or has a currency that is none.
    pub(crate) fn check(&self, processors: &[&str]) -> Result<(), StartError> {
        for (number, route) in self.routes.iter().enumerate() {
            let wrong = |what: &str| Err(StartError::Config(format!("svc-payments.routes[{number}].{what}")));
            if route.to.is_empty() {
                return wrong("to: must name at least one processor");
            }
            if let Some(unknown) = route.to.iter().find(|to| !processors.contains(&to.processor.as_str())) {
                let known = processors.join(", ");
                return wrong(&format!(
                    "to: there is no processor {}; there are: {known}",
                    unknown.processor
                ));
            }
            if route.currencies.iter().any(|code| code.parse::<Currency>().is_err()) {
                return wrong("currencies: must be codes of ISO 4217, such as EUR");
            }
            if route.methods.iter().any(|name| !METHODS.contains(&name.as_str())) {
                return wrong("methods: must be CARD, BANK_ACCOUNT or WALLET");
            }
        }
        if let Some(unknown) = self.processors.keys().find(|name| !processors.contains(&name.as_str())) {
            let known = processors.join(", ");
            let text =
                format!("svc-payments.processors: there is no processor {unknown}; there are: {known}");
            return Err(StartError::Config(text));
        }
        Ok(())
    }

    /// The routes; without any, the simulator takes all.
    pub(crate) fn routes(&self) -> Vec<Rule> {
        if self.routes.is_empty() {
            return vec![Rule { to: vec![(simulator::NAME.to_owned(), 1)], ..Rule::default() }];
        }
        let rule = |route: &RouteConfig| Rule {
            methods: route.methods.clone(),
            currencies: route.currencies.iter().filter_map(|code| code.parse().ok()).collect(),
            brands: route.brands.clone(),
            bins: route.bins.clone(),
            amount_min: route.amount_min,
            amount_max: route.amount_max,
            to: route.to.iter().map(|to| (to.processor.clone(), to.share)).collect(),
        };
        self.routes.iter().map(rule).collect()
    }

    /// How long payments wait.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            unconfirmed_s: self.unconfirmed_valid_s.into(),
            action_s: self.action_valid_s.into(),
            review_s: self.review_valid_s.into(),
            authorized_s: self.authorization_valid_s.into(),
        }
    }
}
