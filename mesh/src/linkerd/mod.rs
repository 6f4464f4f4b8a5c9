//! Beside a Linkerd proxy: it does mutual TLS, we speak HTTP/2 in clear with it and believe what it says of
//! the caller. TLS of our own inside it would be opaque to it: no identity, no metrics, no retries.
//!
//! Who calls is in the header `l5d-client-id`. The inbound proxy sets it to the identity of the client's
//! certificate, in place of whatever was there, and removes it where the client has none:
//! <https://github.com/linkerd/linkerd2-proxy/blob/main/linkerd/app/inbound/src/http/set_identity_header.rs>.
//! So the header is worth as much as the certainty that the proxy has handled the request as HTTP. Two things
//! make it: the connection comes from the proxy (see [`Linkerd::is_proxy`]), and the proxy takes nothing on this
//! port for anything but HTTP/2 (see [`LinkerdConfig::grpc_server_resource`]). The second cannot be seen from
//! here, so whoever installs the service has to say it.

mod ready;

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use ready::NotReady;

use crate::{
    fault::{Fault, Reason},
    identity::SpiffeId,
};

/// Set by the inbound proxy and by nobody else.
const CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");

/// What must be known of the Linkerd installation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinkerdConfig {
    /// Must be `true`: says that a `Server` (policy.linkerd.io) with `proxyProtocol: gRPC` selects the pods and
    /// the RPC port of this service. Without one the proxy guesses the protocol, and what it takes for
    /// opaque, such as a connection that is silent for its first ten seconds, it passes on as it is: a client
    /// can then name itself whom it likes in `l5d-client-id`. The port's `appProtocol` does not prevent that.
    /// A service cannot see whether the `Server` is there. Default: `false`, and it does not start.
    pub grpc_server_resource: bool,
    /// Whether connections from loopback are taken for the proxy's, too. Default: `false`. Since Linkerd 2.11
    /// the proxy connects from the pod's own address, and what comes from 127.0.0.1 is `kubectl port-forward`
    /// or a neighbour in the pod. Only for an older proxy, and for a proxy on a machine without pods.
    pub trust_loopback: bool,
    /// Linkerd's trust domain (`identityTrustDomain`), the end of every identity. Default: `cluster.local`.
    pub trust_domain: String,
    /// The namespace of Linkerd's control plane, which is part of every identity. Default: `linkerd`.
    pub control_plane_namespace: String,
    /// Where the proxy beside this process answers `/ready`: its admin port, on this machine's loopback.
    /// Without that answer the service does not start. Default: `127.0.0.1:4191`.
    pub proxy_admin: SocketAddr,
    /// How long the proxy may take to become ready, in milliseconds. Default: 30000.
    pub proxy_ready_timeout_ms: u64,
}

impl Default for LinkerdConfig {
    fn default() -> Self {
        Self {
            grpc_server_resource: false,
            trust_loopback: false,
            trust_domain: "cluster.local".to_owned(),
            control_plane_namespace: "linkerd".to_owned(),
            proxy_admin: ([127, 0, 0, 1], 4191).into(),
            proxy_ready_timeout_ms: 30_000,
        }
    }
}

/// Why a Linkerd installation cannot be as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkerdError {
    /// Nobody has said that the proxy takes what comes for HTTP/2 only.
    #[error(
        "must be true, once a Server (policy.linkerd.io) with proxyProtocol: gRPC \
         selects this service's RPC port: without one a client can claim any identity; see docs/linkerd.md"
    )]
    NoServerResource,
    /// A proxy beside us has our loopback address; one elsewhere is not beside us.
    #[error("must be a loopback address, as 127.0.0.1:4191: the proxy of this very pod")]
    NotLoopback,
    /// A part of the identities cannot be.
    #[error("must be a DNS name: a-z, 0-9 and -, in parts divided by dots")]
    NotADnsName(&'static str),
    /// The proxy did not answer in time.
    #[error(transparent)]
    NotReady(#[from] NotReady),
}

impl LinkerdError {
    /// The setting of [`LinkerdConfig`] that it is about.
    pub fn setting(&self) -> &'static str {
        match self {
            Self::NoServerResource => "grpc_server_resource",
            Self::NotLoopback | Self::NotReady(_) => "proxy_admin",
            Self::NotADnsName(name) => name,
        }
    }
}

/// A workload beside a Linkerd proxy. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Linkerd {
    id: SpiffeId,
    /// What follows the service account's name in an identity that is a DNS name.
    dns_suffix: String,
    /// What precedes it in one that is a SPIFFE id.
    spiffe_prefix: String,
    trust_loopback: bool,
}

