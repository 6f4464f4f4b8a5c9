//! The one place where randomness comes from: the operating system's generator.

use ring::rand::{SecureRandom, SystemRandom};

use crate::domain::{
    digits::DRAW_BYTES,
    envelope::{SALT_BYTES, Salt},
    key_import::ImportSeed,
    secret::{KEY_BYTES, KeyBytes},
};

/// The operating system gives no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct RandomError;

/// Makes keys and salts.
#[derive(Debug, Clone)]
pub struct Random(SystemRandom);

impl Default for Random {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

impl Random {
    /// A fresh key.
    pub fn key(&self) -> Result<KeyBytes, RandomError> {
        let mut bytes = [0; KEY_BYTES];
        self.fill(&mut bytes)?;
        Ok(KeyBytes::take(&mut bytes))
    }

    /// The salt of one message.
    pub fn salt(&self) -> Result<Salt, RandomError> {
        let mut bytes = [0; SALT_BYTES];
        self.fill(&mut bytes)?;
        Ok(Salt::new(bytes))
    }

    /// Salts for a batch, drawn at once: asking the system costs more than sealing.
    pub fn salts(&self, count: usize) -> Result<Vec<Salt>, RandomError> {
        let mut bytes = vec![[0; SALT_BYTES]; count];
        self.fill(bytes.as_flattened_mut())?;
        Ok(bytes.into_iter().map(Salt::new).collect())
    }

    /// What an import's RSA key is made of.
    pub fn import_seed(&self) -> Result<ImportSeed, RandomError> {
        let mut bytes = [0; KEY_BYTES];
        self.fill(&mut bytes)?;
        Ok(ImportSeed::take(&mut bytes))
    }

    /// To hand in where it is not known how many random bytes are needed.
    pub fn generator(&self) -> &dyn SecureRandom {
        &self.0
    }

    /// Bytes for one draw of [`crate::domain::digits`].
    pub fn draw(&self) -> Result<[u8; DRAW_BYTES], RandomError> {
        let mut bytes = [0; DRAW_BYTES];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Fills a buffer.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.0.fill(bytes).map_err(|ring::error::Unspecified| RandomError)
    }
}
