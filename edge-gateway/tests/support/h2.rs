//! HTTP/2 by hand: what a client that means harm writes (RFC 9113, RFC 7541).

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const DATA: u8 = 0;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// The error code CANCEL.
pub(crate) const CANCEL: [u8; 4] = [0, 0, 0, 8];
/// SETTINGS_INITIAL_WINDOW_SIZE = 0.
pub(crate) const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
/// SETTINGS_INITIAL_WINDOW_SIZE = 1.
pub(crate) const ONE_BYTE_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 1];

/// SETTINGS_INITIAL_WINDOW_SIZE = 2^31 - 1.
pub(crate) const LARGEST_WINDOW: [u8; 6] = [0, 4, 0x7f, 0xff, 0xff, 0xff];

/// A connection after the preface, with these settings.
pub(crate) async fn open(mut stream: TcpStream, settings: &[u8]) -> TcpStream {
    let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, settings)[..]].concat();
    stream.write_all(&opening).await.unwrap();
    stream
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block without compression.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The fields of a request with the key of `acme`.
pub(crate) fn request<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", path),
        ("authorization", "Bearer sk_test"),
    ]
}

/// The next frame's kind and payload; `None` where the connection has ended.
pub(crate) async fn next(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], payload))
}

/// The kinds of the frames until the connection ends, and the error code of the last GOAWAY.
pub(crate) async fn until_closed(stream: &mut TcpStream) -> (Vec<u8>, Option<u32>) {
    let (mut kinds, mut code) = (Vec::new(), None);
    while let Some((kind, payload)) = next(stream).await {
        kinds.push(kind);
        if kind == GOAWAY {
            code = payload[4..8].try_into().ok().map(u32::from_be_bytes);
        }
    }
    (kinds, code)
}
