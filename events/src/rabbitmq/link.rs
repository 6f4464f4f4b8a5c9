//! One connection to the broker, with what is declared over it, and what is published over it.

use std::{
    collections::HashSet,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use lapin::{
    AsyncTcpStream, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
    PublisherConfirm,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{socket, url::Url, wire};
use crate::{
    config::QueueConfig,
    event::Event,
    publish::{BrokerError, Outcome, PublishError},
};

/// How long a farewell may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// What connections are made with.
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) heartbeat_s: u16,
    pub(super) exchange: String,
    pub(super) queues: Vec<QueueConfig>,
}

/// A connection that can be published over. It ends when this is dropped.
///
/// It carries one batch at a time: which of its messages came back is only known when all are confirmed.
pub(super) struct Link {
    connection: Arc<Connection>,
    channel: Channel,
    cut: Option<DropGuard>,
}

/// What was being done when the broker refused it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Connect,
    Declare,
    Publish,
}

impl Link {
    /// Connects, and declares the exchange and the queues.
    pub(super) async fn make(target: &Target, password: String) -> Result<Self, BrokerError> {
        let cut = CancellationToken::new();
        let guard = cut.clone().drop_guard();
        let url = &target.url;
        let socket = socket::connect(&url.host, url.port, target.tls.as_ref(), &cut).await?;
        // It may ask once more, for which there is none.
        let socket = Mutex::new(Some(socket));
        let give = async move |_, _| {
            let socket = socket.lock().ok().and_then(|mut socket| socket.take());
            socket
                .map(AsyncTcpStream::Plain)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
        };
        let properties = ConnectionProperties::default().with_connection_name("paymesh".into());
        let connection = Connection::connector(
            uri(url, password, target.heartbeat_s),
            socket::runtime(),
            give,
            properties,
        );
        let connection = connection.await.map_err(|error| said(&error, Step::Connect))?;
        let channel = connection.create_channel().await.map_err(|error| said(&error, Step::Connect))?;
        declare(&channel, target).await.map_err(|error| said(&error, Step::Declare))?;
        Ok(Self { connection: Arc::new(connection), channel, cut: Some(guard) })
    }

