//! The sample contract of the transcoding tests, and the reflection library as a second opinion on it.

#![allow(dead_code)] // every test uses its own part

use std::sync::OnceLock;

use edge_gateway::transcode::{RequestError, Transcoder};
use http::{HeaderMap, Method};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

pub(crate) fn compile(extra: Option<(&str, &str)>) -> DescriptorPool {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proto");
    let dir = tempfile::tempdir().unwrap();
    let mut file = "sample.proto".to_owned();
    if let Some((name, source)) = extra {
        std::fs::write(dir.path().join(name), source).unwrap();
        name.clone_into(&mut file);
    }
    let contract = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    let includes = [root.as_ref(), contract.as_ref(), dir.path()];
    let mut compiler = protox::Compiler::new(includes).unwrap();
    compiler.include_imports(true).open_file(&file).unwrap();
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
}

pub(crate) struct Sample {
    pub(crate) pool: DescriptorPool,
    pub(crate) api: Transcoder,
}

impl Sample {
    /// Compiled once for all tests of a program.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Sample> = OnceLock::new();
        SHARED.get_or_init(|| {
            let pool = compile(None);
            let api = Transcoder::new(&pool).unwrap();
            Self { pool, api }
        })
    }

    /// The wire form of a request.
    pub(crate) fn bytes(&self, method: &Method, uri: &str, body: &str) -> Result<Vec<u8>, RequestError> {
        let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
        let (route, found) = self.api.find(method, path).unwrap();
        route
            .request
            .encode(&self.api.schema, &found.captures, query, &HeaderMap::new(), body.as_bytes())
            .map(|bytes| bytes.to_vec())
    }

    /// The request message as canonical JSON, by the reflection library.
    pub(crate) fn request(
        &self,
        method: &Method,
        uri: &str,
        body: &str,
    ) -> Result<serde_json::Value, RequestError> {
        let bytes = self.bytes(method, uri, body)?;
        let descriptor = self.pool.get_message_by_name("paymesh.sample.v1.Everything").unwrap();
        let message = DynamicMessage::decode(descriptor, bytes.as_slice()).unwrap();
        let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
        Ok(message.serialize_with_options(serde_json::value::Serializer, &options).unwrap())
    }

    pub(crate) fn post(&self, body: &str) -> Result<serde_json::Value, RequestError> {
        self.request(&Method::POST, "/v1/samples", body)
    }

    /// What is wrong with a body, as `field: detail`.
    pub(crate) fn wrong(&self, body: &str) -> Vec<String> {
        violations(self.post(body))
    }

    pub(crate) fn answer(&self, method: &Method, path: &str, message: &DynamicMessage) -> String {
        let (route, _) = self.api.find(method, path).unwrap();
        let bytes = route.response.decode(&self.api.schema, &message.encode_to_vec()).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    pub(crate) fn message(&self, json: &str) -> DynamicMessage {
        let descriptor = self.pool.get_message_by_name("paymesh.sample.v1.Everything").unwrap();
        DynamicMessage::deserialize(descriptor, &mut serde_json::Deserializer::from_str(json)).unwrap()
    }
}

pub(crate) fn violations<T: std::fmt::Debug>(result: Result<T, RequestError>) -> Vec<String> {
    match result {
        Err(RequestError::Violations(list)) => {
            list.iter().map(|violation| format!("{}: {}", violation.field, violation.detail)).collect()
        }
        other => panic!("expected violations, got {other:?}"),
    }
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}
