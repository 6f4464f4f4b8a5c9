//! Encryption on the spot with a cached data key, beside what ring alone does to as many bytes.
#![allow(clippy::float_arithmetic, reason = "rates for people; no amount is computed here")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use crypto_client::{CryptoClient, LocalEncryption};
use mesh::testing::call_of;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::ground::Ground;
use super::{AAD, KEY, caller};
use crate::error::BenchError;

/// Between two looks at the clock.
const BURST: u32 = 64;
/// How often the two take turns, so that what else the machine does burdens both.
const TURNS: u32 = 10;

/// Measures both in turn on one thread, and says how they compare.
pub(super) fn compare(parent: &Path, bytes: u32, seconds: u64) -> Result<(), BenchError> {
    let ground = Ground::start(parent)?;
    let plaintext = vec![0xa5; bytes as usize];
    let turn = Duration::from_secs(seconds) / TURNS;
    let mut rates = Vec::new();
    let bare = Bare::new()?;
    caller()?.block_on(async {
        let local = LocalEncryption::new(CryptoClient::new(ground.upstream()?), KEY);
        let call = call_of("acme");
        let tenant = call.tenant().map_err(failed)?.clone();
        for _ in 0..TURNS {
            let ring = rate(turn, async || bare.seal(&plaintext, NonceAt::End)).await?;
            let ring_shifted = rate(turn, async || bare.seal(&plaintext, NonceAt::Beginning)).await?;
            let ring_in_place = rate_in_place(&bare, turn, &plaintext)?;
            let sealed =
                rate(turn, async || local.seal(&call, &tenant, AAD, &plaintext).await.map_err(failed))
                    .await?;
            rates.push([ring, ring_shifted, ring_in_place, sealed]);
        }
        // What was sealed so fast opens.
        let envelope = local.seal(&call, &tenant, AAD, &plaintext).await.map_err(failed)?;
        let opened = local.open(&call, &tenant, AAD, &envelope).await.map_err(failed)?;
        if opened.expose() == plaintext {
            Ok(())
        } else {
            Err(BenchError::Crypto("it opens as another".to_owned()))
        }
    })?;
    ground.stop();
    let middle = |of: fn(&[f64; 4]) -> f64| crate::report::middle(rates.iter().map(of)).unwrap_or(0.0);
    let mib = |rate: f64| rate * f64::from(bytes) / f64::from(1 << 20);
    println!(
        "local, {bytes} bytes on one thread: {:.0} MiB/s; ring into a fresh buffer {:.0} MiB/s, with the nonce first \
         {:.0} MiB/s, in place {:.0} MiB/s",
        mib(middle(|[.., local]| *local)),
        mib(middle(|[fresh, ..]| *fresh)),
        mib(middle(|[_, shifted, ..]| *shifted)),
        mib(middle(|[_, _, in_place, _]| *in_place)),
    );
    println!(
        "local / ring into a fresh buffer: {:.3} (goal: at least 0.8); with the nonce first: {:.3}; in place: {:.3}",
        middle(|[fresh, .., local]| local / fresh),
        middle(|[_, shifted, _, local]| local / shifted),
        middle(|[_, _, in_place, local]| local / in_place),
    );
    Ok(())
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn failed(fault: mesh::Fault) -> BenchError {
    BenchError::Crypto(fault.to_string())
}

/// How often a second.
async fn rate(
    time: Duration,
    mut seal: impl AsyncFnMut() -> Result<Vec<u8>, BenchError>,
) -> Result<f64, BenchError> {
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < time {
        for _ in 0..BURST {
            black_box(seal().await?);
        }
        count += BURST;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

fn rate_in_place(bare: &Bare, time: Duration, plaintext: &[u8]) -> Result<f64, BenchError> {
    let mut buffer = plaintext.to_vec();
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < time {
        for _ in 0..BURST {
            let nonce = bare.nonce()?;
            let _ = black_box(
                bare.key.seal_in_place_separate_tag(nonce, Aad::from(AAD), &mut buffer).map_err(refused)?,
            );
        }
        count += BURST;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

fn refused(_: ring::error::Unspecified) -> BenchError {
    BenchError::Crypto("ring refused".to_owned())
}

/// AES-256-GCM with a random nonce, and nothing else.
struct Bare {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Bare {
    fn new() -> Result<Self, BenchError> {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(refused)?;
        Ok(Self { key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    fn nonce(&self) -> Result<Nonce, BenchError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(refused)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Into a buffer of its own that also holds the nonce, as one who stores it has to.
    fn seal(&self, plaintext: &[u8], place: NonceAt) -> Result<Vec<u8>, BenchError> {
        let mut random = [0; NONCE_LEN];
        self.random.fill(&mut random).map_err(refused)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plaintext.len() + AES_256_GCM.tag_len());
        if place == NonceAt::Beginning {
            sealed.extend_from_slice(&random);
        }
        let begins_at = sealed.len();
        sealed.extend_from_slice(plaintext);
        let body = sealed.get_mut(begins_at..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(random);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(AAD), body).map_err(refused)?;
        sealed.extend_from_slice(tag.as_ref());
        if place == NonceAt::End {
            sealed.extend_from_slice(&random);
        }
        Ok(sealed)
    }
}

/// Where the nonce is kept. Before the ciphertext it shifts that from where the buffer begins, by 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NonceAt {
    Beginning,
    End,
}
