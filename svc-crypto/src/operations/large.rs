//! Payloads of any size, in pieces, in constant memory.

use std::sync::Arc;

use mesh::{Call, Fault};
use paymesh_proto::crypto::v1::large_request::Begin;

use super::{Label, Operations, Refused, Session, context, encrypt_keys};
use crate::{
    domain::{
        algorithm::Verb,
        audit::{Act, Entry, Outcome},
        envelope::{EnvelopeError, KeyRef},
        key::UseError,
        large::{Decryptor, Encryptor},
        prefix::{PREFIX_BYTES, Prefix, Suite},
    },
    keyring::{KeyError, LiveKey, NamedKeys, Wanted},
    store::Store,
};

/// A payload on its way through a key.
pub trait LargeOperation {
    /// Takes the next piece, and gives what there is of the outcome by now, perhaps nothing.
    fn push(&mut self, piece: &[u8]) -> impl Future<Output = Result<Vec<u8>, Fault>> + Send;

    /// Ends the payload, and gives the rest.
    fn finish(self) -> Result<Vec<u8>, Fault>;

    /// The version of the key that the payload itself named, by now.
    fn key(&self) -> Option<KeyRef>;
}

/// A payload that has begun, and what is on record of it: first that it began, before any of it is given out;
/// at last how many bytes it had, or why it was refused.
pub struct Large<L> {
    operation: L,
    act: Act,
    bytes: u64,
}

impl<L: LargeOperation> Large<L> {
    /// Takes the next piece, and gives what there is of the outcome by now, perhaps nothing.
    ///
    /// # Errors
    /// Where the payload does not open.
    pub async fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, Fault> {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        self.operation.push(piece).await
    }
}

impl<S: Store> Operations<S> {
    /// Begins to encrypt.
    ///
    /// # Errors
    /// Why it is refused, which is on record.
    pub async fn encrypt_large(&self, call: &Call, begin: Begin) -> Result<Large<Encryptor>, Fault> {
        let (aad, asked) = (begin.aad, begin.key_version);
        self.begin(call, &begin.key_name, Verb::Encrypt, Wanted::version(asked), |key| {
            let version = key.key.making(asked)?;
            let context = context(key, Label::Data, &aad)?;
            let salt = self.random.salt().map_err(KeyError::from)?;
            let begun = encrypt_keys(key, version)?.large().encryptor(salt, &context);
            let reference = KeyRef { id: key.key.id, version };
            Ok((begun.map_err(KeyError::from)?, Some(reference)))
        })
        .await
    }

    /// Begins to open.
    ///
    /// # Errors
    /// Why it is refused, which is on record.
    pub async fn decrypt_large(&self, call: &Call, begin: Begin) -> Result<Large<Opening<S>>, Fault> {
        // Which version opens it, it says later.
        self.begin(call, &begin.key_name, Verb::Decrypt, Wanted::default(), |key| {
            let context = context(key, Label::Data, &begin.aad)?;
            let (keys, key, begun) = (Arc::clone(&self.keys), Arc::clone(key), Begun::Not(Vec::new()));
            Ok((Opening { keys, key, context: context.to_vec(), begun }, None))
        })
        .await
    }

    async fn begin<L>(
        &self,
        call: &Call,
        name: &str,
        verb: Verb,
        wanted: Wanted,
        begin: impl FnOnce(&Arc<LiveKey>) -> Result<(L, Option<KeyRef>), Refused>,
    ) -> Result<Large<L>, Fault> {
        let mut session = Session { wanted, ..Session::default() };
        let tenant = call.tenant().cloned();
        let begun = match &tenant {
            Ok(tenant) => match self.key(call, tenant, name, verb, &mut session).await {
                // A key that does not exist, or is none of this kind, is a wrong key like any other.
                Err(Refused::NoKey | Refused::Use(UseError::Purpose)) if verb == Verb::Decrypt => {
                    Err(Refused::DoesNotOpen)
                }
                Err(refused) => Err(refused),
                Ok(key) => begin(&key).map(|begun| (key, begun)),
            },
            Err(fault) => Err(Refused::Fault(fault.clone())),
        };
        let begun = begun.map_err(Fault::from);
        match &begun {
            Ok((_, (_, Some(reference)))) => session.trail.used(*reference, 0),
            Ok(_) => {}
            Err(fault) => session.trail.refused(call, tenant.as_ref().ok(), verb, fault),
        }
        let entries = session.trail.into_entries();
        let act = entries.last().map(|entry| entry.act.clone());
        self.recorder.submit(entries).await?;
        let (_, (operation, _)) = begun?;
        // What has begun is on record.
        let act = act.ok_or_else(|| Fault::from(super::unreadable()))?;
        Ok(Large { operation, act, bytes: 0 })
    }

