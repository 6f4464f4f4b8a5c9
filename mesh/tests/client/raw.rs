//! A server in clear that answers frame by frame as it is told: what no service of ours does, but proxies,
//! crashes and other people's servers do.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response, uri::Scheme};
use mesh::{
    SpiffeId, Upstream, UpstreamParts, UpstreamSettings,
    client::{Connect, Connecting},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::Status;

use crate::world::{Client, World};

/// What it does with a call.
#[derive(Clone)]
pub(crate) enum Answer {
    /// The request's message, and OK.
    Echo,
    /// An HTTP status and no gRPC.
    Http(u16),
    Status(Status),
    /// As the Linkerd proxy beside the client does in the service's place. The one beside the service says the
    /// same without its header: see `Answer::Status`, with a status that is not a [`mesh::Fault`]'s.
    Linkerd(Status),
    /// Headers and half a message, then the connection ends.
    Half,
    /// Nothing; the connection ends.
    Lost,
    /// Headers, and then nothing for ever.
    Headers,
    /// Not looked at.
    Refused,
    /// The stream is reset.
    Reset(Reason),
}

pub(crate) struct Raw {
    address: SocketAddr,
    calls: Arc<AtomicU32>,
}

impl Raw {
    /// Answers its first call with `answers(0)`.
    pub(crate) async fn start(answers: impl Fn(u32) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, calls) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
        let (answers, counted) = (Arc::new(answers), Arc::clone(&calls));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, calls) = (Arc::clone(&answers), Arc::clone(&counted));
                tokio::spawn(async move {
                    let next = || answers(calls.fetch_add(1, Ordering::SeqCst));
                    let _ = serve(stream, next).await;
                });
            }
        });
        Self { address, calls }
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn client(&self, world: &World, settings: UpstreamSettings) -> Client {
        let parts = world.parts(settings.clone());
        let parts = UpstreamParts { connect: Arc::new(Clear::default()), ..parts };
        let peer = SpiffeId::of("svc-replica").unwrap();
        let upstream = Upstream::of(&peer, &self.address.to_string(), parts).unwrap();
        Client { upstream, ..world.client(settings, &[]) }
    }
}

async fn serve(stream: TcpStream, next: impl Fn() -> Answer) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut lost = false;
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                let answer = next();
                lost |= matches!(answer, Answer::Half | Answer::Lost);
                tokio::spawn(give(answer, request, respond));
            }
            // What was written so far has been sent when the connection is asked again.
            () = yielded(), if lost => return Ok(()),
        }
    }
}

async fn yielded() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

async fn give(answer: Answer, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let message = whole(request.into_body()).await;
    let head = |headers: HeaderMap| {
        let mut head = Response::new(());
        *head.headers_mut() = headers;
        head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        head
    };
    let only = |status: Status| {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        head(headers)
    };
    match answer {
        Answer::Echo => {
            let mut send = respond.send_response(head(HeaderMap::new()), false).unwrap();
            send.send_data(message, false).unwrap();
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(0))]);
            send.send_trailers(trailers).unwrap();
        }
        Answer::Http(code) => {
            let head = Response::builder().status(code).body(()).unwrap();
            respond.send_response(head, true).unwrap();
        }
        Answer::Status(status) => drop(respond.send_response(only(status), true)),
        Answer::Linkerd(status) => {
            let mut head = only(status);
            head.headers_mut().insert("l5d-proxy-error", HeaderValue::from_static("connection refused"));
            respond.send_response(head, true).unwrap();
        }
        Answer::Headers => {
            let _send = respond.send_response(head(HeaderMap::new()), false).unwrap();
            std::future::pending::<()>().await;
        }
        Answer::Lost => {
            let _not_reset = respond;
            std::future::pending::<()>().await;
        }
        Answer::Half => {
            let mut send = respond.send_response(head(HeaderMap::new()), false).unwrap();
            send.send_data(message.slice(..3), false).unwrap();
            // Dropped, it would reset the stream.
            std::future::pending::<()>().await;
        }
        Answer::Refused => respond.send_reset(Reason::REFUSED_STREAM),
        Answer::Reset(reason) => respond.send_reset(reason),
    }
}

async fn whole(mut body: RecvStream) -> Bytes {
    let mut whole = BytesMut::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        whole.extend_from_slice(&data);
    }
    whole.freeze()
}

/// Connects in clear.
#[derive(Default)]
pub(crate) struct Clear {
    pub(crate) made: AtomicU32,
    renewed: watch::Sender<u64>,
}

impl Connect for Clear {
    fn connect(&self, address: SocketAddr) -> Connecting {
        self.made.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok::<_, io::Error>(Box::new(stream) as Box<_>)
        })
    }

    fn scheme(&self) -> Scheme {
        Scheme::HTTP
    }

    fn renewed(&self) -> watch::Receiver<u64> {
        self.renewed.subscribe()
    }
}
