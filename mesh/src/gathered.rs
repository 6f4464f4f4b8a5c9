//! A stream of bytes for HTTP/2, on which small answers leave together.
//!
//! Where a stream takes several buffers at once, h2 hands it each DATA frame of 256 bytes and more by itself, and
//! flushes after each: every such message is a system call, a TLS record and a packet of its own, however many
//! are waiting. Where a stream does not, h2 copies frames of less than 1 KiB into its own buffer, and they leave
//! together. So this one says that it does not; what h2 then writes in two pieces, a larger frame after what was
//! before it, leaves in one all the same.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is held back until the next write or flush, in bytes.
const HELD_MAX: usize = 4 * 1024;

/// A stream that gathers small writes until it is flushed.
#[derive(Debug)]
pub struct Gathered<T> {
    inner: T,
    held: Vec<u8>,
    /// How much of it was written.
    written: usize,
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Gathers what is written to `inner`.
    pub fn new(inner: T) -> Self {
        Self { inner, held: Vec::new(), written: 0 }
    }

    /// Writes all that is held, and as much as it can of `bytes` right after it; says how much of these.
    fn poll_written(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while self.written < self.held.len() {
            let held = &self.held[self.written..];
            let both = [IoSlice::new(held), IoSlice::new(bytes)];
            let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, &both))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(beyond) = written.checked_sub(held.len()) {
                self.held.clear();
                self.written = 0;
                if beyond > 0 {
                    return Poll::Ready(Ok(beyond));
                }
            } else {
                self.written += written;
            }
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.len() <= HELD_MAX.saturating_sub(self.held.len()) {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        self.poll_written(context, bytes)
    }

    /// Nothing of these is held back: whoever writes so has gathered them already.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(context, &[]))?;
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(context, &[]))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(context, &[]))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Empty, Full};
    use hyper::{body::Incoming, client, server, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        task::JoinSet,
    };

    use super::*;
    use crate::testing;

    /// Keeps what it takes, by the write, and takes so much at once.
    struct Writes {
        taken: Vec<Vec<u8>>,
        most: usize,
    }

    impl AsyncWrite for Writes {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes = bytes.iter().flat_map(|piece| piece.iter().copied());
            let bytes: Vec<u8> = bytes.take(self.most).collect();
            let taken = bytes.len();
            self.taken.push(bytes);
            Poll::Ready(Ok(taken))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn lengths(stream: &Gathered<Writes>) -> Vec<usize> {
        stream.inner.taken.iter().map(Vec::len).collect()
    }

    #[tokio::test]
    async fn what_is_written_before_a_flush_leaves_in_one() {
        let mut stream = Gathered::new(Writes { taken: Vec::new(), most: usize::MAX });
        assert!(!stream.is_write_vectored());
        for _ in 0..10 {
            stream.write_all(&[1; 100]).await.unwrap();
        }
        assert!(lengths(&stream).is_empty());
        stream.flush().await.unwrap();
        assert_eq!(lengths(&stream), [1_000]);
        stream.write_all(&[2; 9]).await.unwrap();
        stream.write_all(&[2; 16_384]).await.unwrap();
        assert_eq!(lengths(&stream), [1_000, 16_393], "a large one with what was before it");
        stream.write_all(&vec![3; 20_000]).await.unwrap();
        assert_eq!(lengths(&stream), [1_000, 16_393, 20_000], "and nothing waits behind it");
        stream.write_all(&[4; 7]).await.unwrap();
        let pieces = [IoSlice::new(&[5; 1]), IoSlice::new(&[5; 2])];
        assert_eq!(stream.write_vectored(&pieces).await.unwrap(), 3);
        assert_eq!(lengths(&stream)[3..], [7, 3]);
        stream.write_all(&[6; 5]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(lengths(&stream)[5..], [5]);
    }

    #[tokio::test]
    async fn nothing_is_lost_nor_out_of_order_however_little_is_taken() {
        let sent: Vec<u8> = (0..60_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for most in [1, 7, 100, 4_096, 5_000] {
            let mut stream = Gathered::new(Writes { taken: Vec::new(), most });
            for (number, piece) in sent.chunks(3_000).enumerate() {
                let (small, large) = piece.split_at(number % 3 * 10);
                stream.write_all(small).await.unwrap();
                stream.write_all(large).await.unwrap();
            }
            stream.flush().await.unwrap();
            assert!(stream.inner.taken.concat() == sent, "{most} at once");
        }
    }

    #[tokio::test]
    async fn it_waits_for_who_does_not_read_and_no_more_is_held() {
        let (mut reader, writer) = tokio::io::duplex(1_000);
        let mut stream = Gathered::new(writer);
        let sent = vec![7; 50_000];
        let sending = async {
            stream.write_all(&sent).await.unwrap();
            stream.flush().await.unwrap();
            assert!(stream.held.capacity() <= 2 * HELD_MAX);
            drop(stream);
        };
        let mut read = Vec::new();
        let ((), taken) = tokio::join!(sending, reader.read_to_end(&mut read));
        assert_eq!((taken.unwrap(), read == sent), (50_000, true));
    }

    /// What h2 does with it: that nothing waits unflushed, and that it gathers at all, is up to both.
    #[tokio::test]
    async fn answers_over_http2_are_whole_and_small_ones_leave_together() {
        let (here, there) = tokio::io::duplex(64 * 1024);
        let (there, account) = testing::writes::Writes::new(there);
        let service = service_fn(async |request: Request<Incoming>| {
            let length = request.uri().path()[1..].parse().unwrap();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![7; length]))))
        });
        let serving = server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(Gathered::new(there)), service);
        let serving = tokio::spawn(serving);
        let (requests, connection) = client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(Gathered::new(here)))
            .await
            .unwrap();
        tokio::spawn(connection);
        let ask = |length: usize| {
            let mut requests = requests.clone();
            async move {
                let request = Request::get(format!("http://localhost/{length}"));
                let request = request.body(Empty::<Bytes>::new()).unwrap();
                let answer = requests.send_request(request).await.unwrap();
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                assert!(body == vec![7; length], "{length}");
            }
        };
        for length in [0, 1, 255, 256, 1_023, 1_024, 1_025, 4_087, 4_096, 5_000, 16_384, 100_000] {
            ask(length).await;
        }
        account.take();
        let many: JoinSet<()> = (0..40).map(|_| ask(600)).collect();
        many.join_all().await;
        let writes = account.take();
        assert!(writes.len() <= 10, "{writes:?}");
        drop(requests);
        serving.await.unwrap().unwrap();
    }
}