impl LinkerdConfig {
    /// What is wrong with it that can be known without a proxy.
    pub fn check(&self) -> Result<(), LinkerdError> {
        for (name, value) in
            [("trust_domain", &self.trust_domain), ("control_plane_namespace", &self.control_plane_namespace)]
        {
            let legal = |part: &str| {
                !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            };
            if !value.split('.').all(legal) {
                return Err(LinkerdError::NotADnsName(name));
            }
        }
        if !self.proxy_admin.ip().is_loopback() {
            return Err(LinkerdError::NotLoopback);
        }
        if self.grpc_server_resource { Ok(()) } else { Err(LinkerdError::NoServerResource) }
    }
}

impl Linkerd {
    /// The workload `id` in this installation, among the service accounts of `namespace`; those of others
    /// are strangers. Says nothing of whether a proxy is there.
    pub fn new(id: SpiffeId, namespace: &str, config: &LinkerdConfig) -> Result<Self, LinkerdError> {
        config.check()?;
        let LinkerdConfig { trust_domain, control_plane_namespace, trust_loopback, .. } = config;
        Ok(Self {
            id,
            // https://linkerd.io/2/features/automatic-mtls/: <service account>.<namespace>
            // .serviceaccount.identity.<control plane namespace>.<trust domain>
            dns_suffix: format!(
                ".{namespace}.serviceaccount.identity.{control_plane_namespace}.{trust_domain}"
            ),
            spiffe_prefix: format!("spiffe://{trust_domain}/ns/{namespace}/sa/"),
            trust_loopback: *trust_loopback,
        })
    }

    /// As [`Linkerd::new`], once the proxy beside us has said that it is ready.
    pub async fn beside_proxy(
        id: SpiffeId,
        namespace: &str,
        config: &LinkerdConfig,
    ) -> Result<Self, LinkerdError> {
        let linkerd = Self::new(id, namespace, config)?;
        let patience = std::time::Duration::from_millis(config.proxy_ready_timeout_ms);
        ready::wait(config.proxy_admin, patience).await?;
        Ok(linkerd)
    }

    /// Who this workload is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Whether a connection accepted from `peer` at `local` can only come from within this pod, and so from
    /// its proxy. Who comes from elsewhere has gone round the proxy, and may write any header.
    ///
    /// The inbound proxy connects to the address that its client meant, which is the pod's own, and the
    /// system then takes the same address as the source; before Linkerd 2.11 it connected to 127.0.0.1:
    /// <https://github.com/linkerd/linkerd2/issues/6495>. Packets from outside with either source are
    /// dropped by the system (RFC 1812, section 5.3.7; RFC 1122, section 3.2.1.3). From loopback comes today
    /// what somebody forwards into the pod, as `kubectl port-forward` does, so it is believed only where
    /// [`LinkerdConfig::trust_loopback`] says so. Containers of the same pod share its addresses, and are
    /// trusted as much as the proxy is.
    pub fn is_proxy(&self, peer: SocketAddr, local: SocketAddr) -> bool {
        let (peer, local) = (peer.ip().to_canonical(), local.ip().to_canonical());
        if peer.is_loopback() { self.trust_loopback } else { peer == local }
    }

    /// The proxy's word on who calls: the header, which must be there once.
    pub fn client_id(headers: &HeaderMap) -> Result<&HeaderValue, Fault> {
        let mut given = headers.get_all(CLIENT_ID).iter();
        match (given.next(), given.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(nobody()),
        }
    }

    /// The workload of this mesh that the header names.
    pub fn workload(&self, client_id: &HeaderValue) -> Result<SpiffeId, Fault> {
        let identity = client_id.to_str().unwrap_or_default();
        let name = identity
            .strip_suffix(&self.dns_suffix)
            .or_else(|| identity.strip_prefix(&self.spiffe_prefix))
            .ok_or_else(nobody)?;
        // Refuses dots and slashes, so that neither form can hide a longer name.
        SpiffeId::of(name).map_err(|_| nobody())
    }
}

