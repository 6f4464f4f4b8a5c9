//! Operations over bidirectional streams, some messages of each under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use paymesh_proto::crypto::v1::StreamRequest;
use paymesh_proto::crypto::v1::crypto_service_client::CryptoServiceClient;
use paymesh_proto::crypto::v1::stream_request::Numbered;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use super::ground::Ground;
use super::unary::all;
use super::{BatchShape, DEADLINE, caller, is_sealed, operation};
use crate::echo::{Connection, PAYLOAD, with_metadata};
use crate::error::BenchError;
use crate::load::{Bound, Pace, Run};
use crate::report::Figures;

/// Drives streams, each on a connection of its own; figures and bound are of messages.
pub(super) fn drive(ground: &Ground, shape: BatchShape, bound: Bound) -> Result<(Figures, u64), BenchError> {
    caller()?.block_on(async {
        let run = Arc::new(Run::new(bound, Pace::Closed, Instant::now()));
        let mut workers = JoinSet::new();
        for _ in 0..shape.callers {
            workers.spawn(work(ground.connect().await?, shape, Arc::clone(&run)));
        }
        all(workers).await?;
        Ok((run.figures(), run.all()))
    })
}

/// A message that is under way.
struct Message {
    due: Instant,
    /// Operations of it without an answer.
    left: u32,
}

async fn work(
    mut client: CryptoServiceClient<Connection>,
    shape: BatchShape,
    run: Arc<Run>,
) -> Result<(), BenchError> {
    let (sender, messages) = mpsc::channel(shape.window as usize);
    let mut answers =
        client.stream(with_metadata(ReceiverStream::new(messages), DEADLINE)?).await?.into_inner();
    let plaintext = Bytes::from_static(PAYLOAD);
    let per_call = u64::from(shape.per_call);
    let mut under_way: HashMap<u64, Message> = HashMap::new();
    // One is asked for each that was answered, and a window of them at first.
    let ask = |under_way: &mut HashMap<u64, Message>| {
        let Some((ticket, due)) = run.next(Instant::now()) else { return Ok(()) };
        let operations = (0..per_call)
            .map(|n| Numbered { request_id: ticket * per_call + n, operation: Some(operation(&plaintext)) });
        under_way.insert(ticket, Message { due, left: shape.per_call });
        sender
            .try_send(StreamRequest { operations: operations.collect() })
            .map_err(|_| BenchError::Crypto("the stream takes no more".to_owned()))
    };
    for _ in 0..shape.window {
        ask(&mut under_way)?;
    }
    while !under_way.is_empty() {
        let Some(answer) = answers.message().await? else {
            return Err(BenchError::Crypto("the stream ended early".to_owned()));
        };
        for outcome in answer.outcomes {
            is_sealed(outcome.outcome.and_then(|outcome| outcome.result).as_ref(), plaintext.len())?;
            let ticket = outcome.request_id / per_call;
            let Some(message) = under_way.get_mut(&ticket) else {
                return Err(BenchError::Crypto("an answer to what was not asked".to_owned()));
            };
            message.left -= 1;
            if message.left == 0 {
                run.answered(message.due, Instant::now());
                under_way.remove(&ticket);
                ask(&mut under_way)?;
            }
        }
    }
    Ok(())
}
