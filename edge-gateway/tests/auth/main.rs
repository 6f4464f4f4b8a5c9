//! Who is let in, over real HTTP: keys and their life, scopes, access tokens of an issuer that runs here, signed
//! requests, and what guessing costs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod guessing;
mod issuer;
mod keys;
mod scopes;
mod signatures;
#[path = "../support/mod.rs"]
mod support;
mod tokens;

use std::{path::PathBuf, sync::Arc, time::Duration};

use edge_gateway::{
    AuthConfig,
    auth::{
        config::ThrottleConfig,
        keys::{FreshKey, KeyFile, NewKey, Pepper},
    },
};
use http::{Method, StatusCode};
use mesh::{Clock as _, ManualClock};
use money::Timestamp;
use support::{Edge, Reply};

/// When the tests take place.
const NOW: i64 = 1_800_000_000;

/// A key file of a test, and the clock that its edge goes by.
struct World {
    dir: tempfile::TempDir,
    file: KeyFile,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pepper"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(NOW)));
        let world = Self { dir, file: KeyFile::default(), clock };
        world.write();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pepper(&self) -> Pepper {
        Pepper::load(&self.path("pepper")).unwrap()
    }

    /// Puts the file in its place as a whole, as the command does.
    fn write(&self) {
        std::fs::write(self.path("draft"), self.file.to_text().unwrap()).unwrap();
        std::fs::rename(self.path("draft"), self.path("keys.toml")).unwrap();
    }

    /// A key of `acme`, written.
    fn create(&mut self, scopes: &[&str], change: impl FnOnce(&mut NewKey)) -> FreshKey {
        let mut new = NewKey {
            tenant: "acme".parse().unwrap(),
            name: "app".into(),
            scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
            not_before: None,
            expires: None,
            signature: None,
        };
        change(&mut new);
        let fresh = self.file.create(new, &self.pepper(), self.clock.now()).unwrap();
        self.write();
        fresh
    }

    fn auth(&self) -> AuthConfig {
        AuthConfig {
            keys_file: Some(self.path("keys.toml")),
            pepper_file: Some(self.path("pepper")),
            reload_interval_ms: 5,
            // Who asks with a new key before it is read seems to guess; refused by a clock that stands still, it
            // would be for ever.
            throttle: ThrottleConfig { failures_free: u32::MAX, ..ThrottleConfig::default() },
            ..AuthConfig::default()
        }
    }

    /// An edge that reads the file.
    async fn edge(&self, change: impl FnOnce(&mut AuthConfig)) -> Edge {
        let mut auth = self.auth();
        change(&mut auth);
        let clock = Arc::clone(&self.clock);
        Edge::start_with(|options| {
            (options.auth, options.clock) = (auth, clock);
            // What is asked for here may be a stream, which would go on.
            options.stream_duration_max_ms = 100;
        })
        .await
    }
}

/// A list of payments, which needs `payments:read`.
async fn list(edge: &Edge, credential: &str) -> Reply {
    let request = edge.request(Method::GET, "/v1/payments");
    request.header("authorization", &format!("Bearer {credential}")).send().await
}

/// Asks until the answer has this status: the edge looks at its files every few milliseconds.
async fn until(edge: &Edge, credential: &str, status: StatusCode) -> Reply {
    let asking = async {
        loop {
            let reply = list(edge, credential).await;
            if reply.status == status {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("the edge reads its files")
}

fn code(reply: &Reply) -> String {
    reply.json()["code"].as_str().unwrap_or_default().to_owned()
}

fn detail(reply: &Reply) -> String {
    reply.json()["detail"].as_str().unwrap_or_default().to_owned()
}
