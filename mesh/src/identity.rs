//! Who a workload is: a SPIFFE id in the URI SAN of its X.509 certificate.
//!
//! <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>,
//! <https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md>

use std::{fmt, str::FromStr, sync::Arc};

/// The trust domain of the mesh.
pub const TRUST_DOMAIN: &str = "paymesh.local";
/// The namespace that workloads are in unless configured otherwise.
pub const NAMESPACE: &str = "paymesh";

/// `spiffe://paymesh.local/ns/<namespace>/sa/<name>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    name_at: usize,
}

/// Why a text is no SPIFFE id of this mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be spiffe://{TRUST_DOMAIN}/ns/<namespace>/sa/<name>")]
pub struct SpiffeIdError;

impl SpiffeId {
    /// The id of a workload of the mesh's own namespace.
    pub fn of(name: &str) -> Result<Self, SpiffeIdError> {
        format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{name}").parse()
    }

    /// The workload's name, such as `svc-ledger`.
    pub fn name(&self) -> &str {
        &self.text[self.name_at..]
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(TRUST_DOMAIN))
            .and_then(|rest| rest.strip_prefix("/ns/"))
            .ok_or(SpiffeIdError)?;
        let (namespace, name) = path.split_once("/sa/").ok_or(SpiffeIdError)?;
        let legal = |segment: &str| {
            (1..=63).contains(&segment.len())
                && segment.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        // One namespace only: a workload of the same name elsewhere is another workload.
        if namespace != NAMESPACE || !legal(name) {
            return Err(SpiffeIdError);
        }
        Ok(Self { text: text.into(), name_at: text.len() - name.len() })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_this_mesh_are_ids() {
        let id: SpiffeId = "spiffe://paymesh.local/ns/paymesh/sa/svc-ledger".parse().unwrap();
        assert_eq!(id.name(), "svc-ledger");
        assert_eq!(SpiffeId::of("svc-ledger"), Ok(id));
        for wrong in [
            "",
            "spiffe://paymesh.local/ns/paymesh/sa/",
            "spiffe://paymesh.local/ns/other/sa/svc-ledger",
            "spiffe://paymesh.local.evil/ns/paymesh/sa/svc-ledger",
            "spiffe://evil/ns/paymesh/sa/svc-ledger",
            "spiffe://paymesh.local/ns/paymesh/sa/svc-ledger/x",
            "spiffe://paymesh.local/ns/paymesh/sa/SVC",
            "https://paymesh.local/ns/paymesh/sa/svc-ledger",
        ] {
            assert_eq!(wrong.parse::<SpiffeId>(), Err(SpiffeIdError), "{wrong}");
        }
    }
}
