//! What an answer's body is: bytes in hand, nearly always, or a stream.

use bytes::Bytes;
use http::Response;
use http_body_util::{Either, Full, combinators::UnsyncBoxBody};

/// A stream that cannot go on ends the connection with this.
pub(crate) type StreamError = std::io::Error;
/// A body that arrives bit by bit.
pub(crate) type StreamBody = UnsyncBoxBody<Bytes, StreamError>;
/// An answer's body.
pub(crate) type AnswerBody = Either<Full<Bytes>, StreamBody>;
/// An answer of the edge.
pub(crate) type Answer = Response<AnswerBody>;

/// A body in hand.
pub(crate) fn full(bytes: impl Into<Bytes>) -> AnswerBody {
    Either::Left(Full::from(bytes.into()))
}
