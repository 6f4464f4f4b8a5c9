//! What the contract says about an RPC that a client must know: whether it may be made twice, and whether
//! it is one message there and one back. Read from the descriptors; no list of RPCs is kept here.

use std::{collections::HashMap, sync::OnceLock};

use prost_types::method_options::IdempotencyLevel;

/// An RPC as its caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rpc {
    pub(super) repeatable: Repeatable,
    /// The request is one message, so it can be kept and sent again.
    pub(super) unary_request: bool,
    /// The answer is one message: it comes to an end by itself.
    pub(super) unary_answer: bool,
}

/// Whether an RPC may be carried out more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeatable {
    /// No: only where it surely was not carried out at all.
    Never,
    /// Only with an idempotency key, which the RPC honours.
    WithKey,
    /// Yes: its ids are made by the client.
    ById,
    /// Yes: it reads.
    Reads,
}

const UNKNOWN: Rpc = Rpc { repeatable: Repeatable::Never, unary_request: false, unary_answer: false };
const HEALTH_CHECK: (&str, Rpc) = (
    "/grpc.health.v1.Health/Check",
    Rpc { repeatable: Repeatable::Reads, unary_request: true, unary_answer: true },
);

/// The RPC with this path; one that the contract does not know is passed through once, as a stream.
pub(super) fn rpc(path: &str) -> Rpc {
    static KNOWN: OnceLock<HashMap<String, Rpc>> = OnceLock::new();
    KNOWN.get_or_init(read).get(path).copied().unwrap_or(UNKNOWN)
}

fn read() -> HashMap<String, Rpc> {
    let pool = paymesh_proto::descriptor_pool();
    let key_option = pool.get_extension_by_name("paymesh.options.v1.idempotency");
    let mut known = HashMap::from([(HEALTH_CHECK.0.to_owned(), HEALTH_CHECK.1)]);
    for service in pool.services() {
        for method in service.methods() {
            let level = method
                .method_descriptor_proto()
                .options
                .as_ref()
                .map_or(IdempotencyLevel::IdempotencyUnknown, prost_types::MethodOptions::idempotency_level);
            let has_key = key_option.as_ref().is_some_and(|option| method.options().has_extension(option));
            let repeatable = match level {
                IdempotencyLevel::NoSideEffects => Repeatable::Reads,
                IdempotencyLevel::Idempotent if has_key => Repeatable::WithKey,
                IdempotencyLevel::Idempotent => Repeatable::ById,
                IdempotencyLevel::IdempotencyUnknown => Repeatable::Never,
            };
            let rpc = Rpc {
                repeatable,
                unary_request: !method.is_client_streaming(),
                unary_answer: !method.is_server_streaming(),
            };
            known.insert(format!("/{}/{}", service.full_name(), method.name()), rpc);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_is_read_from_the_descriptors() {
        let repeatable = |path: &str| rpc(path).repeatable;
        assert_eq!(repeatable("/paymesh.payments.v1.PaymentService/CreatePayment"), Repeatable::WithKey);
        assert_eq!(repeatable("/paymesh.payments.v1.PaymentService/GetPayment"), Repeatable::Reads);
        assert_eq!(repeatable("/paymesh.ledger.v1.LedgerService/CreateTransfers"), Repeatable::ById);
        assert_eq!(repeatable("/grpc.health.v1.Health/Check"), Repeatable::Reads);
        assert_eq!(rpc("/a.B/C"), UNKNOWN);
        let watch = rpc("/paymesh.payments.v1.PaymentService/WatchPaymentEvents");
        assert!(watch.unary_request && !watch.unary_answer);
    }

    /// What moves money may be repeated only under a key or an id that the client made, and a read of the
    /// REST API says that it is one.
    #[test]
    fn every_rpc_that_takes_a_key_is_repeatable_with_it_only() {
        let pool = paymesh_proto::descriptor_pool();
        let key_option = pool.get_extension_by_name("paymesh.options.v1.idempotency").unwrap();
        let http = pool.get_extension_by_name("google.api.http").unwrap();
        let (mut keyed, mut reads) = (0, 0);
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            if method.options().has_extension(&key_option) {
                keyed += 1;
                assert_eq!(rpc(&path).repeatable, Repeatable::WithKey, "{path}");
            } else {
                assert_ne!(rpc(&path).repeatable, Repeatable::WithKey, "{path}");
            }
            let rule = method.options().get_extension(&http).into_owned();
            if rule.as_message().is_some_and(|rule| rule.has_field_by_name("get")) {
                reads += 1;
                assert_eq!(rpc(&path).repeatable, Repeatable::Reads, "{path}");
            }
        }
        assert!(keyed >= 6 && reads >= 9, "{keyed} {reads}: the options are read from the descriptors");
    }
}
