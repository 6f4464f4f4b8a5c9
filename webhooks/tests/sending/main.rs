//! The sender against real receivers over TLS: what they are sent, and what becomes of what they do; and which
//! addresses are never connected to, whatever the resolver says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod receiver;
mod whole;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use mesh::{
    ManualClock,
    client::{Resolve, Resolving},
};
use money::Timestamp;
use receiver::{Does, HOST, PATIENCE, Receiver};
use webhooks::{
    HttpSender, Sender as _, WebhookConfig, WebhookSecret,
    domain::{
        attempt::{AttemptError, Outcome},
        signing::sign_with_all,
        url::EndpointUrl,
    },
    sender::{Message, Sent},
};

/// Answers with what it was given, one after the other; hangs when there is no more.
#[derive(Default)]
struct Names {
    answers: Mutex<VecDeque<Vec<SocketAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    fn answering(answers: &[&[&str]]) -> Arc<Self> {
        // The port of an answer means nothing.
        let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), 1);
        let answers = answers.iter().map(|answer| answer.iter().map(address).collect()).collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolve for Names {
    fn resolve(&self, host: Arc<str>, _: u16) -> Resolving {
        self.asked.lock().unwrap().push(host.to_string());
        match self.answers.lock().unwrap().pop_front() {
            Some(answer) if answer.is_empty() => Box::pin(async { Err(io::Error::other("no such name")) }),
            Some(answer) => Box::pin(async { Ok(answer) }),
            None => Box::pin(std::future::pending()),
        }
    }
}

const BODY: &str = r#"{"type":"payment.captured","data":{"id":"pay_1","amount":1000}}"#;
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A configuration by which this receiver may be called, and nobody else who is not public.
fn config(receiver: &Receiver) -> WebhookConfig {
    WebhookConfig {
        connect_timeout_ms: 20_000,
        attempt_timeout_ms: 20_000,
        allowed_networks: vec!["127.0.0.1/32".to_owned()],
        allowed_ports: vec![receiver.address.port()],
        extra_authorities_file: Some(receiver.ca()),
        ..WebhookConfig::default()
    }
}

fn sender(config: &WebhookConfig, names: &Arc<Names>) -> HttpSender {
    let names: Arc<Names> = Arc::clone(names);
    HttpSender::new(config, names, Arc::new(ManualClock::new(NOW))).unwrap()
}

async fn send(sender: &HttpSender, url: &str, signature: &str) -> Sent {
    let url = EndpointUrl::parse(url).unwrap();
    let body = Bytes::from(BODY);
    let message = Message { url: &url, id: "evt_1", timestamp: "1800000000", signature, body };
    tokio::time::timeout(PATIENCE, sender.send(message)).await.expect("an attempt ends")
}

/// Sends to this receiver, by name.
async fn send_to(receiver: &Receiver, config: &WebhookConfig) -> Sent {
    let names = Names::answering(&[&["127.0.0.1"]]);
    let url = format!("https://{HOST}:{}/hook?a=b", receiver.address.port());
    send(&sender(config, &names), &url, "v1,AAAA").await
}

fn failed(error: AttemptError) -> Sent {
    Sent { outcome: Outcome::Failed(error), retry_after_s: None, answer: String::new() }
}

