//! Every RPC that a server of the mesh can have: those of the contract, health and reflection.
//!
//! Read once from the descriptors. Policy and metrics know an RPC by its place in this table, so neither
//! compares names on the hot path, and a caller cannot make up a name that ends in a metric.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::LazyLock,
};

use prost_reflect::{DescriptorPool, ExtensionDescriptor, Kind, MessageDescriptor};

/// What tonic serves beside the contract, and whether it answers with a stream:
/// <https://github.com/grpc/grpc-proto>.
const STANDARD: [(&str, bool); 3] = [
    ("grpc.health.v1.Health/Check", false),
    ("grpc.health.v1.Health/Watch", true),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true),
];

/// One RPC of the table. Two are equal if they are the same RPC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rpc(usize);

struct Entry {
    name: Box<str>,
    reveals: bool,
    streams: bool,
    waits_on_third_party: bool,
}

struct Table {
    entries: Vec<Entry>,
    by_path: HashMap<Box<str>, Rpc>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let pool = paymesh_proto::descriptor_pool();
    let standard = |(name, streams): (&str, bool)| Entry {
        name: name.into(),
        reveals: false,
        streams,
        waits_on_third_party: false,
    };
    let mut entries: Vec<Entry> = STANDARD.map(standard).into();
    let waits = pool.get_extension_by_name("paymesh.options.v1.waits_on_third_party");
    for service in pool.services() {
        for method in service.methods() {
            let name = format!("{}/{}", service.full_name(), method.name()).into();
            let waits = waits.as_ref().map(|option| method.options().get_extension(option).into_owned());
            entries.push(Entry {
                name,
                reveals: reveals(&pool, &method.output()),
                streams: method.is_server_streaming(),
                waits_on_third_party: waits.and_then(|waits| waits.as_bool()) == Some(true),
            });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let path = |(place, entry): (usize, &Entry)| (format!("/{}", entry.name).into(), Rpc(place));
    let by_path = entries.iter().enumerate().map(path).collect();
    Table { entries, by_path }
});

/// Whether a message has a field that is cardholder data or a secret, at any depth.
fn reveals(pool: &DescriptorPool, message: &MessageDescriptor) -> bool {
    let Some(sensitive) = pool.get_extension_by_name("paymesh.options.v1.sensitive") else { return true };
    reaches(&sensitive, message, &mut HashSet::new())
}

fn reaches(option: &ExtensionDescriptor, message: &MessageDescriptor, seen: &mut HashSet<String>) -> bool {
    seen.insert(message.full_name().to_owned())
        && message.fields().any(|field| {
            field.options().get_extension(option).as_bool() == Some(true)
                || matches!(field.kind(), Kind::Message(inner) if reaches(option, &inner, seen))
        })
}

impl Rpc {
    /// The RPC of a gRPC request's `:path`, `/package.Service/Method`.
    pub fn of_path(path: &str) -> Option<Self> {
        TABLE.by_path.get(path).copied()
    }

    /// All of them, in the order of their names.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::count()).map(Self)
    }

    /// How many there are.
    pub fn count() -> usize {
        TABLE.entries.len()
    }

    /// Its place in the table: below [`Rpc::count`], and the same as long as the process runs.
    pub fn index(self) -> usize {
        self.0
    }

