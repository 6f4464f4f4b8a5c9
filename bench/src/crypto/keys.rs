//! Many keys of many versions, all of them in use: memory, and what a call costs then.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paymesh_proto::crypto::v1::crypto_service_client::CryptoServiceClient;
use paymesh_proto::crypto::v1::operation::Verb;
use paymesh_proto::crypto::v1::{BatchRequest, EncryptRequest, Operation, RotateKeyRequest};
use svc_crypto::config::Config;
use tokio::task::JoinSet;

use super::ground::{Ground, make_key};
use super::unary::all;
use super::{AAD, DEADLINE, PER_CALL_MAX, caller, is_sealed};
use crate::echo::{Connection, PAYLOAD, with_metadata};
use crate::error::BenchError;
use crate::memory;

/// Keys that are made at once.
const AT_ONCE: u32 = 64;
/// How often all keys are used, so that their memory is that of a service at work.
const USES: u32 = 3;

/// Makes them, uses each, and says what memory that took.
pub(super) fn measure(parent: &Path, keys: u32, versions: u32) -> Result<(), BenchError> {
    // Room for all, as they are kept in two generations.
    let config = Config { keys_cached_max: keys as usize * 2, ..Config::default() };
    let ground = Arc::new(Ground::start_without_keys(parent, config)?);
    caller()?.block_on(async {
        let begun = Instant::now();
        make(&ground, keys, versions).await?;
        println!("{keys} keys of {versions} versions made in {:.1} s", begun.elapsed().as_secs_f64());
        let before = memory::here();
        let mut client = ground.connect().await?;
        let cold = use_all(&mut client, keys).await?;
        let after = memory::here();
        let mut warm = Duration::MAX;
        for _ in 0..USES {
            warm = warm.min(use_all(&mut client, keys).await?);
        }
        let mebibytes = |bytes: u64| bytes >> 20;
        println!(
            "cached: {} MiB more than before (from {} to {} MiB in memory; goal: under 100 MiB)",
            mebibytes(after.saturating_sub(before)),
            mebibytes(before),
            mebibytes(after),
        );
        println!("an encryption under each key: {cold:.2?} when none is cached, {warm:.2?} when all are");
        Ok::<_, BenchError>(())
    })
}

fn name_of(number: u32) -> String {
    format!("payments.k{number}")
}

async fn make(ground: &Arc<Ground>, keys: u32, versions: u32) -> Result<(), BenchError> {
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let mut client = ground.keys()?;
        workers.spawn(async move {
            for number in (worker..keys).step_by(AT_ONCE as usize) {
                make_key(&mut client, &name_of(number)).await?;
                for _ in 1..versions {
                    let request = RotateKeyRequest { name: name_of(number), ..Default::default() };
                    client.rotate_key(with_metadata(request, DEADLINE)?).await?;
                }
            }
            Ok(())
        });
    }
    all(workers).await
}

async fn use_all(client: &mut CryptoServiceClient<Connection>, keys: u32) -> Result<Duration, BenchError> {
    let plaintext = Bytes::from_static(PAYLOAD);
    let begun = Instant::now();
    let numbers: Vec<u32> = (0..keys).collect();
    for numbers in numbers.chunks(PER_CALL_MAX as usize) {
        let operations = numbers.iter().map(|number| {
            let request = EncryptRequest {
                key_name: name_of(*number),
                plaintext: plaintext.clone(),
                aad: Bytes::from_static(AAD),
                key_version: 0,
            };
            Operation { verb: Some(Verb::Encrypt(request)), tenant: String::new() }
        });
        let request = with_metadata(BatchRequest { operations: operations.collect() }, DEADLINE)?;
        for outcome in client.batch(request).await?.into_inner().outcomes {
            is_sealed(outcome.result.as_ref(), plaintext.len())?;
        }
    }
    Ok(begun.elapsed())
}
