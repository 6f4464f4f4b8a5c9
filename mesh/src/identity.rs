//! Who a workload is: a SPIFFE id in the URI SAN of its X.509 certificate.
//!
//! <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>,
//! <https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md>

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

/// The trust domain of the mesh unless configured otherwise.
pub const TRUST_DOMAIN: &str = "paymesh.local";
/// The namespace that workloads are in unless configured otherwise.
pub const NAMESPACE: &str = "paymesh";

/// What comes before a workload's name in every id of the mesh that this process is of.
static PREFIX: OnceLock<String> = OnceLock::new();

fn prefix() -> &'static str {
    PREFIX.get_or_init(|| prefix_of(TRUST_DOMAIN, NAMESPACE))
}

fn prefix_of(trust_domain: &str, namespace: &str) -> String {
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/")
}

/// Why a process cannot be of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// SPIFFE-ID, section 2.1.
    #[error("trust_domain must be 1 to 255 of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain,
    /// As Kubernetes has it (RFC 1123).
    #[error("namespace must be 1 to 63 of a-z, 0-9 and '-'")]
    Namespace,
    /// Ids of another mesh have been used in this process.
    #[error("this process is of a mesh with another trust domain or namespace already")]
    Another,
}

/// Says of which mesh this process is, once and before any id is used: only ids of this trust domain and
/// this namespace are ids from then on. Without it, [`TRUST_DOMAIN`] and [`NAMESPACE`].
pub fn join(trust_domain: &str, namespace: &str) -> Result<(), JoinError> {
    check(trust_domain, namespace)?;
    let wanted = prefix_of(trust_domain, namespace);
    if *PREFIX.get_or_init(|| wanted.clone()) == wanted { Ok(()) } else { Err(JoinError::Another) }
}

/// Whether there can be a mesh with this trust domain and this namespace.
pub fn check(trust_domain: &str, namespace: &str) -> Result<(), JoinError> {
    let of = |text: &str, max: usize, also: &[u8]| {
        let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-') || also.contains(&b);
        (1..=max).contains(&text.len()) && text.bytes().all(legal)
    };
    if !of(trust_domain, 255, b"._") {
        return Err(JoinError::TrustDomain);
    }
    if !of(namespace, 63, b"") {
        return Err(JoinError::Namespace);
    }
    Ok(())
}

/// `spiffe://<trust domain>/ns/<namespace>/sa/<name>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    name_at: usize,
}

/// Why a text is no SPIFFE id of this mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {}<name>, with a name of 1 to 63 of a-z, 0-9 and '-'", prefix())]
pub struct SpiffeIdError;

impl SpiffeId {
    /// The id of a workload of the mesh's own namespace.
    pub fn of(name: &str) -> Result<Self, SpiffeIdError> {
        format!("{}{name}", prefix()).parse()
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
        // One trust domain and one namespace only: a workload of the same name elsewhere is another one.
        let name = text.strip_prefix(prefix()).ok_or(SpiffeIdError)?;
        let legal = (1..=63).contains(&name.len())
            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !legal {
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

    #[test]
    fn a_process_is_of_one_mesh() {
        assert_eq!(join(TRUST_DOMAIN, NAMESPACE), Ok(()));
        assert_eq!(join("example.org", NAMESPACE), Err(JoinError::Another));
        assert_eq!(join(TRUST_DOMAIN, "other"), Err(JoinError::Another));
        assert_eq!(join("Example.org", NAMESPACE), Err(JoinError::TrustDomain));
        assert_eq!(join("", NAMESPACE), Err(JoinError::TrustDomain));
        assert_eq!(join("x/ns/paymesh", NAMESPACE), Err(JoinError::TrustDomain));
        assert_eq!(join(TRUST_DOMAIN, "a/sa/b"), Err(JoinError::Namespace));
    }
}
