//! Every RPC of a service, called with an empty message.

use std::time::Duration;

use bytes::Buf as _;
use mesh::{Reason, policy::Rpc};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::tokio_stream,
};

use crate::common::{World, call, reason};

/// Who may call something.
const CALLERS: [&str; 3] = ["operator", "svc-payments", "edge-gateway"];

/// Messages without content.
#[derive(Clone, Copy)]
struct Empty;

impl Codec for Empty {
    type Encode = ();
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Empty {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Empty {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}

async fn said(world: &World, caller: &str, rpc: Rpc) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(world.harness.upstream(caller, &world.service).unwrap());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = format!("/{}", rpc.name()).parse().unwrap();
    let mut request = call("acme", tokio_stream::once(()));
    // Shorter than the time after which it may be tried again: the client does not wait for that.
    request.set_timeout(Duration::from_secs(4));
    let answers = client.streaming(request, path, Empty).await?;
    answers.into_inner().message().await.map(|_| ())
}

/// How many RPCs these services have, all of which must be refused as sealed to whoever may call them.
pub(super) async fn are_sealed(world: &World, services: &[&str]) -> usize {
    let rpcs: Vec<Rpc> = Rpc::all().filter(|rpc| services.contains(&rpc.service())).collect();
    for rpc in &rpcs {
        let mut reasons = Vec::new();
        for caller in CALLERS {
            reasons.push(reason(said(world, caller, *rpc).await));
        }
        reasons.retain(|reason| *reason != Reason::PermissionDenied);
        assert!(!reasons.is_empty(), "{}: somebody may call it", rpc.name());
        assert!(reasons.iter().all(|reason| *reason == Reason::VaultSealed), "{}: {reasons:?}", rpc.name());
    }
    rpcs.len()
}
