//! Encryption of large payloads piece by piece, in constant memory. The encryptor and the decryptor are
//! fed with pieces of any size; neither knows where they come from.
//!
//! # Format, suite 3
//!
//! | offset | bytes | field      | content                                             |
//! |-------:|------:|------------|-----------------------------------------------------|
//! |      0 |    25 | prefix     | as all envelopes begin, with suite 3                |
//! |     25 |    32 | salt       | random, fresh for each message                      |
//! |     57 |    32 | commitment | says which key and message this is for              |
//! |     89 |       | chunks     | each its ciphertext and a tag of 16 bytes           |
//!
//! Every chunk but the last holds 65,536 bytes of plaintext. The last holds 1 to 65,536; only that of an
//! empty message, which is its first one, holds none.
//! ```text
//! PRK        = HKDF-Extract(salt = "paymesh envelope 1" ‖ suite ‖ key id ‖ version, IKM = key)
//! K          = HKDF-Expand(PRK, info = "pme1 message key" ‖ salt, 32)
//! commitment = HKDF-Expand(PRK, info = "pme1 commitment " ‖ salt, 32)
//! aad        = SHA-256(len(header) ‖ header ‖ len(context) ‖ context)     (header: offsets 0 to 88)
//! chunk i    = AES-256-GCM(K, nonce = 7 zero bytes ‖ i ‖ last, aad, plaintext)
//! ```
//! i counts from 0 in 32 bits, big endian; last is a byte, 1 for the last chunk and 0 for others.
//!
//! # Why
//! - This is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its
//!   Nonce-Reuse Misuse-Resistance", 2015): chunks that are reordered, repeated or left out do not open
//!   under the number that they then have, and a message cut off after a chunk has no last one.
//! - A chunk's plaintext is released when that chunk is authenticated, not before. What comes after it
//!   may still be missing: only [`Decryptor::finish`] says that the message is whole, and a receiver
//!   must be able to discard what it took until then.
//! - Salt, commitment and key per message are as in the [envelope](super::envelope).

use ring::{aead, digest};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    canonical,
    derive::Prk,
    envelope::{
        COMMITMENT_AT, COMMITMENT_LABEL, EnvelopeError, HEADER_BYTES, KeyRef, MESSAGE_KEY_LABEL, SALT_AT,
        SALT_BYTES, Salt, TAG_BYTES,
    },
    prefix::{Prefix, Suite},
    secret::{KeyBytes, Scratch, SecretBytes},
};

/// How much plaintext a chunk holds, unless it is the last one, in bytes.
pub const CHUNK_BYTES: usize = 64 * 1024;
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// How long a message of so many bytes is when it is sealed; `None` if it is too long for the format,
/// 2⁴⁸ bytes.
pub fn sealed_bytes(plaintext_bytes: u64) -> Option<u64> {
    let chunks = plaintext_bytes.div_ceil(CHUNK_BYTES as u64).max(1);
    let tags = u32::try_from(chunks - 1).ok().map(|_| chunks * TAG_BYTES as u64)?;
    Some(HEADER_BYTES as u64 + plaintext_bytes + tags)
}

/// One version of a key, expanded and ready for use. Cannot be printed.
#[derive(Clone)]
pub struct LargeKey {
    prefix: Prefix,
    prk: Prk,
}

impl LargeKey {
    /// Derives the PRK.
    pub fn new(reference: KeyRef, key: &KeyBytes) -> Self {
        let prefix = Prefix { suite: Suite::Large, key: reference };
        Self { prefix, prk: prefix.extract(key) }
    }

    /// Which key this is.
    pub fn reference(&self) -> KeyRef {
        self.prefix.key
    }

    /// Begins a message.
    pub fn encryptor(&self, salt: Salt, context: &[u8]) -> Result<Encryptor, EnvelopeError> {
        let salt = salt.spend();
        let mut header = [0; HEADER_BYTES];
        header[..SALT_AT].copy_from_slice(&self.prefix.bytes());
        header[SALT_AT..COMMITMENT_AT].copy_from_slice(&salt);
        header[COMMITMENT_AT..].copy_from_slice(&*self.commitment(&salt));
        let cipher = self.cipher(&header, &salt, context)?;
        Ok(Encryptor { header: Some(header), chunk: buffer(), cipher })
    }

