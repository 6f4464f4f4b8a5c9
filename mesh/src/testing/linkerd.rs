//! For tests: a stand-in for the Linkerd proxy. It does what the real one does to a call: mutual TLS
//! between proxies, HTTP/2 in clear with the application, and the header `l5d-client-id` set to the client's
//! identity in place of whatever was there, or removed where the client has none. What it takes for opaque it
//! passes on untouched: [`opaque_inbound`].

use std::{io, net::SocketAddr};

use http::{HeaderValue, Request};
use hyper::{body::Incoming, client::conn::http2::SendRequest, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    identity::SpiffeId,
    tls::{Identity, Peer},
};

/// The proxy's side towards the network, for calls to the application at `app`. With an identity clients must
/// have a certificate; without one they are not meshed, and nobody is said to call. It ends with the runtime.
pub async fn inbound(identity: Option<Identity>, app: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let identity = identity.clone();
            tokio::spawn(async move {
                let to = TcpStream::connect(app).await?;
                let Some(identity) = identity else { return relay(stream, to, Header::Client(None)).await };
                let stream = TlsAcceptor::from(identity.server_config()).accept(stream).await?;
                let client = Peer::of(stream.get_ref().1).and_then(|peer| client_id(peer.id().name()));
                relay(stream, to, Header::Client(client)).await
            });
        }
    });
    Ok(address)
}

/// The same side of a proxy that takes connections for opaque, for want of a `Server` with `proxyProtocol: gRPC`:
/// the port is marked so, or the client was silent until the detection of its protocol timed out. It still does
/// mutual TLS with the client, and passes every byte on as it came. It ends with the runtime.
pub async fn opaque_inbound(identity: Identity, app: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let identity = identity.clone();
            tokio::spawn(async move {
                let mut to = TcpStream::connect(app).await?;
                let mut stream = TlsAcceptor::from(identity.server_config()).accept(stream).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut to).await
            });
        }
    });
    Ok(address)
}

/// The proxy's side towards its own application, which is `identity`, for calls to the workload `peer` whose
/// proxy is at `to`. It ends with the runtime.
pub async fn outbound(identity: Identity, peer: SpiffeId, to: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let config = identity.client_config(&peer);
            tokio::spawn(async move {
                let config = config.map_err(io::Error::other)?;
                let name = rustls::pki_types::ServerName::try_from("localhost").map_err(io::Error::other)?;
                let to = TlsConnector::from(config).connect(name, TcpStream::connect(to).await?).await?;
                relay(stream, to, Header::AsItIs).await
            });
        }
    });
    Ok(address)
}

/// The identity of a service account as Linkerd writes it.
pub fn client_id(service_account: &str) -> Option<HeaderValue> {
    let text = format!("{service_account}.paymesh.serviceaccount.identity.linkerd.cluster.local");
    text.parse().ok()
}

#[derive(Clone)]
enum Header {
    AsItIs,
    Client(Option<HeaderValue>),
}

/// Passes each request on, trailers and all, until one side ends.
async fn relay<A, B>(from: A, to: B, header: Header) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(to));
    let (sender, connection): (SendRequest<Incoming>, _) = handshake.await.map_err(io::Error::other)?;
    let ended = tokio::spawn(connection);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Header::Client(client) = &header {
            request.headers_mut().remove("l5d-client-id");
            if let Some(client) = client {
                request.headers_mut().insert("l5d-client-id", client.clone());
            }
        }
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(from), service);
    tokio::select! {
        ended = serving => ended.map_err(io::Error::other),
        _ = ended => Ok(()),
    }
}
