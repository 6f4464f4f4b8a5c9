//! The part of the Workload API's contract that is used: one RPC and its messages. Written from the
//! standard; field numbers as there.

use std::fmt;

use tonic::{Request, Status, Streaming, transport::Channel};
use tonic_prost::ProstCodec;

pub(super) const PATH: &str = "/SpiffeWorkloadAPI/FetchX509SVID";

/// Asks for all that there is.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct X509SvidRequest {}

/// Everything that the workload has from now on.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<X509Svid>,
}

/// One identity of the workload.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct X509Svid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    /// The chain in DER, the workload's own certificate first.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) chain: Vec<u8>,
    /// PKCS #8 in DER.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) key: Vec<u8>,
    /// The roots of the trust domain in DER.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) bundle: Vec<u8>,
}

/// Without the key.
impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X509Svid({})", self.spiffe_id)
    }
}

/// The key does not stay behind in memory that is used again.
impl Drop for X509Svid {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}

pub(super) async fn fetch_x509_svid(
    channel: Channel,
    request: Request<X509SvidRequest>,
) -> Result<Streaming<X509SvidResponse>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|_| Status::unavailable("the agent is gone"))?;
    let codec = ProstCodec::<X509SvidRequest, X509SvidResponse>::default();
    let path = http::uri::PathAndQuery::from_static(PATH);
    Ok(grpc.server_streaming(request, path, codec).await?.into_inner())
}