    /// Begins to open a message, from its first byte on. Which key that is says [`Prefix::read`].
    pub fn decryptor(&self, context: &[u8]) -> Decryptor {
        Decryptor {
            state: State::Header { key: Box::new(self.clone()), context: context.to_vec() },
            buffer: buffer(),
        }
    }

    fn commitment(&self, salt: &[u8]) -> Zeroizing<[u8; HEADER_BYTES - COMMITMENT_AT]> {
        self.prk.expand(&[COMMITMENT_LABEL, salt])
    }

    /// For a message with this header, if it is one of this key.
    fn cipher_of(&self, header: &[u8; HEADER_BYTES], context: &[u8]) -> Result<Chunks, EnvelopeError> {
        if Prefix::read(header) != Some(self.prefix) {
            return Err(EnvelopeError);
        }
        let (salt, commitment) = header[SALT_AT..].split_at(SALT_BYTES);
        if !bool::from(self.commitment(salt).as_slice().ct_eq(commitment)) {
            return Err(EnvelopeError);
        }
        self.cipher(header, salt, context)
    }

    fn cipher(
        &self,
        header: &[u8; HEADER_BYTES],
        salt: &[u8],
        context: &[u8],
    ) -> Result<Chunks, EnvelopeError> {
        let key = self.prk.expand::<32>(&[MESSAGE_KEY_LABEL, salt]);
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, key.as_ref())
            .map_err(|ring::error::Unspecified| EnvelopeError)?;
        let mut aad = [0; digest::SHA256_OUTPUT_LEN];
        let bound = digest::digest(&digest::SHA256, &canonical::encode(&[header, context]));
        aad.copy_from_slice(bound.as_ref());
        Ok(Chunks { key: aead::LessSafeKey::new(key), aad, next: Some(0) })
    }
}

/// Room for a sealed chunk, so that it never grows and leaves no copies behind.
fn buffer() -> Scratch {
    Zeroizing::new(Vec::with_capacity(SEALED_CHUNK_BYTES))
}

/// Seals and opens one message's chunks, in order.
struct Chunks {
    key: aead::LessSafeKey,
    aad: [u8; digest::SHA256_OUTPUT_LEN],
    /// `None` after the last number there is.
    next: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Inner,
    Last,
}

impl Chunks {
    /// Each number once: it is used up even if the call fails.
    fn nonce(&mut self, place: Place) -> Result<aead::Nonce, EnvelopeError> {
        let number = self.next.ok_or(EnvelopeError)?;
        self.next = if place == Place::Last { None } else { number.checked_add(1) };
        let mut nonce = [0; aead::NONCE_LEN];
        nonce[7..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = u8::from(place == Place::Last);
        Ok(aead::Nonce::assume_unique_for_key(nonce))
    }

    /// Moves the chunk out, sealed.
    fn seal(&mut self, place: Place, chunk: &mut Vec<u8>, sealed: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let nonce = self.nonce(place)?;
        self.key
            .seal_in_place_append_tag(nonce, aead::Aad::from(&self.aad), chunk)
            .map_err(|ring::error::Unspecified| EnvelopeError)?;
        sealed.append(chunk);
        Ok(())
    }

    /// Moves the chunk out, opened.
    fn open(&mut self, place: Place, chunk: &mut Vec<u8>, opened: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let nonce = self.nonce(place)?;
        let plaintext = self
            .key
            .open_in_place(nonce, aead::Aad::from(&self.aad), chunk)
            .map_err(|ring::error::Unspecified| EnvelopeError)?;
        opened.extend_from_slice(plaintext);
        chunk.clear();
        Ok(())
    }
}

/// A message on its way to be sealed.
pub struct Encryptor {
    /// Until it is written.
    header: Option<[u8; HEADER_BYTES]>,
    /// Plaintext that is not sealed yet. A full chunk stays here until more comes, as it may be the last.
    chunk: Scratch,
    cipher: Chunks,
}

impl Encryptor {
    /// Takes the next piece of the plaintext, and gives the next bytes of the message, perhaps none.
    ///
    /// # Errors
    /// Beyond 2⁴⁸ bytes of plaintext. After an error every further call fails.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        // The last one stays here.
        let chunks = (self.chunk.len() + piece.len()).saturating_sub(1) / CHUNK_BYTES;
        let header = self.header.take();
        let mut sealed = Vec::with_capacity(header.map_or(0, |_| HEADER_BYTES) + chunks * SEALED_CHUNK_BYTES);
        sealed.extend(header.into_iter().flatten());
        while !piece.is_empty() {
            if self.chunk.len() == CHUNK_BYTES {
                self.cipher.seal(Place::Inner, &mut self.chunk, &mut sealed)?;
            }
            move_into(&mut self.chunk, CHUNK_BYTES, &mut piece);
        }
        Ok(sealed)
    }