fn nobody() -> Fault {
    Fault::new(Reason::Unauthenticated, "The Linkerd proxy names no workload of this mesh as the caller.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::NAMESPACE;

    fn config() -> LinkerdConfig {
        LinkerdConfig { grpc_server_resource: true, ..LinkerdConfig::default() }
    }

    fn linkerd() -> Linkerd {
        Linkerd::new(SpiffeId::of("svc-ledger").unwrap(), NAMESPACE, &config()).unwrap()
    }

    fn caller(values: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CLIENT_ID, HeaderValue::from_bytes(value).unwrap());
        }
        let workload = linkerd().workload(Linkerd::client_id(&headers).ok()?);
        workload.ok().map(|id| id.name().to_owned())
    }

    #[test]
    fn both_forms_of_an_identity_name_the_workload() {
        for text in [
            "svc-payments.paymesh.serviceaccount.identity.linkerd.cluster.local",
            "spiffe://cluster.local/ns/paymesh/sa/svc-payments",
        ] {
            assert_eq!(caller(&[text.as_bytes()]).as_deref(), Some("svc-payments"), "{text}");
        }
    }

    #[test]
    fn what_is_missing_doubled_or_of_elsewhere_is_nobody() {
        let right: &[u8] = b"svc-payments.paymesh.serviceaccount.identity.linkerd.cluster.local";
        assert_eq!(caller(&[]), None);
        assert_eq!(caller(&[right, right]), None);
        for wrong in [
            "",
            "svc-payments",
            ".paymesh.serviceaccount.identity.linkerd.cluster.local",
            "svc-payments.other.serviceaccount.identity.linkerd.cluster.local",
            "svc-payments.other.paymesh.serviceaccount.identity.linkerd.cluster.local",
            "svc-payments.paymesh.serviceaccount.identity.linkerd.cluster.local.evil",
            "svc-payments.paymesh.serviceaccount.identity.linkerd.evil",
            "svc-payments.paymesh.serviceaccount.identity.evil.cluster.local",
            "SVC-PAYMENTS.paymesh.serviceaccount.identity.linkerd.cluster.local",
            "svc-payments.paymesh.serviceaccount.identity.linkerd.cluster.local, x",
            "spiffe://cluster.local/ns/other/sa/svc-payments",
            "spiffe://evil/ns/paymesh/sa/svc-payments",
            "spiffe://paymesh.local/ns/paymesh/sa/svc-payments",
            "spiffe://cluster.local/ns/paymesh/sa/svc-payments/x",
            "spiffe://cluster.local/ns/paymesh/sa/",
        ] {
            assert_eq!(caller(&[wrong.as_bytes()]), None, "{wrong}");
        }
        assert_eq!(caller(&[&[right, b"\xff"].concat()]), None);
    }

    #[test]
    fn only_this_pods_own_addresses_are_the_proxys() {
        let old = LinkerdConfig { trust_loopback: true, ..config() };
        let old = Linkerd::new(SpiffeId::of("svc-ledger").unwrap(), NAMESPACE, &old).unwrap();
        let is_proxy = |linkerd: &Linkerd, peer: &str, local: &str| {
            linkerd.is_proxy(format!("{peer}:1").parse().unwrap(), format!("{local}:2").parse().unwrap())
        };
        for (peer, local) in
            [("10.0.0.7", "10.0.0.7"), ("[::ffff:10.0.0.7]", "10.0.0.7"), ("[fd00::7]", "[fd00::7]")]
        {
            assert!(is_proxy(&linkerd(), peer, local), "{peer} at {local}");
        }
        for (peer, local) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "10.0.0.7"),
            ("127.0.0.2", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]"),
        ] {
            assert!(!is_proxy(&linkerd(), peer, local), "{peer} at {local}");
            assert!(is_proxy(&old, peer, local), "{peer} at {local}");
        }
        for (peer, local) in
            [("10.0.0.8", "10.0.0.7"), ("[::ffff:10.0.0.8]", "[::ffff:10.0.0.7]"), ("[fd00::8]", "[fd00::7]")]
        {
            assert!(!is_proxy(&linkerd(), peer, local) && !is_proxy(&old, peer, local), "{peer} at {local}");
        }
    }

    #[test]
    fn a_configuration_that_cannot_be_is_refused_by_name() {
        let with = |change: fn(&mut LinkerdConfig)| {
            let mut config = config();
            change(&mut config);
            Linkerd::new(SpiffeId::of("svc-ledger").unwrap(), NAMESPACE, &config).unwrap_err()
        };
        assert_eq!(with(|c| c.grpc_server_resource = false), LinkerdError::NoServerResource);
        assert_eq!(with(|c| c.proxy_admin = ([10, 0, 0, 7], 4191).into()), LinkerdError::NotLoopback);
        assert_eq!(with(|c| c.trust_domain.clear()), LinkerdError::NotADnsName("trust_domain"));
        let told = LinkerdError::NotADnsName("control_plane_namespace");
        assert_eq!(with(|c| c.control_plane_namespace = "a/b".into()), told);
    }
}
