//! A snapshot's bytes: a head, blocks of accounts and of reservations, and a keyed hash over all of it. Written
//! and read as a stream, one block in memory at a time.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use money::Timestamp;

use crate::{
    domain::{Account, Transfer},
    journal::{
        chain::HASH_BYTES,
        codec::{DecodeError, Decoder, Encoder},
        key::JournalKey,
    },
    store::ports::{Sequence, Snapshot},
};

/// What a snapshot begins with.
const MAGIC: [u8; 4] = *b"PMLS";

/// The version that this program writes, and the only one that it reads: a snapshot can be made again.
const VERSION: u16 = 1;

/// How many items a block has at most.
const BLOCK_ITEMS: usize = 4_096;

/// How long a block can be, in bytes: no item takes more than 700.
const BLOCK_BYTES_MAX: usize = BLOCK_ITEMS * 700;

/// How much is hashed at once where nothing is taken up, in bytes.
const BLOCK_BYTES_CHECKED: usize = 64 << 10;

/// Writes a snapshot; returns what it was written to.
pub(super) fn write<W: Write>(snapshot: &Snapshot, key: &JournalKey, to: W) -> io::Result<W> {
    let mut to = Hashed { with: to, hasher: key.hasher() };
    to.write(&MAGIC)?;
    to.write(&VERSION.to_le_bytes())?;
    to.write(&[0; 2])?;
    to.write(&key.id())?;
    to.write(&snapshot.sequence.to_le_bytes())?;
    to.write(&snapshot.hash)?;
    to.write(&snapshot.last.as_nanos().to_le_bytes())?;
    to.write(&(snapshot.accounts.len() as u64).to_le_bytes())?;
    to.write(&(snapshot.reservations.len() as u64).to_le_bytes())?;
    let mut block = Vec::new();
    for accounts in snapshot.accounts.chunks(BLOCK_ITEMS) {
        block.clear();
        let mut encoder = Encoder::new(&mut block);
        for account in accounts {
            encoder.account(account);
        }
        to.block(&block)?;
    }
    for reservations in snapshot.reservations.chunks(BLOCK_ITEMS) {
        block.clear();
        let mut encoder = Encoder::new(&mut block);
        for reservation in reservations {
            encoder.transfer(reservation);
        }
        to.block(&block)?;
    }
    let Hashed { mut with, hasher } = to;
    with.write_all(hasher.finalize().as_bytes())?;
    Ok(with)
}

/// Which record a snapshot is of; an error where it is not whole, not of this key or not of this version. Takes up
/// nothing of what it holds. `length` is that of all of it, in bytes.
pub(super) fn check<R: Read>(key: &JournalKey, length: u64, from: R) -> io::Result<Sequence> {
    let mut from = Hashed { with: from.take(length), hasher: key.hasher() };
    let sequence = head(&mut from, key)?;
    let mut block = vec![0; BLOCK_BYTES_CHECKED];
    loop {
        // The hash itself is left.
        let left = from.with.limit().saturating_sub(HASH_BYTES as u64);
        let next = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        if next == 0 {
            break;
        }
        from.with.read_exact(&mut block[..next])?;
        from.hasher.update(&block[..next]);
    }
    from.finish()?;
    Ok(sequence)
}

/// What each snapshot begins with; the record that it is of.
fn head<R: Read>(from: &mut Hashed<R>, key: &JournalKey) -> io::Result<Sequence> {
    if from.take()? != MAGIC {
        return Err(wrong("it does not begin as a snapshot does"));
    }
    if u16::from_le_bytes(from.take()?) != VERSION || from.take()? != [0; 2] {
        return Err(wrong("it is of another version"));
    }
    if from.take()? != key.id() {
        return Err(wrong("it was written with another key"));
    }
    Ok(u64::from_le_bytes(from.take()?))
}

/// Reads a snapshot; an error where it is not whole, not of this key or not of this version.
pub(super) fn read<R: Read>(key: &JournalKey, from: R) -> io::Result<Snapshot> {
    let mut from = Hashed { with: from, hasher: key.hasher() };
    let sequence = head(&mut from, key)?;
    let hash = from.take()?;
    let last = Timestamp::from_nanos(i64::from_le_bytes(from.take()?));
    let accounts = u64::from_le_bytes(from.take()?);
    let reservations = u64::from_le_bytes(from.take()?);
    let mut decoder = Decoder::default();
    let accounts: Vec<Account> = from.items(accounts, |block, count| decoder.accounts(block, count))?;
    let reservations: Vec<Arc<Transfer>> =
        from.items(reservations, |block, count| decoder.transfers(block, count))?;
    from.finish()?;
    Ok(Snapshot { sequence, hash, last, accounts, reservations })
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::other(what)
}

/// What is written or read, and the hash of it so far.
struct Hashed<T> {
    with: T,
    hasher: blake3::Hasher,
}

impl<W: Write> Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.with.write_all(bytes)
    }

    fn block(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.write(&length.to_le_bytes())?;
        self.write(bytes)
    }
}

impl<R: Read> Hashed<R> {
    /// The end: the hash of all before it, and nothing more.
    fn finish(self) -> io::Result<()> {
        let Self { with: mut rest, hasher } = self;
        let mut claimed = [0; HASH_BYTES];
        rest.read_exact(&mut claimed)?;
        if *hasher.finalize().as_bytes() != claimed {
            return Err(wrong("its bytes are not those that its hash was made of"));
        }
        if rest.read(&mut [0])? != 0 {
            return Err(wrong("there is more behind its hash"));
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.with.read_exact(&mut bytes)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    /// So many items, in blocks. What is read is bounded by what is there, not by what the count says.
    fn items<T>(
        &mut self,
        count: u64,
        mut decode: impl FnMut(&[u8], usize) -> Result<Vec<T>, DecodeError>,
    ) -> io::Result<Vec<T>> {
        let (mut items, mut block) = (Vec::new(), Vec::new());
        let count = usize::try_from(count).map_err(io::Error::other)?;
        while items.len() < count {
            let length = u32::from_le_bytes(self.take()?) as usize;
            if length > BLOCK_BYTES_MAX {
                return Err(wrong("a block is longer than one may be"));
            }
            block.resize(length, 0);
            self.with.read_exact(&mut block)?;
            self.hasher.update(&block);
            let in_block = (count - items.len()).min(BLOCK_ITEMS);
            items.append(&mut decode(&block, in_block).map_err(io::Error::other)?);
        }
        Ok(items)
    }
}