    /// Ends the message, and gives the rest of it.
    pub fn finish(mut self) -> Result<Vec<u8>, EnvelopeError> {
        let mut sealed = Vec::with_capacity(HEADER_BYTES + self.chunk.len() + TAG_BYTES);
        sealed.extend(self.header.take().into_iter().flatten());
        self.cipher.seal(Place::Last, &mut self.chunk, &mut sealed)?;
        Ok(sealed)
    }
}

/// A message on its way to be opened.
pub struct Decryptor {
    state: State,
    /// What is read and not yet opened: of the header, or of a chunk. A full chunk stays here until more
    /// comes, as it may be the last.
    buffer: Scratch,
}

enum State {
    Header {
        key: Box<LargeKey>,
        context: Vec<u8>,
    },
    Chunks {
        cipher: Box<Chunks>,
    },
    /// It does not open.
    Failed,
}

impl Decryptor {
    /// Takes the next piece of the message, and gives the plaintext that is authenticated by now, perhaps
    /// none. It is not known yet whether the message goes on as it should: see [`Self::finish`].
    ///
    /// # Errors
    /// If the message does not open with this key and context. Then no further plaintext is given.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<SecretBytes, EnvelopeError> {
        // The last one stays here. Never grows, or it would leave copies behind.
        let chunks = (self.buffer.len() + piece.len()).saturating_sub(1) / SEALED_CHUNK_BYTES;
        let mut opened: Scratch = Zeroizing::new(Vec::with_capacity(chunks * CHUNK_BYTES));
        while !piece.is_empty() {
            self.step(&mut piece, &mut opened).inspect_err(|_| self.state = State::Failed)?;
        }
        Ok(SecretBytes::new(std::mem::take(&mut *opened)))
    }

    /// Ends the message: gives the rest of the plaintext if all of it has come.
    ///
    /// # Errors
    /// As [`Self::push`], and if something is missing. What was given before is then not to be used.
    pub fn finish(mut self) -> Result<SecretBytes, EnvelopeError> {
        let mut opened: Scratch = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES));
        let State::Chunks { cipher } = &mut self.state else { return Err(EnvelopeError) };
        // Only an empty message ends in an empty chunk, or there were two forms of one plaintext.
        let first = cipher.next == Some(0);
        if self.buffer.len() <= TAG_BYTES && !first {
            return Err(EnvelopeError);
        }
        cipher.open(Place::Last, &mut self.buffer, &mut opened)?;
        Ok(SecretBytes::new(std::mem::take(&mut *opened)))
    }

    /// Takes of the piece what completes the header or the chunk at most.
    fn step(&mut self, piece: &mut &[u8], opened: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        match &mut self.state {
            State::Header { key, context } => {
                move_into(&mut self.buffer, HEADER_BYTES, piece);
                if let Ok(header) = <&[u8; HEADER_BYTES]>::try_from(self.buffer.as_slice()) {
                    let cipher = key.cipher_of(header, context)?;
                    self.state = State::Chunks { cipher: Box::new(cipher) };
                    self.buffer.clear();
                }
            }
            State::Chunks { cipher } => {
                if self.buffer.len() == SEALED_CHUNK_BYTES {
                    cipher.open(Place::Inner, &mut self.buffer, opened)?;
                }
                move_into(&mut self.buffer, SEALED_CHUNK_BYTES, piece);
            }
            State::Failed => return Err(EnvelopeError),
        }
        Ok(())
    }
}

/// Fills the buffer up to its bound, and leaves the rest of the piece.
fn move_into(buffer: &mut Vec<u8>, bound: usize, piece: &mut &[u8]) {
    let room = bound.saturating_sub(buffer.len());
    let (taken, rest) = piece.split_at(room.min(piece.len()));
    buffer.extend_from_slice(taken);
    *piece = rest;
}

#[cfg(test)]
mod tests;
