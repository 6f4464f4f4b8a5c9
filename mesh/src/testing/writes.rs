//! A stream that keeps account of what is written to it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The writes so far; clones are of the same account.
#[derive(Debug, Clone, Default)]
pub struct Account(Arc<Mutex<Vec<Vec<usize>>>>);

impl Account {
    /// By the write, how many bytes each of its pieces had; the account begins anew.
    pub fn take(&self) -> Vec<Vec<usize>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, pieces: &[IoSlice<'_>]) {
        let lengths = pieces.iter().map(|piece| piece.len()).filter(|length| *length > 0).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(lengths);
    }
}

/// A stream whose writes are counted. It takes several buffers at once, as TCP and TLS do.
#[derive(Debug)]
pub struct Writes<T> {
    inner: T,
    account: Account,
}

impl<T> Writes<T> {
    /// Writes to `inner`, and to its account.
    pub fn new(inner: T) -> (Self, Account) {
        let account = Account::default();
        (Self { inner, account: account.clone() }, account)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Writes<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Writes<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, bytes))?;
        self.account.add(bytes);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
