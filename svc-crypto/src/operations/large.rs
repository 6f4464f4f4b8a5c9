//! Payloads of any size, in pieces, in constant memory.

use std::sync::Arc;

use mesh::{Call, Fault};
use paymesh_proto::crypto::v1::large_request::Begin;

use super::{Label, Last, Operations, Refused, context, encrypt_keys};
use crate::{
    domain::{
        algorithm::Verb,
        envelope::EnvelopeError,
        key::UseError,
        large::{Decryptor, Encryptor},
        prefix::{PREFIX_BYTES, Prefix, Suite},
    },
    keyring::{KeyError, LiveKey},
    store::Store,
};

/// A payload on its way through a key.
pub trait LargeOperation {
    /// Takes the next piece, and gives what there is of the outcome by now, perhaps nothing.
    fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, Fault>;

    /// Ends the payload, and gives the rest.
    fn finish(self) -> Result<Vec<u8>, Fault>;
}

impl<S: Store> Operations<S> {
    /// Begins to encrypt.
    pub async fn encrypt_large(&self, call: &Call, begin: Begin) -> Result<Encryptor, Fault> {
        let Begin { key_name, aad, key_version } = begin;
        let tenant = call.tenant()?.clone();
        let key = self.key(call, &tenant, &key_name, Verb::Encrypt, &mut Last::default()).await?;
        Ok(self.encryptor(&key, &aad, key_version)?)
    }

    fn encryptor(&self, key: &LiveKey, aad: &[u8], version: u32) -> Result<Encryptor, Refused> {
        let version = key.key.making(version)?;
        let context = context(key, Label::Data, aad)?;
        let salt = self.random.salt().map_err(KeyError::from)?;
        let begun = encrypt_keys(key, version)?.large.encryptor(salt, &context);
        Ok(begun.map_err(KeyError::from)?)
    }

    /// Begins to open.
    pub async fn decrypt_large(&self, call: &Call, begin: Begin) -> Result<Opening, Fault> {
        let tenant = call.tenant()?.clone();
        let key = self.key(call, &tenant, &begin.key_name, Verb::Decrypt, &mut Last::default()).await;
        let key = match key {
            // A key that does not exist, or is none of this kind, is a wrong key like any other.
            Err(Refused::NoKey | Refused::Use(UseError::Purpose)) => Err(Refused::DoesNotOpen),
            other => other,
        }?;
        let context = context(&key, Label::Data, &begin.aad)?;
        Ok(Opening { key, context, begun: Begun::Not(Vec::new()) })
    }
}

impl LargeOperation for Encryptor {
    fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, Fault> {
        Self::push(self, piece).map_err(|error| KeyError::from(error).into())
    }

    fn finish(self) -> Result<Vec<u8>, Fault> {
        Self::finish(self).map_err(|error| KeyError::from(error).into())
    }
}

/// A payload that is being opened. Which version of the key opens it, it says itself.
pub struct Opening {
    key: Arc<LiveKey>,
    context: Vec<u8>,
    begun: Begun,
}

enum Begun {
    /// Too little has come to know the version.
    Not(Vec<u8>),
    With(Decryptor),
}

fn does_not_open(_: EnvelopeError) -> Refused {
    Refused::DoesNotOpen
}

impl Opening {
    fn step(&mut self, piece: &[u8]) -> Result<Vec<u8>, Refused> {
        let beginning = match &mut self.begun {
            Begun::With(decryptor) => {
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
        let version = self.key.key.undoing(reference.version).map_err(super::version_error)?;
        let mut decryptor = encrypt_keys(&self.key, version)?.large.decryptor(&self.context);
        let opened = decryptor.push(&beginning).map_err(does_not_open)?.into_exposed();
        self.begun = Begun::With(decryptor);
        Ok(opened)
    }
}

impl LargeOperation for Opening {
    fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(self.step(piece)?)
    }

    fn finish(self) -> Result<Vec<u8>, Fault> {
        match self.begun {
            Begun::With(decryptor) => Ok(decryptor.finish().map_err(does_not_open)?.into_exposed()),
            Begun::Not(_) => Err(Refused::DoesNotOpen.into()),
        }
    }
}
