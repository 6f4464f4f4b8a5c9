//! As much of PostgreSQL's wire protocol as it takes to know that one answers.
//!
//! Source: PostgreSQL documentation, "Frontend/Backend Protocol", Message Formats. A whole client
//! would bring an async runtime into this crate; the tests have one.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// How long each step of the conversation may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// `StartupMessage`: protocol 3.0.
const PROTOCOL: i32 = 3 << 16;
/// Longer answers to a start-up message are not PostgreSQL's.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where a connection URL points.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
    user: String,
    database: String,
}

impl Address {
    /// Takes `postgres://user:password@host:port/database?…` or `postgresql://…` apart.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or("the address must start with postgres:// or postgresql://")?;
        let rest = rest.split(['?', '#']).next().unwrap_or(rest);
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let user = login.split_once(':').map_or(login, |(user, _)| user);
        let (host, port) = match place.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
            Some((host, after)) => (host, after.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.starts_with('%') {
            return Err("the address must name a host that is reached by TCP".to_owned());
        }
        let port =
            port.map_or(Ok(5432), str::parse).map_err(|_| "the address has a port that is no number")?;
        let user = if user.is_empty() { "postgres".to_owned() } else { decoded(user) };
        let database = if database.is_empty() { user.clone() } else { decoded(database) };
        Ok(Self { host: host.to_owned(), port, user, database })
    }

    /// Connects, and says which PostgreSQL answers, as far as it tells before a password is given.
    pub(super) fn probe(&self) -> Result<String, String> {
        let place = format!("{}:{}", self.host, self.port);
        let unreachable = |error: std::io::Error| format!("cannot reach {place}: {error}");
        let mut failure = format!("cannot reach {place}: the name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs().map_err(unreachable)? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
                    stream.set_write_timeout(Some(PATIENCE)).map_err(unreachable)?;
                    let said = converse(stream, &self.user, &self.database)
                        .map_err(|reason| format!("{place} does not serve us: {reason}"))?;
                    return Ok(format!("{said} at {place}"));
                }
                Err(error) => failure = unreachable(error),
            }
        }
        Err(failure)
    }
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let (b'%', Some(value)) = (byte, hex) {
            plain.push(value);
            at += 3;
        } else {
            plain.push(*byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn converse(mut stream: impl Read + Write, user: &str, database: &str) -> Result<String, String> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", user, "database", database] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = i32::try_from(body.len() + 4).map_err(|_| "the address is too long")?;
    let said = |error: std::io::Error| error.to_string();
    stream.write_all(&length.to_be_bytes()).map_err(said)?;
    stream.write_all(&body).map_err(said)?;

    // Asking for a password is an answer; without one, its parameters follow up to `ReadyForQuery`.
    let mut version = None;
    loop {
        let (kind, body) = message(&mut stream).map_err(said)?;
        match kind {
            b'R' if body.get(..4) != Some(&[0; 4]) => return Ok("PostgreSQL".to_owned()),
            b'S' => version = parameter(&body, "server_version").or(version),
            b'Z' => return Ok(format!("PostgreSQL {}", version.unwrap_or_default())),
            b'E' => return Err(error_text(&body)),
            b'R' | b'K' | b'N' => {}
            _ => return Err("it does not speak PostgreSQL".to_owned()),
        }
    }
}

fn message(stream: &mut impl Read) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u32::from_be_bytes(length) as usize;
    if !(4..=ANSWER_BYTES_MAX).contains(&length) {
        return Err(std::io::Error::other("it does not speak PostgreSQL"));
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body)?;
    Ok((kind, body))
}

fn parameter(body: &[u8], wanted: &str) -> Option<String> {
    let mut parts = body.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    (parts.next()? == wanted).then(|| parts.next().map(std::borrow::Cow::into_owned))?
}

/// The message field (`M`) of an `ErrorResponse`.
fn error_text(body: &[u8]) -> String {
    body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M")).map_or_else(
        || "an error without a text".to_owned(),
        |text| String::from_utf8_lossy(text).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A connection whose other side says the same whatever it is told.
    struct Scripted(Cursor<Vec<u8>>);

    impl Read for Scripted {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], length.to_be_bytes().as_slice(), body].concat()
    }

    fn answered(answer: Vec<u8>) -> Result<String, String> {
        converse(Scripted(Cursor::new(answer)), "me", "mine")
    }

    #[test]
    fn addresses_are_taken_apart() {
        let address = Address::parse("postgres://me:p%40ss@db.local:6432/mine?sslmode=disable").unwrap();
        let (host, user, database) = ("db.local".to_owned(), "me".to_owned(), "mine".to_owned());
        assert_eq!(address, Address { host, port: 6432, user, database });
        let address = Address::parse("postgresql://[::1]").unwrap();
        assert_eq!(
            (address.host.as_str(), address.port, address.database.as_str()),
            ("::1", 5432, "postgres")
        );
        assert_eq!(Address::parse("postgres://a%2Fb@h").unwrap().user, "a/b");
        for bad in ["", "mysql://h/d", "postgres://", "postgres://h:port/d", "postgres://%2Frun%2Fpg/d"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn asking_for_a_password_is_an_answer() {
        assert_eq!(answered(frame(b'R', &[0, 0, 0, 10])), Ok("PostgreSQL".to_owned()));
    }

    #[test]
    fn a_server_that_trusts_us_tells_its_version() {
        let answer = [
            frame(b'R', &[0, 0, 0, 0]),
            frame(b'S', b"server_encoding\0UTF8\0"),
            frame(b'S', b"server_version\x0017.2\0"),
            frame(b'K', &[0; 8]),
            frame(b'Z', b"I"),
        ]
        .concat();
        assert_eq!(answered(answer), Ok("PostgreSQL 17.2".to_owned()));
    }

    #[test]
    fn an_error_is_told_in_the_servers_words() {
        let answer = frame(b'E', b"SFATAL\0C57P03\0Mthe database system is starting up\0\0");
        assert_eq!(answered(answer), Err("the database system is starting up".to_owned()));
    }

    #[test]
    fn something_else_on_the_port_is_noticed() {
        assert!(answered(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).is_err());
        assert!(answered(Vec::new()).is_err());
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_unreachable() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = Address::parse(&format!("postgres://127.0.0.1:{port}/x")).unwrap().probe().unwrap_err();
        assert!(error.starts_with("cannot reach 127.0.0.1:"), "{error}");
    }
}