#[tokio::test]
async fn a_webhook_arrives_as_it_was_signed_with_each_secret() {
    let receiver = Receiver::start(Does::Answers(200, &[], "thanks\n")).await;
    let secrets = [3_u8, 4].map(|byte| WebhookSecret::of(vec![byte; 32]).unwrap());
    let signature = sign_with_all(&secrets, "evt_1", "1800000000", BODY.as_bytes());
    let names = Names::answering(&[&["127.0.0.1"]]);
    let url = format!("https://{HOST}:{}/hook?a=b", receiver.address.port());
    let sent = send(&sender(&config(&receiver), &names), &url, &signature).await;
    let expected = Sent { outcome: Outcome::Answered(200), retry_after_s: None, answer: "thanks".to_owned() };
    assert_eq!(sent, expected);
    let [came] = <[_; 1]>::try_from(receiver.came()).ok().unwrap();
    for secret in &secrets {
        assert_eq!(secret.verify(&came.headers, &came.body, NOW), Ok(()));
        assert!(secret.verify(&came.headers, b"{}", NOW).is_err());
    }
    assert_eq!(
        (came.method.as_str(), came.path.as_str(), &came.body[..]),
        ("POST", "/hook?a=b", BODY.as_bytes())
    );
    let header = |name: &str| came.headers.get(name).map(String::as_str);
    assert_eq!(header("webhook-id"), Some("evt_1"));
    assert_eq!(header("webhook-timestamp"), Some("1800000000"));
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("host"), Some(&*format!("{HOST}:{}", receiver.address.port())));
    assert!(header("user-agent").is_some_and(|agent| agent.starts_with("paymesh-webhooks/")));
    assert_eq!(names.asked(), [HOST]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Receiver::start(Does::Answers(200, &[], "")).await;
    let location: &'static str = format!("https://{HOST}:{}/", other.address.port()).leak();
    let headers: &'static [(&str, &str)] = vec![("location", location)].leak();
    for status in [301, 302, 307, 308] {
        let receiver = Receiver::start(Does::Answers(status, headers, "")).await;
        let mut config = config(&receiver);
        config.allowed_ports.push(other.address.port());
        assert_eq!(send_to(&receiver, &config).await.outcome, Outcome::Answered(status));
        assert_eq!((receiver.came().len(), other.connections()), (1, 0));
    }
}

#[tokio::test]
async fn an_answer_says_when_to_come_back() {
    for (value, expected) in [("7", Some(7)), ("Fri, 15 Jan 2027 08:01:00 GMT", Some(60)), ("soon", None)] {
        let headers: &'static [(&str, &str)] = vec![("retry-after", value)].leak();
        let receiver = Receiver::start(Does::Answers(429, headers, "slow down")).await;
        let sent = send_to(&receiver, &config(&receiver)).await;
        assert_eq!((sent.outcome, sent.retry_after_s), (Outcome::Answered(429), expected), "{value}");
    }
}

#[tokio::test]
async fn who_does_not_answer_is_given_up_in_time() {
    let receiver = Receiver::start(Does::Hangs).await;
    let config = WebhookConfig { attempt_timeout_ms: 3_000, ..config(&receiver) };
    let began = Instant::now();
    assert_eq!(send_to(&receiver, &config).await, failed(AttemptError::Time));
    assert!(began.elapsed() >= Duration::from_secs(3) && receiver.came().len() == 1);
}

#[tokio::test]
async fn who_has_answered_and_talks_slowly_has_answered() {
    let receiver = Receiver::start(Does::HangsInBody).await;
    let config = WebhookConfig { attempt_timeout_ms: 3_000, ..config(&receiver) };
    let sent = send_to(&receiver, &config).await;
    assert_eq!((sent.outcome, sent.answer.as_str()), (Outcome::Answered(200), "beginning"));
}

#[tokio::test]
async fn of_an_answer_without_end_512_bytes_are_read() {
    let receiver = Receiver::start(Does::TalksOn).await;
    let config = WebhookConfig { attempt_timeout_ms: 60_000, ..config(&receiver) };
    let sent = send_to(&receiver, &config).await;
    assert_eq!((sent.outcome, sent.answer), (Outcome::Answered(200), "x".repeat(512)));
}

#[tokio::test]
async fn what_is_echoed_is_not_kept() {
    let receiver = Receiver::start(Does::Echoes).await;
    let sent = send_to(&receiver, &config(&receiver)).await;
    assert_eq!((sent.outcome, sent.answer.as_str()), (Outcome::Answered(200), "…"));
}

#[tokio::test]
async fn a_connection_that_fails_is_told_by_how() {
    let receiver = Receiver::start(Does::BreaksOff).await;
    assert_eq!(send_to(&receiver, &config(&receiver)).await, failed(AttemptError::Answer));

    // Somebody else's certificate, and somebody else's name.
    let other = Receiver::start(Does::Answers(200, &[], "")).await;
    let stranger = WebhookConfig { extra_authorities_file: Some(receiver.ca()), ..config(&other) };
    assert_eq!(send_to(&other, &stranger).await, failed(AttemptError::Tls));
    let names = Names::answering(&[&["127.0.0.1"]]);
    let url = format!("https://other.example:{}/", other.address.port());
    assert_eq!(send(&sender(&config(&other), &names), &url, "v1,AAAA").await, failed(AttemptError::Tls));
    assert_eq!(other.came().len(), 0, "nothing was said to it");

    // A port on which nobody listens.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = WebhookConfig { allowed_ports: vec![free.port()], ..config(&other) };
    let names = Names::answering(&[&["127.0.0.1"]]);
    let sent = send(&sender(&config, &names), &format!("https://{HOST}:{}/", free.port()), "v1,AAAA").await;
    assert_eq!(sent, failed(AttemptError::Connect));
}

