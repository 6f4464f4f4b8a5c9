//! Whether a proxy is beside us, as far as that can be known: something answers `/ready` on our own loopback
//! as the proxy's admin port does.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const ASKED_EVERY: Duration = Duration::from_millis(100);
/// How long one answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// The proxy did not say that it is ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no Linkerd proxy is ready at http://{address}/ready ({last}). In the mode linkerd a \
     service trusts the proxy beside it and does not run without one: inject it, or set mesh.tls = \"native\""
)]
pub struct NotReady {
    address: SocketAddr,
    last: String,
}

/// Asks until the proxy is ready, for as long as `patience`.
pub(super) async fn wait(address: SocketAddr, patience: Duration) -> Result<(), NotReady> {
    let mut last = "no answer in time".to_owned();
    let asking = async {
        loop {
            match tokio::time::timeout(ANSWER_DEADLINE, ask(address)).await {
                Ok(Ok(StatusCode::OK)) => return,
                Ok(Ok(status)) => last = format!("it answers {}", status.as_u16()),
                Ok(Err(error)) => last = error.to_string(),
                Err(_elapsed) => {}
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
    };
    let asked = tokio::time::timeout(patience, asking).await;
    asked.map_err(|_elapsed| NotReady { address, last })
}

async fn ask(address: SocketAddr) -> io::Result<StatusCode> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = Request::get("/ready")
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // The answer may have come just before the end.
        _ = connection => answer.await,
    };
    Ok(answer.map_err(io::Error::other)?.status())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn it_waits_until_the_proxy_says_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = tokio::spawn(async move {
            for status in ["503 Service Unavailable", "200 OK"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await.unwrap();
                assert!(request[..read].starts_with(b"GET /ready HTTP/1.1\r\n"));
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(wait(address, Duration::from_secs(10)).await, Ok(()));
        proxy.await.unwrap();
    }

    #[tokio::test]
    async fn without_a_proxy_the_error_says_what_to_do() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = wait(free, Duration::from_millis(50)).await.unwrap_err().to_string();
        assert!(error.contains(&format!("http://{free}/ready")) && error.contains("mesh.tls"), "{error}");
    }
}
