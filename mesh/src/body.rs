//! A request's body as handlers read it: no message in it is larger than the service allows.
//!
//! Each message of gRPC comes with its length before it (5 bytes: a flag and 32 bits), so that one that is
//! too large is refused before it is read. <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tonic::Status;

use crate::fault::{Fault, Reason};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request, as it comes in.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    messages: Messages,
}

impl RequestBody {
    /// A body whose messages are at most so many bytes long.
    pub(crate) fn new(incoming: Incoming, message_bytes_max: u32) -> Self {
        Self { incoming, messages: Messages::new(message_bytes_max) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref()
            && let Err(fault) = self.messages.read(data)
        {
            return Poll::Ready(Some(Err(Status::from(fault).into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Reads the lengths of messages, whatever pieces they come in.
#[derive(Debug)]
struct Messages {
    bytes_max: u32,
    /// What is still to come of the current message.
    left: u32,
    /// What has come of the next one's prefix.
    prefix: [u8; 5],
    prefix_len: usize,
}

impl Messages {
    fn new(bytes_max: u32) -> Self {
        Self { bytes_max, left: 0, prefix: [0; 5], prefix_len: 0 }
    }

    fn read(&mut self, mut data: &[u8]) -> Result<(), Fault> {
        while !data.is_empty() {
            let of_message = data.len().min(self.left as usize);
            data.advance(of_message);
            self.left -= u32::try_from(of_message).unwrap_or(self.left);
            while self.left == 0 && data.has_remaining() {
                self.prefix[self.prefix_len] = data.get_u8();
                self.prefix_len += 1;
                if self.prefix_len == self.prefix.len() {
                    self.begin()?;
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Fault> {
        let [_, a, b, c, d] = self.prefix;
        self.prefix_len = 0;
        self.left = u32::from_be_bytes([a, b, c, d]);
        if self.left <= self.bytes_max {
            return Ok(());
        }
        let limit = format!("must be at most {} bytes", self.bytes_max);
        Err(Fault::new(Reason::MessageTooLarge, "The message is larger than this service reads.")
            .violating("message", limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: u32) -> Vec<u8> {
        let mut framed = vec![0];
        framed.extend(bytes.to_be_bytes());
        framed.resize(5 + bytes as usize, 7);
        framed
    }

    #[test]
    fn lengths_are_read_in_whatever_pieces_they_come() {
        let stream: Vec<u8> = [message(10), message(0), message(3), message(11)].concat();
        let too_large_at = stream.len() - 11;
        for piece in 1..=stream.len() {
            let mut messages = Messages::new(10);
            let mut read = 0;
            let refused = stream.chunks(piece).find_map(|chunk| {
                read += chunk.len();
                messages.read(chunk).err()
            });
            assert_eq!(refused.unwrap().reason(), Reason::MessageTooLarge);
            assert!(read >= too_large_at && read < too_large_at + piece, "{piece}");
        }
    }

    #[test]
    fn messages_of_the_largest_size_pass() {
        let mut messages = Messages::new(10);
        assert_eq!(messages.read(&[message(10), message(10)].concat()), Ok(()));
        assert_eq!(Messages::new(u32::MAX).read(&[0, 255, 255, 255, 255]), Ok(()));
    }
}
