//! What an answer's body is: bytes in hand, nearly always, or a stream.

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Either, Full, combinators::UnsyncBoxBody};

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

/// Whether an answer's body arrives bit by bit.
pub(crate) fn is_stream(answer: &Answer) -> bool {
    matches!(answer.body(), Either::Right(_))
}

/// The same body, which holds something for as long as it streams.
pub(crate) fn holding<T: Send + 'static>(body: AnswerBody, held: T) -> AnswerBody {
    match body {
        Either::Left(bytes) => Either::Left(bytes),
        Either::Right(stream) => {
            let stream = stream.map_frame(move |frame| {
                let _held = &held;
                frame
            });
            Either::Right(stream.boxed_unsync())
        }
    }
}
