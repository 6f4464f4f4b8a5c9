//! What everything that reads bytes from outside is held to, whatever comes: it does not panic, what it takes has one
//! form, and nothing that was changed passes for what it was.
//!
//! Each [`Target`] is a function of any bytes, which panics where a promise is broken. Two things call it: the tests
//! of this crate, with what the documents have as examples, with what ever broke a promise (`regressions/`) and with
//! some hundred changes of both; and `driver/`, a workspace of its own that puts libFuzzer around it, which looks
//! for inputs that reach further (`cargo xtask fuzz`).

mod configuration;
mod edge;
mod envelope;
mod input;
mod journal;
mod keys;
mod records;
mod text;

/// One subject of fuzzing.
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it reads, and what is promised of that.
    pub about: &'static str,
    /// Inputs that get far.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "envelope-open",
        about: "envelopes of every suite, opened with the right key: what opens is what would be sealed",
        seeds: envelope::vectors,
        run: envelope::open,
    },
    Target {
        name: "envelope-flip",
        about: "an envelope that is changed, cut, or of another context does not open",
        seeds: envelope::messages,
        run: envelope::flip,
    },
    Target {
        name: "keys",
        about: "wrapped keys, imports, public and private keys, signatures, shares of a root key",
        seeds: keys::seeds,
        run: keys::run,
    },
    Target {
        name: "records",
        about: "what a root wrapped, a card as it is sealed, the audit log's chain",
        seeds: records::seeds,
        run: records::run,
    },
    Target {
        name: "journal",
        about: "the ledger's events, headers and records: what is read is what is written",
        seeds: journal::seeds,
        run: journal::run,
    },
    Target {
        name: "edge-request",
        about: "JSON, paths and queries into requests: what comes out is a message of the contract",
        seeds: edge::requests,
        run: edge::request,
    },
    Target {
        name: "edge-answer",
        about: "messages into JSON: what comes out is JSON",
        seeds: edge::answers,
        run: edge::answer,
    },
    Target {
        name: "edge-signature",
        about: "the headers of signed requests (RFC 9421): a changed request is not the one that was signed",
        seeds: edge::signed,
        run: edge::signature,
    },
    Target {
        name: "text",
        about: "ids, currencies, tenants, tokens, card numbers, headers: one spelling each",
        seeds: text::seeds,
        run: text::run,
    },
    Target {
        name: "configuration",
        about: "policies, grants, fraud rules, tax rates, API keys",
        seeds: configuration::seeds,
        run: configuration::run,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
