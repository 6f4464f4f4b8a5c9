//! What a service that sends webhooks is configured with.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mesh::StartError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{address::AddressPolicy, url::CallPolicy};

/// Where the system keeps its authorities, as far as it has any.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How webhooks are sent to tenants' endpoints.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// How long it may take to resolve an endpoint's name, and then to connect to it, TLS included, in milliseconds.
    #[schemars(range(min = 1))]
    pub connect_timeout_ms: u64,
    /// How long an attempt may take in all, until the head of the answer has come, in milliseconds. An endpoint that
    /// takes longer is tried again.
    #[schemars(range(min = 1))]
    pub attempt_timeout_ms: u64,
    /// The most attempts at once.
    #[schemars(range(min = 1))]
    pub concurrency_max: u32,
    /// The most attempts to one endpoint at once, so that a slow one does not hold others up. For each replica.
    #[schemars(range(min = 1))]
    pub concurrency_per_endpoint_max: u32,
    /// Networks that may be called although they are not public, such as `10.20.0.0/16`. Every tenant can then have
    /// webhooks sent to every host there, on the allowed ports. Default: none.
    #[schemars(example = ["10.20.0.0/16"])]
    pub allowed_networks: Vec<String>,
    /// Whether hosts in `allowed_networks` may be called in clear (http). All others are called over https alone.
    pub http_allowed: bool,
    /// The ports that may be called.
    #[schemars(length(min = 1))]
    pub allowed_ports: Vec<u16>,
    /// The most endpoints of one tenant, disabled ones among them.
    #[schemars(range(min = 1))]
    pub endpoints_per_tenant_max: u32,
    /// An endpoint to which nothing could be delivered for so long is disabled when a delivery is given up, in seconds.
    #[schemars(range(min = 1))]
    pub disable_after_s: u32,
    /// How long a replaced secret signs along unless its owner says otherwise, in seconds; at most 30 days.
    #[schemars(range(min = 0, max = 2_592_000))]
    pub secret_overlap_s: u32,
    /// How often the store is asked for what is due although nothing is known to be, in milliseconds: finds what other
    /// replicas have left behind.
    #[schemars(range(min = 1))]
    pub poll_interval_ms: u64,
    /// The authorities that endpoints' certificates are checked against, PEM. Absent: those of the system,
    /// `/etc/ssl/certs/ca-certificates.crt`, if it has any.
    #[schemars(example = "/etc/ssl/certs/ca-certificates.crt")]
    pub authorities_file: Option<PathBuf>,
    /// Authorities that are trusted besides, PEM, such as one's own for endpoints in `allowed_networks`.
    #[schemars(example = "certs/internal-ca.pem")]
    pub extra_authorities_file: Option<PathBuf>,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 5_000,
            attempt_timeout_ms: 15_000,
            concurrency_max: 64,
            concurrency_per_endpoint_max: 4,
            allowed_networks: Vec::new(),
            http_allowed: false,
            allowed_ports: vec![443, 8443],
            endpoints_per_tenant_max: 16,
            disable_after_s: 5 * 86_400,
            secret_overlap_s: 86_400,
            poll_interval_ms: 10_000,
            authorities_file: None,
            extra_authorities_file: None,
        }
    }
}

impl WebhookConfig {
    /// What may be called. The error says which setting is wrong.
    pub fn call_policy(&self) -> Result<CallPolicy, StartError> {
        let addresses = AddressPolicy::new(&self.allowed_networks)
            .map_err(|error| StartError::Config(format!("webhooks.allowed_networks: each {error}")))?;
        Ok(CallPolicy { addresses, ports: self.allowed_ports.clone(), http_allowed: self.http_allowed })
    }

    /// The files of authorities that there are; without any nothing is sent over https.
    pub fn authorities(&self) -> impl Iterator<Item = &Path> {
        let system = Path::new(SYSTEM_AUTHORITIES);
        let own = self.authorities_file.as_deref().or_else(|| system.exists().then_some(system));
        own.into_iter().chain(self.extra_authorities_file.as_deref())
    }

    /// How long an attempt may take.
    pub const fn attempt_timeout(&self) -> Duration {
        Duration::from_millis(self.attempt_timeout_ms)
    }

    /// How long it may take to resolve, and to connect.
    pub const fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_network_is_told_by_its_setting() {
        let allowed_networks = vec!["10.0.0.0".into(), "secret".into()];
        let config = WebhookConfig { allowed_networks, ..WebhookConfig::default() };
        let error = config.call_policy().unwrap_err().to_string();
        assert!(error.contains("webhooks.allowed_networks") && !error.contains("secret"), "{error}");
        assert!(WebhookConfig::default().call_policy().is_ok());
    }

    #[test]
    fn ones_own_authorities_come_in_the_place_of_the_systems_or_beside_them() {
        let own = WebhookConfig {
            authorities_file: Some("a.pem".into()),
            extra_authorities_file: Some("b.pem".into()),
            ..WebhookConfig::default()
        };
        assert!(own.authorities().eq([Path::new("a.pem"), Path::new("b.pem")]));
        let beside = WebhookConfig { authorities_file: None, ..own };
        let system = Path::new(SYSTEM_AUTHORITIES);
        let expected = system.exists().then_some(system).into_iter().chain([Path::new("b.pem")]);
        assert!(beside.authorities().eq(expected));
    }

    #[test]
    fn settings_have_one_form() {
        let json = serde_json::to_value(WebhookConfig::default()).unwrap();
        let read: WebhookConfig = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), json);
        assert!(serde_json::from_str::<WebhookConfig>(r#"{"allow_all": true}"#).is_err());
    }
}
