//! How often memory is asked for in a call, by client and service together.
//!
//! Counted is the difference between many calls and few, so that what is made once is left out.

use bytes::Bytes;
use paymesh_proto::crypto::v1::crypto_service_client::CryptoServiceClient;
use paymesh_proto::crypto::v1::{BatchRequest, DecryptRequest};

use super::ground::Ground;
use super::{BatchShape, DEADLINE, KEY, answered, caller, encrypt, is_sealed, operation, stream};
use crate::echo::{self, Connection, PAYLOAD, with_metadata};
use crate::error::BenchError;
use crate::load::Bound;

/// Calls that count.
const CALLS: u32 = 500;
/// Calls before them.
const WARM_UP: u32 = 100;

/// What was asked for so far.
#[derive(Debug, Clone, Copy)]
struct Asked {
    times: u64,
    bytes: u64,
}

#[cfg(feature = "allocations")]
fn so_far() -> Asked {
    let stats = stats_alloc::INSTRUMENTED_SYSTEM.stats();
    Asked { times: (stats.allocations + stats.reallocations) as u64, bytes: stats.bytes_allocated as u64 }
}

#[cfg(not(feature = "allocations"))]
fn so_far() -> Asked {
    Asked { times: 0, bytes: 0 }
}

/// Prints a line for each way to call.
pub(super) fn measure(ground: &Ground, per_call: u32) -> Result<(), BenchError> {
    if !cfg!(feature = "allocations") {
        return Err(BenchError::Crypto(
            "the program does not count: build it with --features allocations".to_owned(),
        ));
    }
    println!("{:38} {:>12} {:>12}", "allocations, client and service", "each", "bytes each");
    let shape = echo::Shape::of(1, 1).with_payload(64);
    let echoes = |calls| echo::limits_of(&shape, Bound::Count(u64::from(calls))).map(|_| ());
    // Both limits, without a client's metadata and with it: half of that is what one of them takes.
    report("echo, the mean of with and without metadata", 2, slope(echoes)?);
    let runtime = caller()?;
    let mut client = runtime.block_on(ground.connect())?;
    let plaintext = Bytes::from_static(PAYLOAD);
    let mut each = |name: &str, items: u32, make: fn(&Bytes, u32) -> BatchRequest, sent: bool| {
        let mut run = |calls: u32| -> Result<(), BenchError> {
            for _ in 0..calls {
                let request = with_metadata(make(&plaintext, items), DEADLINE)?;
                if sent {
                    runtime.block_on(batch(&mut client, request))?;
                }
            }
            Ok(())
        };
        run(WARM_UP)?;
        report(name, items, slope(run)?);
        Ok::<_, BenchError>(())
    };
    each("batch: one of them", per_call, operations, true)?;
    each("  of it the client's message", per_call, operations, false)?;
    let mut unary = ground_calls(&runtime, ground)?;
    report("Encrypt", 1, slope(|calls| unary.encrypt(calls))?);
    report("Decrypt", 1, slope(|calls| unary.decrypt(calls))?);
    let shape = BatchShape { callers: 1, per_call, window: 8 };
    let streams = |calls| stream::drive(ground, shape, Bound::Count(u64::from(calls))).map(|_| ());
    report("stream: one of them", per_call, slope(streams)?);
    Ok(())
}

fn operations(plaintext: &Bytes, items: u32) -> BatchRequest {
    BatchRequest { operations: (0..items).map(|_| operation(plaintext)).collect() }
}

async fn batch(
    client: &mut CryptoServiceClient<Connection>,
    request: tonic::Request<BatchRequest>,
) -> Result<(), BenchError> {
    for outcome in &client.batch(request).await?.into_inner().outcomes {
        is_sealed(outcome.result.as_ref(), PAYLOAD.len())?;
    }
    Ok(())
}

/// Single calls on one connection.
struct Calls<'a> {
    runtime: &'a tokio::runtime::Runtime,
    client: CryptoServiceClient<Connection>,
    sealed: Bytes,
}

fn ground_calls<'a>(runtime: &'a tokio::runtime::Runtime, ground: &Ground) -> Result<Calls<'a>, BenchError> {
    let client = runtime.block_on(ground.connect())?;
    let mut calls = Calls { runtime, client, sealed: Bytes::new() };
    calls.encrypt(WARM_UP)?;
    calls.decrypt(WARM_UP)?;
    Ok(calls)
}

impl Calls<'_> {
    fn encrypt(&mut self, calls: u32) -> Result<(), BenchError> {
        for _ in 0..calls {
            let request = with_metadata(encrypt(&Bytes::from_static(PAYLOAD)), DEADLINE)?;
            let answer = self.runtime.block_on(self.client.encrypt(request))?.into_inner();
            answered(&answer, PAYLOAD.len())?;
            self.sealed = answer.ciphertext;
        }
        Ok(())
    }

    fn decrypt(&mut self, calls: u32) -> Result<(), BenchError> {
        for _ in 0..calls {
            let request = DecryptRequest {
                key_name: KEY.to_owned(),
                ciphertext: self.sealed.clone(),
                aad: Bytes::from_static(super::AAD),
            };
            self.runtime.block_on(self.client.decrypt(with_metadata(request, DEADLINE)?))?;
        }
        Ok(())
    }
}

/// What [`CALLS`] more take than [`CALLS`].
fn slope(mut run: impl FnMut(u32) -> Result<(), BenchError>) -> Result<Asked, BenchError> {
    let (mut few, mut many) = (so_far(), so_far());
    for (calls, taken) in [(CALLS, &mut few), (2 * CALLS, &mut many)] {
        let before = so_far();
        run(calls)?;
        let after = so_far();
        *taken = Asked { times: after.times - before.times, bytes: after.bytes - before.bytes };
    }
    Ok(Asked { times: many.times.saturating_sub(few.times), bytes: many.bytes.saturating_sub(few.bytes) })
}

#[allow(clippy::float_arithmetic, reason = "means for people; no amount is computed here")]
fn report(name: &str, items: u32, asked: Asked) {
    let each = |sum: u64| sum as f64 / f64::from(CALLS) / f64::from(items);
    println!("{name:38} {:>12.2} {:>12.0}", each(asked.times), each(asked.bytes));
}
