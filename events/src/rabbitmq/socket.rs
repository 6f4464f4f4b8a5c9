//! The connection's bytes: TCP, with TLS where it is configured, which ends when it is told to.
//!
//! lapin's own TLS would bring a second stack of certificates and trust public authorities, and its reading thread
//! would wait for a silent broker for ever. So it is handed a stream of ours.

use std::{
    future::Future,
    io::{self, Read, Write},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_rs::{Runtime, Tokio, traits::Reactor, util::RuntimeParts};
use futures_core::Stream;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt as _},
    sync::{CancellationToken, WaitForCancellationFutureOwned},
};

use crate::publish::BrokerError;

/// What carries bytes.
trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

/// A connection that fails once it is cut.
pub(super) struct Socket {
    carrier: Box<dyn Carrier>,
    cut: CancellationToken,
    /// Wakes the reader.
    cutting: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Connects; with TLS where there is a configuration for it. The stream fails once `cut` is cancelled.
pub(super) async fn connect(
    host: &str,
    port: u16,
    tls: Option<&Arc<ClientConfig>>,
    cut: &CancellationToken,
) -> Result<Compat<Socket>, BrokerError> {
    let stream = TcpStream::connect((host, port)).await.map_err(|_| BrokerError::Unreachable)?;
    stream.set_nodelay(true).map_err(|_| BrokerError::Lost)?;
    let carrier: Box<dyn Carrier> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| BrokerError::Tls)?;
            let connector = TlsConnector::from(Arc::clone(config));
            Box::new(connector.connect(name, stream).await.map_err(|_| BrokerError::Tls)?)
        }
    };
    let cutting = Box::pin(cut.clone().cancelled_owned());
    Ok(Socket { carrier, cut: cut.clone(), cutting }.compat())
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.is_cancelled() || self.cutting.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.carrier).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.carrier).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_shutdown(context)
    }
}

/// What lapin runs on: this runtime, with our sockets.
pub(super) type Kit = RuntimeParts<Tokio, Sockets>;

/// The runtime that this is called in.
pub(super) fn runtime() -> Runtime<Kit> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Sockets(Tokio::current())))
}

/// The part of the runtime that knows sockets and time.
#[derive(Debug, Clone)]
pub(super) struct Sockets(Tokio);

impl Reactor for Sockets {
    type TcpStream = Compat<Socket>;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// Nobody asks: this is for sockets of other libraries.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl futures_io::AsyncRead + futures_io::AsyncWrite + Send + Unpin + 'static> {
        Err::<Compat<Socket>, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    /// Nobody asks: every connection is given its socket.
    fn tcp_connect_addr(
        &self,
        _address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
