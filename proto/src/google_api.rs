//! `google.api`, written by hand: the generated modules leave the `paymesh` of their packages out, so the
//! generated path to a package outside it would lead nowhere.

use std::fmt;

/// A body that is no JSON (google/api/httpbody.proto). What is in it is not shown by `Debug`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct HttpBody {
    /// The value of the header Content-Type.
    #[prost(string, tag = "1")]
    pub content_type: String,
    /// The body's bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: prost::bytes::Bytes,
    /// Not used here.
    #[prost(message, repeated, tag = "3")]
    pub extensions: Vec<prost_types::Any>,
}

impl fmt::Debug for HttpBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.data.len();
        f.debug_struct("HttpBody").field("content_type", &self.content_type).field("bytes", &bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::HttpBody;

    /// The hand-written message is the one of the contract.
    #[test]
    fn it_is_encoded_as_the_descriptor_says() {
        let body = HttpBody { content_type: "a/b".into(), data: b"4242"[..].into(), extensions: Vec::new() };
        let descriptor = crate::descriptor_pool().get_message_by_name("google.api.HttpBody").unwrap();
        let read =
            prost_reflect::DynamicMessage::decode(descriptor, body.encode_to_vec().as_slice()).unwrap();
        let text = |name| read.get_field_by_name(name).unwrap().into_owned();
        assert_eq!(text("content_type"), prost_reflect::Value::String("a/b".into()));
        assert_eq!(text("data"), prost_reflect::Value::Bytes(b"4242"[..].into()));
        assert!(!format!("{body:?}").contains("4242"));
    }
}