    /// `package.Service/Method`.
    pub fn name(self) -> &'static str {
        TABLE.entries.get(self.0).map_or("", |entry| &entry.name)
    }

    /// `package.Service`.
    pub fn service(self) -> &'static str {
        self.name().split_once('/').map_or("", |(service, _)| service)
    }

    /// `Method`.
    pub fn method(self) -> &'static str {
        self.name().split_once('/').map_or("", |(_, method)| method)
    }

    /// Whether its answer has cardholder data or another secret in it: a field with the option
    /// `paymesh.options.v1.sensitive`.
    pub fn reveals(self) -> bool {
        TABLE.entries.get(self.0).is_none_or(|entry| entry.reveals)
    }

    /// Whether it is one of those that every server has beside the contract: health, reflection.
    pub fn is_standard(self) -> bool {
        self.name().starts_with("grpc.")
    }

    /// Whether it answers with a stream.
    pub fn streams(self) -> bool {
        TABLE.entries.get(self.0).is_some_and(|entry| entry.streams)
    }

    /// Whether the time that it takes is mostly that of somebody outside the mesh: the option
    /// `paymesh.options.v1.waits_on_third_party`.
    pub fn waits_on_third_party(self) -> bool {
        TABLE.entries.get(self.0).is_some_and(|entry| entry.waits_on_third_party)
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rpc_is_found_by_its_path_and_by_nothing_else() {
        assert!(Rpc::count() > STANDARD.len());
        for rpc in Rpc::all() {
            assert_eq!(Rpc::of_path(&format!("/{}", rpc.name())), Some(rpc));
            assert_eq!(Rpc::of_path(rpc.name()), None);
        }
        for path in
            ["", "/", "//grpc.health.v1.Health/Check", "/grpc.health.v1.Health/", "/grpc.health.v1.Health/*"]
        {
            assert_eq!(Rpc::of_path(path), None, "{path}");
        }
    }

    #[test]
    fn what_reveals_a_secret_is_read_from_the_contract() {
        let revealing: HashSet<&str> = Rpc::all().filter(|rpc| rpc.reveals()).map(Rpc::name).collect();
        for name in [
            "VaultService/Detokenize",
            "VaultService/BatchDetokenize",
            "CryptoService/Decrypt",
            "CryptoService/GenerateDataKey",
            "CryptoService/Batch",
            "CryptoService/DecryptLarge",
        ] {
            assert!(revealing.contains(&*format!("paymesh.crypto.v1.{name}")), "{name}");
        }
        let unrevealing = ["Tokenize", "BatchTokenize", "GetToken", "DeleteToken", "BatchDeleteTokens"];
        let unrevealing = unrevealing.map(|name| format!("VaultService/{name}"));
        for name in unrevealing.into_iter().chain(["CryptoService/Encrypt".to_owned()]) {
            assert!(!revealing.contains(&*format!("paymesh.crypto.v1.{name}")), "{name}");
        }
    }

    #[test]
    fn what_streams_or_waits_on_others_is_read_from_the_contract() {
        let named =
            |is: fn(Rpc) -> bool| Rpc::all().filter(|rpc| is(*rpc)).map(Rpc::name).collect::<Vec<_>>();
        let of_payments = |name: &str| format!("paymesh.payments.v1.PaymentService/{name}");
        let of_crypto = |name: &str| format!("paymesh.crypto.v1.CryptoService/{name}");
        let of_ledger = |name: &str| format!("paymesh.ledger.v1.LedgerService/{name}");
        assert_eq!(
            named(Rpc::streams),
            [
                "grpc.health.v1.Health/Watch",
                "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                "paymesh.crypto.v1.AuditService/VerifyAuditLog",
                &of_crypto("DecryptLarge"),
                &of_crypto("EncryptLarge"),
                &of_crypto("Stream"),
                "paymesh.crypto.v1.RootService/RotateRoot",
                &of_ledger("Audit"),
                &of_ledger("ExportJournal"),
                &of_ledger("StreamTransfers"),
                &of_ledger("VerifyJournal"),
                &of_ledger("WatchTransfers"),
                &of_payments("WatchPaymentEvents"),
            ]
        );
        assert_eq!(
            named(Rpc::waits_on_third_party),
            [
                "CancelPayment",
                "CapturePayment",
                "ConfirmPayment",
                "CreatePayment",
                "CreateRefund",
                "ExtendAuthorization",
                "IncrementAuthorization",
                "ResolveReview",
            ]
            .map(of_payments)
        );
        assert_eq!(named(Rpc::is_standard).len(), STANDARD.len());
    }
}