#[tokio::test]
async fn another_address_is_tried_where_the_first_has_nobody() {
    let receiver = Receiver::start(Does::Answers(200, &[], "")).await;
    let allowed_networks = vec!["127.0.0.0/8".to_owned()];
    let config = WebhookConfig { allowed_networks, ..config(&receiver) };
    let names = Names::answering(&[&["127.0.0.2", "127.0.0.1"]]);
    let url = format!("https://{HOST}:{}/", receiver.address.port());
    assert_eq!(send(&sender(&config, &names), &url, "v1,AAAA").await.outcome, Outcome::Answered(200));
}

/// The resolver's answers are those of an attacker: the receiver stands for what must not be reached.
#[tokio::test]
async fn no_address_is_connected_to_that_was_not_checked() {
    let receiver = Receiver::start(Does::Answers(200, &[], "")).await;
    let config = WebhookConfig { allowed_networks: Vec::new(), ..config(&receiver) };
    let url = format!("https://{HOST}:{}/", receiver.address.port());
    for answer in [
        &["127.0.0.1"][..],
        &["1.1.1.1", "127.0.0.1"],
        &["127.0.0.1", "1.1.1.1"],
        &["2606:4700::1111", "::1"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["169.254.169.254"],
        &["10.0.0.1"],
        &["0.0.0.0"],
    ] {
        let names = Names::answering(&[answer]);
        let sent = send(&sender(&config, &names), &url, "v1,AAAA").await;
        assert_eq!(sent, failed(AttemptError::Address), "{answer:?}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_is_resolved_once_for_an_attempt() {
    let receiver = Receiver::start(Does::Answers(200, &[], "")).await;
    // At first the address that may be called, then, were it asked again, another one.
    let names = Names::answering(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let sender = sender(&config(&receiver), &names);
    let url = format!("https://{HOST}:{}/", receiver.address.port());
    assert_eq!(send(&sender, &url, "v1,AAAA").await.outcome, Outcome::Answered(200));
    assert_eq!(names.asked().len(), 1);
    assert_eq!(
        send(&sender, &url, "v1,AAAA").await,
        failed(AttemptError::Address),
        "the next attempt asks anew"
    );
    assert_eq!((names.asked().len(), receiver.connections()), (2, 1));
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_no_name() {
    let receiver = Receiver::start(Does::Answers(200, &[], "")).await;
    let url = format!("https://{HOST}:{}/", receiver.address.port());
    let unknown = Names::answering(&[&[]]);
    assert_eq!(send(&sender(&config(&receiver), &unknown), &url, "v1,A").await, failed(AttemptError::Name));
    let config = WebhookConfig { connect_timeout_ms: 50, ..config(&receiver) };
    let silent = Names::answering(&[]);
    assert_eq!(send(&sender(&config, &silent), &url, "v1,A").await, failed(AttemptError::Name));
}

#[tokio::test]
async fn what_the_operator_does_not_allow_any_more_is_not_called() {
    let receiver = Receiver::start(Does::Answers(200, &[], "")).await;
    let names = Names::answering(&[&["127.0.0.1"]]);
    let port = receiver.address.port();
    let closed = WebhookConfig { allowed_ports: vec![443], ..config(&receiver) };
    for (config, url) in [
        (closed, format!("https://{HOST}:{port}/")),
        (config(&receiver), format!("http://{HOST}:{port}/")),
        (config(&receiver), format!("https://127.0.0.2:{port}/")),
        (config(&receiver), format!("https://2130706434:{port}/")),
    ] {
        assert_eq!(send(&sender(&config, &names), &url, "v1,AAAA").await, failed(AttemptError::Url), "{url}");
    }
    assert_eq!((names.asked().len(), receiver.connections()), (0, 0));
}