    /// Whether it is as it was made.
    pub(super) fn is_open(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Publishes a batch: all of it is sent, then all of it is awaited. If the second is false, the link is to be
    /// dropped: something of the batch may still come back.
    pub(super) async fn publish(
        &self,
        exchange: &str,
        batch: &[Event],
        deadline: Instant,
    ) -> (Vec<Outcome>, bool) {
        let mut failure = None;
        let mut confirms = Vec::with_capacity(batch.len());
        for sent in self.queued(exchange, batch).await {
            match self.within(deadline, sent.finish()).await {
                Ok(confirm) => confirms.push(confirm),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let mut returned = HashSet::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for confirm in confirms {
            let outcome = self.within(deadline, confirm).await;
            outcomes.push(match outcome {
                Ok(Confirmation::Ack(message)) => {
                    returned.extend(message.and_then(|message| message.properties.message_id().clone()));
                    Ok(())
                }
                Ok(Confirmation::Nack(message)) => {
                    returned.extend(message.and_then(|message| message.properties.message_id().clone()));
                    Err(PublishError::Refused)
                }
                Ok(Confirmation::NotRequested) => {
                    failure.get_or_insert(BrokerError::Protocol);
                    Err(PublishError::Unconfirmed(BrokerError::Protocol))
                }
                Err(error) => {
                    failure.get_or_insert(error);
                    Err(PublishError::Unconfirmed(error))
                }
            });
        }
        // The one that could not be sent may have been, in part; those after it were not.
        if let Some(error) = failure {
            if outcomes.len() < batch.len() {
                outcomes.push(Err(PublishError::Unconfirmed(error)));
            }
            outcomes.resize(batch.len(), Err(PublishError::Unavailable(error)));
        }
        // The message that came back is told by its own id: lapin hands it out with whichever confirmation comes
        // next, which with several at once is another one's.
        for (event, outcome) in batch.iter().zip(&mut outcomes) {
            if !returned.is_empty() && returned.remove(event.id().to_string().as_str()) && outcome.is_ok() {
                *outcome = Err(PublishError::Unroutable);
            }
        }
        if !returned.is_empty() {
            // Somebody's came back, and it is not known whose.
            failure.get_or_insert(BrokerError::Protocol);
            let unknown = Err(PublishError::Unconfirmed(BrokerError::Protocol));
            outcomes.iter_mut().filter(|outcome| outcome.is_ok()).for_each(|outcome| *outcome = unknown);
        }
        (outcomes, failure.is_none())
    }

    /// Has the whole batch queued in its order before the first of it is awaited, so that it is written together.
    async fn queued<'a>(
        &'a self,
        exchange: &'a str,
        batch: &'a [Event],
    ) -> Vec<MaybeDone<impl Future<Output = lapin::Result<PublisherConfirm>>>> {
        let mut sending: Vec<_> =
            batch.iter().map(|event| MaybeDone::new(self.send(exchange, event))).collect();
        // The first poll of each queues its frames.
        poll_fn(|context| {
            for sent in &mut sending {
                sent.begin(context);
            }
            Poll::Ready(())
        })
        .await;
        sending
    }

    async fn send(&self, exchange: &str, event: &Event) -> lapin::Result<PublisherConfirm> {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let (key, body) = (event.kind().as_str(), event.body());
        self.channel.basic_publish(exchange.into(), key.into(), options, body, wire::properties(event)).await
    }

    async fn within<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, BrokerError> {
        match timeout_at(deadline, work).await {
            Ok(done) => done.map_err(|error| said(&error, Step::Publish)),
            Err(_) if self.connection.status().blocked() => Err(BrokerError::Blocked),
            Err(_) => Err(BrokerError::Deadline),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let (connection, cut) = (Arc::clone(&self.connection), self.cut.take());
        if let (true, Ok(runtime)) = (self.is_open(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                // A connection that is cut without a word is a line in the broker's log.
                let _ = timeout(FAREWELL_MAX, connection.close(200, "OK".into())).await;
                drop(cut);
            });
        }
    }
}

/// Work that can be begun before it is awaited.
enum MaybeDone<F: Future> {
    Begun(Pin<Box<F>>),
    Done(F::Output),
}

impl<F: Future> MaybeDone<F> {
    fn new(work: F) -> Self {
        Self::Begun(Box::pin(work))
    }

    fn begin(&mut self, context: &mut Context<'_>) {
        if let Self::Begun(work) = self
            && let Poll::Ready(done) = work.as_mut().poll(context)
        {
            *self = Self::Done(done);
        }
    }

    async fn finish(self) -> F::Output {
        match self {
            Self::Begun(work) => work.await,
            Self::Done(done) => done,
        }
    }
}

fn uri(url: &Url, password: String, heartbeat_s: u16) -> AMQPUri {
    let userinfo = AMQPUserInfo { username: url.user.clone(), password };
    AMQPUri {
        // TLS is the socket's.
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority { userinfo, host: url.host.clone(), port: url.port },
        vhost: url.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(heartbeat_s), ..AMQPQueryString::default() },
    }
}

async fn declare(channel: &Channel, target: &Target) -> lapin::Result<()> {
    let exchange = || target.exchange.as_str().into();
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    for QueueConfig { name, bindings } in &target.queues {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.as_str().into(), durable, arguments).await?;
        for binding in bindings {
            let (queue, key) = (name.as_str().into(), binding.as_str().into());
            let options = QueueBindOptions::default();
            channel.queue_bind(queue, exchange(), key, options, FieldTable::default()).await?;
        }
    }
    channel.confirm_select(ConfirmSelectOptions::default()).await
}

/// What a failure means. The broker's text is left out: it repeats names.
fn said(error: &lapin::Error, step: Step) -> BrokerError {
    match error.kind() {
        // The reply codes of AMQP 0-9-1, section 1.5 of its reference.
        ErrorKind::ProtocolError(refusal) => match (refusal.get_id(), step) {
            (403, Step::Connect) => BrokerError::Credentials,
            (530, Step::Connect) => BrokerError::VirtualHost,
            (403, Step::Declare | Step::Publish) => BrokerError::Permission,
            (404..=406, Step::Declare) => BrokerError::Topology,
            // 320: closed by an operator. 404: the exchange was deleted, and will be declared again.
            (320 | 404, _) => BrokerError::Lost,
            _ => BrokerError::Protocol,
        },
        ErrorKind::IOError(_)
        | ErrorKind::RuntimeShutdownError(_)
        | ErrorKind::InvalidChannel(_)
        | ErrorKind::InvalidChannelState(..)
        | ErrorKind::InvalidConnectionState(_)
        | ErrorKind::MissingHeartbeatError => BrokerError::Lost,
        _ => BrokerError::Protocol,
    }
}
