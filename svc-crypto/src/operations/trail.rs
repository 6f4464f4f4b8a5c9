//! What operations leave in the audit log.

use mesh::{Call, Fault};
use money::TenantId;
use paymesh_proto::crypto::v1::{operation::Verb as Asked, outcome::Result as Answer};

use crate::{
    domain::{
        algorithm::Verb,
        audit::{Act, Entry, Outcome, Subject},
        envelope::KeyRef,
        prefix::Prefix,
    },
    keyring::Wanted,
};

/// The entries of the operations of one call.
#[derive(Default)]
pub(super) struct Trail {
    entries: Vec<Entry>,
    /// Where those of the present operation begin.
    present: usize,
}

impl Trail {
    /// An operation begins.
    pub(super) fn begin(&mut self) {
        // Neighbours in a batch mostly did the same: then one entry says how often.
        if let [.., before, present] = &mut self.entries[..]
            && before.absorb(present)
        {
            self.entries.pop();
        }
        self.present = self.entries.len();
    }

    /// It is about to use a key.
    pub(super) fn uses(&mut self, call: &Call, tenant: Option<&TenantId>, subject: Subject, verb: Verb) {
        let (workload, tenant) = (call.peer().clone(), tenant.cloned());
        let act = Act { workload, tenant, subject, key: None, verb, outcome: Outcome::Done };
        self.entries.push(Entry { act, count: 1, bytes: 0 });
    }

    /// It did, with this version, on so many bytes.
    pub(super) fn used(&mut self, key: KeyRef, bytes: usize) {
        if let Some(last) = self.entries.last_mut() {
            last.act.key = Some(key);
            last.bytes = bytes as u64;
        }
    }

    /// It was refused: what it did not use, it was refused to use.
    pub(super) fn refused(&mut self, call: &Call, tenant: Option<&TenantId>, verb: Verb, fault: &Fault) {
        if self.entries.len() == self.present {
            self.uses(call, tenant, Subject::None, verb);
        }
        let unused = self.entries.iter_mut().skip(self.present).filter(|entry| entry.act.key.is_none());
        for entry in unused {
            entry.act.outcome = Outcome::Refused(fault.reason().as_str().into());
        }
    }

    /// All of them.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}

/// The verb that an operation asks for, where its key does not say more.
pub(super) fn verb_of(asked: &Asked) -> Verb {
    match asked {
        Asked::Encrypt(_) => Verb::Encrypt,
        Asked::Decrypt(_) => Verb::Decrypt,
        Asked::Rewrap(_) => Verb::Rewrap,
        Asked::Translate(_) => Verb::TranslateFrom,
        Asked::GenerateDataKey(_) => Verb::GenerateDataKey,
        Asked::GenerateWrappedDataKey(_) => Verb::GenerateWrappedDataKey,
        Asked::DecryptDataKey(_) => Verb::DecryptDataKey,
        Asked::ComputeMac(_) => Verb::ComputeMac,
        Asked::VerifyMac(_) => Verb::VerifyMac,
        Asked::BlindIndex(_) => Verb::BlindIndex,
        Asked::EncryptDeterministic(_) => Verb::EncryptDeterministic,
        Asked::EncryptFormat(_) => Verb::EncryptFormat,
        Asked::DecryptFormat(_) => Verb::DecryptFormat,
        Asked::Sign(_) => Verb::Sign,
        Asked::Verify(_) => Verb::Verify,
    }
}

/// The version of its key that an operation names.
pub(super) fn version_named(asked: &Asked) -> Wanted {
    let sealed =
        |sealed: &[u8]| Prefix::read(sealed).map_or_else(Wanted::default, |prefix| prefix.key.into());
    Wanted::version(match asked {
        Asked::Encrypt(request) | Asked::EncryptDeterministic(request) => request.key_version,
        Asked::Decrypt(request) => return sealed(&request.ciphertext),
        Asked::Rewrap(request) => return sealed(&request.ciphertext),
        Asked::Translate(request) => {
            return request.from.as_ref().map_or_else(Wanted::default, |from| sealed(&from.ciphertext));
        }
        Asked::GenerateDataKey(_) | Asked::GenerateWrappedDataKey(_) => 0,
        Asked::DecryptDataKey(request) => return sealed(&request.wrapped),
        Asked::ComputeMac(request) => request.key_version,
        Asked::VerifyMac(request) => request.key_version,
        Asked::BlindIndex(request) => request.key_version,
        Asked::EncryptFormat(request) | Asked::DecryptFormat(request) => request.key_version,
        Asked::Sign(request) => request.key_version,
        Asked::Verify(request) => request.key_version,
    })
}

/// How many bytes of data an operation is asked to work on.
pub(super) fn bytes_of(asked: &Asked) -> usize {
    match asked {
        Asked::Encrypt(request) | Asked::EncryptDeterministic(request) => request.plaintext.len(),
        Asked::Decrypt(request) => request.ciphertext.len(),
        Asked::Rewrap(request) => request.ciphertext.len(),
        Asked::Translate(request) => request.from.as_ref().map_or(0, |from| from.ciphertext.len()),
        Asked::GenerateDataKey(_) | Asked::GenerateWrappedDataKey(_) => 0,
        Asked::DecryptDataKey(request) => request.wrapped.len(),
        Asked::ComputeMac(request) => request.data.len(),
        Asked::VerifyMac(request) => request.data.len(),
        Asked::BlindIndex(request) => request.value.len(),
        Asked::EncryptFormat(request) | Asked::DecryptFormat(request) => request.text.len(),
        Asked::Sign(request) => request.message.len(),
        Asked::Verify(request) => request.message.len(),
    }
}

/// The version that an answer was made with; `None` for a refusal.
pub(super) fn version_of(answer: &Answer) -> Option<u32> {
    Some(match answer {
        Answer::Encrypted(answer) => answer.key_version,
        Answer::Decrypted(answer) => answer.key_version,
        Answer::DataKey(answer) => answer.key_version,
        Answer::WrappedDataKey(answer) => answer.key_version,
        Answer::Mac(answer) => answer.key_version,
        Answer::Verified(answer) => answer.key_version,
        Answer::Index(answer) => answer.key_version,
        Answer::Formatted(answer) => answer.key_version,
        Answer::Signed(answer) => answer.key_version,
        Answer::Refusal(_) => return None,
    })
}