    /// Ends a payload of which `given` became, and gives the rest once that is on record.
    ///
    /// # Errors
    /// Why it was refused, or that it could not be put on record.
    pub async fn end<L: LargeOperation>(
        &self,
        large: Large<L>,
        given: Result<(), Fault>,
    ) -> Result<Vec<u8>, Fault> {
        let Large { operation, act, bytes } = large;
        let (key, rest) = match given {
            Ok(()) => {
                let key = operation.key();
                (key, operation.finish())
            }
            Err(fault) => (None, Err(fault)),
        };
        let entry = match &rest {
            // That it happened was counted when it began.
            Ok(_) => Entry { act: Act { key: act.key.or(key), ..act }, count: 0, bytes },
            Err(fault) => {
                let outcome = Outcome::Refused(fault.reason().as_str().into());
                Entry { act: Act { key: None, outcome, ..act }, count: 1, bytes }
            }
        };
        self.recorder.submit(entry).await?;
        rest
    }
}

impl LargeOperation for Encryptor {
    async fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, Fault> {
        Self::push(self, piece).map_err(|error| KeyError::from(error).into())
    }

    fn finish(self) -> Result<Vec<u8>, Fault> {
        Self::finish(self).map_err(|error| KeyError::from(error).into())
    }

    fn key(&self) -> Option<KeyRef> {
        None
    }
}

/// A payload that is being opened. Which version of the key opens it, it says itself.
pub struct Opening<S> {
    keys: Arc<NamedKeys<S>>,
    key: Arc<LiveKey>,
    context: Vec<u8>,
    begun: Begun,
}

enum Begun {
    /// Too little has come to know the version.
    Not(Vec<u8>),
    With(KeyRef, Decryptor),
}

fn does_not_open(_: EnvelopeError) -> Refused {
    Refused::DoesNotOpen
}

impl<S: Store> Opening<S> {
    async fn step(&mut self, piece: &[u8]) -> Result<Vec<u8>, Refused> {
        let beginning = match &mut self.begun {
            Begun::With(_, decryptor) => {
                return Ok(decryptor.push(piece).map_err(does_not_open)?.into_exposed());
            }
            Begun::Not(beginning) => {
                beginning.extend_from_slice(piece);
                if beginning.len() < PREFIX_BYTES {
                    return Ok(Vec::new());
                }
                std::mem::take(beginning)
            }
        };
        let prefix = Prefix::read(&beginning).filter(|prefix| prefix.suite == Suite::Large);
        let reference = prefix.map(|prefix| prefix.key).ok_or(Refused::DoesNotOpen)?;
        if Wanted::from(reference).is_beyond(&self.key.key) {
            let (tenant, name) = (&self.key.key.tenant, &self.key.key.name);
            let newer = self.keys.get_with(tenant, name, reference.into()).await?;
            self.key = newer.ok_or(Refused::DoesNotOpen)?;
            self.key.key.usable(Verb::Decrypt)?;
        }
        let version = self.key.key.undoing(reference.version).map_err(super::version_error)?;
        let mut decryptor = encrypt_keys(&self.key, version)?.large().decryptor(&self.context);
        let opened = decryptor.push(&beginning).map_err(does_not_open)?.into_exposed();
        self.begun = Begun::With(reference, decryptor);
        Ok(opened)
    }
}

impl<S: Store> LargeOperation for Opening<S> {
    async fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(self.step(piece).await?)
    }

    fn finish(self) -> Result<Vec<u8>, Fault> {
        match self.begun {
            Begun::With(_, decryptor) => Ok(decryptor.finish().map_err(does_not_open)?.into_exposed()),
            Begun::Not(_) => Err(Refused::DoesNotOpen.into()),
        }
    }

    fn key(&self) -> Option<KeyRef> {
        match &self.begun {
            Begun::With(key, _) => Some(*key),
            Begun::Not(_) => None,
        }
    }
}
