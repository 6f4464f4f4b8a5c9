//! What cannot be connected to, and what is said of it.

use std::time::{Duration, Instant};

use events::{BrokerError, PublishError, RabbitMqConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use crate::world::{World, events, shared};

/// What is said of an attempt with these settings.
async fn refusal(change: impl FnOnce(&mut RabbitMqConfig)) -> BrokerError {
    let world = World::with(&shared(), &["#"], |config| {
        config.batch_timeout_ms = 3_000;
        config.connect_timeout_ms = 2_000;
        change(config);
    })
    .await;
    let began = Instant::now();
    let outcomes = world.publish(&events("pay_1", 2)).await;
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(outcomes[0], outcomes[1]);
    match outcomes[0] {
        Err(PublishError::Unavailable(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// `host:port` instead of the broker's.
fn at(place: &str) -> impl FnOnce(&mut RabbitMqConfig) {
    let url = format!("amqp://paymesh@{place}/%2f");
    move |config| config.url = url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_user_or_virtual_host_is_told_as_such() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("password");
    std::fs::write(&file, "wrong").unwrap();
    let wrong = file.clone();
    assert_eq!(refusal(|config| config.password_file = Some(wrong)).await, BrokerError::Credentials);
    let stranger = |config: &mut RabbitMqConfig| config.url = config.url.replace("paymesh@", "stranger@");
    assert_eq!(refusal(stranger).await, BrokerError::Credentials);
    let elsewhere = |config: &mut RabbitMqConfig| config.url = config.url.replace("/%2f", "/elsewhere");
    assert_eq!(refusal(elsewhere).await, BrokerError::VirtualHost);
    let missing = file.with_file_name("missing");
    assert_eq!(refusal(|config| config.password_file = Some(missing)).await, BrokerError::PasswordFile);
}

/// The password is read for each connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_put_right_is_used() {
    let world = World::new(&shared(), &["#"]).await;
    let file = world.config.password_file.clone().unwrap();
    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "wrong").unwrap();
    let refused = Err(PublishError::Unavailable(BrokerError::Credentials));
    assert_eq!(world.publish(&events("pay_1", 1)).await, [refused]);
    std::fs::write(&file, right).unwrap();
    assert_eq!(world.publish(&events("pay_1", 1)).await, [Ok(())]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_there_or_says_nothing_or_nonsense_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let silent = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = Vec::new();
        // To its end: a connection that is given up is not left to a thread that waits for ever.
        timeout(Duration::from_secs(30), stream.read_to_end(&mut said)).await.expect("an end").unwrap();
        assert!(said.starts_with(b"AMQP"));
    };
    let (refusal_of_the_silent, ()) = tokio::join!(refusal(at(&place)), silent);
    assert_eq!(refusal_of_the_silent, BrokerError::Deadline);
    let talking = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 8]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let said = refusal(at(&place)).await;
    assert!(matches!(said, BrokerError::Protocol | BrokerError::Lost), "{said}");
    talking.abort();
    let _ = talking.await;
    assert_eq!(refusal(at(&place)).await, BrokerError::Unreachable);
}
