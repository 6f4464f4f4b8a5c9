//! A connection whose client must take what is sent to it.
//!
//! Time in which writing waits for the client is used up from a budget, and what the client takes earns it
//! back at the least rate allowed. An idle connection uses none.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// A stream of bytes, with an end to patience.
pub(crate) struct Paced<T> {
    inner: T,
    budget: Duration,
    rate_min: u32,
    waited: Duration,
    waiting: Option<Waiting>,
}

struct Waiting {
    since: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<T> Paced<T> {
    pub(crate) fn new(inner: T, budget: Duration, rate_min: u32) -> Self {
        Self { inner, budget, rate_min: rate_min.max(1), waited: Duration::ZERO, waiting: None }
    }

    /// What a write came to. `taken` says how many bytes a success stands for.
    fn paced<R>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<R>>,
        taken: impl FnOnce(&R) -> usize,
    ) -> Poll<io::Result<R>> {
        let Poll::Ready(outcome) = outcome else {
            let left = self.budget.saturating_sub(self.waited);
            let waiting = self.waiting.get_or_insert_with(|| {
                let since = Instant::now();
                Waiting { since, alarm: Box::pin(tokio::time::sleep_until(since + left)) }
            });
            ready!(waiting.alarm.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        };
        if let Some(waiting) = self.waiting.take() {
            self.waited += waiting.since.elapsed();
        }
        if let (Ok(success), false) = (&outcome, self.waited.is_zero()) {
            let bytes = u32::try_from(taken(success)).unwrap_or(u32::MAX);
            self.waited = self.waited.saturating_sub(Duration::from_secs(1) * bytes / self.rate_min);
        }
        Poll::Ready(outcome)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.paced(context, outcome, |taken| *taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.paced(context, outcome, |taken| *taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.paced(context, outcome, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(context);
        self.paced(context, outcome, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const BUDGET: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_after_the_budget() {
        let (_client, server) = tokio::io::duplex(100);
        let mut server = Paced::new(server, BUDGET, 10);
        let began = Instant::now();
        let error = server.write_all(&[0; 200]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), BUDGET);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gathered_before_it_hides_nobody_who_takes_nothing() {
        for (length, is_held) in [(200, true), (10_000, false)] {
            let (_client, server) = tokio::io::duplex(100);
            let mut server = mesh::Gathered::new(Paced::new(server, BUDGET, 10));
            let began = Instant::now();
            let sending = async {
                server.write_all(&vec![0; length]).await?;
                server.flush().await
            };
            assert_eq!(sending.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(began.elapsed(), BUDGET);
            assert_eq!(server.shutdown().await.is_err(), is_held, "no end before what is held");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_at_the_least_rate_is_served_and_who_is_slower_is_not() {
        for (pause, served) in [(Duration::from_secs(9), true), (Duration::from_secs(11), false)] {
            let (mut client, server) = tokio::io::duplex(100);
            // 100 bytes earn 10 seconds; the budget alone would carry the slower one for a while.
            let mut server = Paced::new(server, 3 * BUDGET, 10);
            let reading = tokio::spawn(async move {
                let mut buffer = [0; 100];
                while client.read_exact(&mut buffer).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            });
            assert_eq!(server.write_all(&[0; 10_000]).await.is_ok(), served);
            drop(server);
            reading.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_costs_nothing() {
        let (mut client, server) = tokio::io::duplex(100);
        let mut server = Paced::new(server, BUDGET, 10);
        for _ in 0..10 {
            tokio::time::sleep(2 * BUDGET).await;
            server.write_all(&[0; 100]).await.unwrap();
            client.read_exact(&mut [0; 100]).await.unwrap();
        }
    }
}
