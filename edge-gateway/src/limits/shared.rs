//! Limits that all edges share through Redis.
//!
//! The same buckets as in [`super::gcra`], kept by Redis under its own clock, so that the edges' clocks do
//! not matter. Requests that arrive while a round trip is under way share the next one: one script decides
//! for all of them. A bucket expires when it is full again, so Redis holds only buckets that owe.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mesh::{BatchLimits, Batcher, Metrics, StartError};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use redis::{AsyncConnectionConfig, Client, Script, TlsCertificates, aio::MultiplexedConnection};
use tokio::sync::Mutex;

use super::{
    config::{RedisConfig, WhenUnreachable},
    gcra::{Quota, Verdict},
};

/// Round trips under way at once, and requests in each.
const ROUND_TRIPS_MAX: usize = 4;
const BATCH: BatchLimits = BatchLimits { items_max: 256, queue_max: 8_192 };
/// For so long nobody asks again after a failure: requests do not wait for a server that is not there.
const PAUSE: Duration = Duration::from_millis(500);

/// For each key: what one request costs and how much fits in, in microseconds, and how many keys belong to
/// the same request (said at its first one). A request takes from all its buckets or from none. Answers, for
/// each key, whether the request may go on and how far ahead of now the bucket is with it.
///
/// The tolerance of one microsecond is for what a double cannot hold.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {}
local first = 1
while first <= #KEYS do
  local last = first + ARGV[3 * first] - 1
  local next_full, allowed = {}, 1
  for k = first, last do
    local full = tonumber(redis.call('GET', KEYS[k]) or now)
    next_full[k] = math.max(full, now) + ARGV[3 * k - 2]
    if next_full[k] - now > ARGV[3 * k - 1] + 1 then allowed = 0 end
  end
  for k = first, last do
    local ahead = next_full[k] - now
    if allowed == 1 then
      redis.call('SET', KEYS[k], string.format('%.3f', next_full[k]), 'PX', math.ceil(ahead / 1000))
    end
    answer[2 * k - 1] = allowed
    answer[2 * k] = math.ceil(ahead)
  end
  first = last + 1
end
return answer
";

/// One bucket that a request takes from.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) key: String,
    pub(crate) quota: Quota,
}

/// What Redis says of a request's buckets, in their order; `None` when it could not be asked.
type Answer = Option<Vec<Verdict>>;

/// The way to the shared buckets.
pub(crate) struct Shared {
    batcher: Batcher<Vec<Bucket>, Answer>,
    key_prefix: String,
    state: Arc<State>,
    pub(crate) when_unreachable: WhenUnreachable,
}

struct State {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    script: Script,
    timeout: Duration,
    origin: Instant,
    /// Until when nobody asks, in milliseconds since `origin`.
    paused_until: AtomicU64,
    reachable: AtomicBool,
    failures: Counter,
    up: Gauge,
}

impl Shared {
    /// Reads the configuration. Does not connect yet: an edge starts also while Redis is away.
    pub(crate) fn new(config: &RedisConfig, metrics: &Metrics) -> Result<Self, StartError> {
        let read = |path: &std::path::Path| {
            std::fs::read_to_string(path)
                .map_err(StartError::io(format!("limits.redis: the file {}", path.display())))
        };
        let url = read(&config.url_file)?;
        // What the library says may quote the URL, and with it the password.
        let wrong = |_| {
            StartError::Config(
                "limits.redis: url_file must hold a URL such as redis://user:password@host:6379/0".to_owned(),
            )
        };
        let client = match &config.ca_file {
            None => Client::open(url.trim()).map_err(wrong)?,
            Some(path) => {
                let root_cert = Some(read(path)?.into_bytes());
                let certificates = TlsCertificates { client_tls: None, root_cert };
                Client::build_with_tls(url.trim(), certificates).map_err(|_| {
                    StartError::Config(
                        "limits.redis: ca_file needs a URL that begins with rediss:// and a certificate in PEM"
                            .to_owned(),
                    )
                })?
            }
        };
        let up = Gauge::default();
        metrics.register("edge_shared_limits_up", "Whether limits are shared at the moment", up.clone());
        let state = Arc::new(State {
            client,
            connection: Mutex::default(),
            script: Script::new(SCRIPT),
            timeout: Duration::from_millis(config.timeout_ms),
            origin: Instant::now(),
            paused_until: AtomicU64::new(0),
            reachable: AtomicBool::new(true),
            failures: metrics
                .counter("edge_shared_limits_failures", "Round trips to the shared limits that failed"),
            up,
        });
        state.up.set(1);
        let worker = Arc::clone(&state);
        let batcher = Batcher::on_task(BATCH, ROUND_TRIPS_MAX, move |asked: Vec<Vec<Bucket>>| {
            let state = Arc::clone(&worker);
            async move { state.decide(&asked).await }
        });
        let (key_prefix, when_unreachable) = (config.key_prefix.clone(), config.when_unreachable);
        Ok(Self { batcher, key_prefix, state, when_unreachable })
    }

    /// The key of a bucket of the shared limits.
    pub(crate) fn key(&self, parts: &[&str]) -> String {
        self.key_prefix.clone() + &parts.join(":")
    }

    /// Takes one request from all of these buckets, or from none of them.
    pub(crate) async fn take(&self, buckets: Vec<Bucket>) -> Option<Vec<Verdict>> {
        if self.state.is_paused() {
            return None;
        }
        self.batcher.call(buckets).await.ok().flatten()
    }
}

impl State {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_paused(&self) -> bool {
        self.paused_until.load(Ordering::Relaxed) > self.now_ms()
    }

    async fn decide(&self, asked: &[Vec<Bucket>]) -> Vec<Answer> {
        // Asked before the failure that began the pause.
        if self.is_paused() {
            return vec![None; asked.len()];
        }
        let round_trip = tokio::time::timeout(self.timeout, self.round_trip(asked)).await;
        match round_trip {
            Ok(Ok(numbers)) => {
                self.up.set(1);
                if !self.reachable.swap(true, Ordering::Relaxed) {
                    tracing::info!("the shared limits are reached again");
                }
                read(asked, &numbers)
            }
            failed => {
                // A kind and no more: the text may hold the address.
                let kind = match failed {
                    Ok(Err(error)) => format!("{:?}", error.kind()),
                    _ => "it did not answer in time".to_owned(),
                };
                self.failures.inc();
                self.up.set(0);
                let pause_ms = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
                self.paused_until.store(self.now_ms().saturating_add(pause_ms), Ordering::Relaxed);
                *self.connection.lock().await = None;
                if self.reachable.swap(false, Ordering::Relaxed) {
                    tracing::error!(kind, "the shared limits cannot be reached");
                }
                vec![None; asked.len()]
            }
        }
    }

    async fn round_trip(&self, asked: &[Vec<Bucket>]) -> redis::RedisResult<Vec<u64>> {
        let mut connection = self.connection().await?;
        let mut call = self.script.prepare_invoke();
        for buckets in asked {
            for (place, bucket) in buckets.iter().enumerate() {
                let together = if place == 0 { buckets.len() } else { 0 };
                call.key(&bucket.key);
                call.arg(microseconds(bucket.quota.interval_ns()));
                call.arg(microseconds(bucket.quota.capacity_ns()));
                call.arg(together);
            }
        }
        call.invoke_async(&mut connection).await
    }

    async fn connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let patience = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let fresh = self.client.get_multiplexed_async_connection_with_config(&patience).await?;
        *connection = Some(fresh.clone());
        Ok(fresh)
    }
}

/// With its fraction: an interval may be shorter than a microsecond.
fn microseconds(nanoseconds: u64) -> String {
    format!("{}.{:03}", nanoseconds / 1_000, nanoseconds % 1_000)
}

/// The verdicts behind the numbers: for each key, whether its request may go on, and how far ahead it is.
fn read(asked: &[Vec<Bucket>], numbers: &[u64]) -> Vec<Answer> {
    let mut numbers = numbers.chunks_exact(2);
    let mut verdicts = |buckets: &Vec<Bucket>| -> Answer {
        buckets
            .iter()
            .map(|bucket| {
                let &[allowed, ahead_us] = numbers.next()? else { return None };
                let (quota, ahead_ns) = (bucket.quota, ahead_us.saturating_mul(1_000));
                Some(match allowed {
                    1 => quota.left(ahead_ns),
                    // The microsecond is the script's tolerance.
                    _ if ahead_ns > quota.capacity_ns() + 1_000 => quota.refused(ahead_ns),
                    // Another of its buckets refused it, so nothing was taken from this one.
                    _ => quota.left(ahead_ns.saturating_sub(quota.interval_ns())),
                })
            })
            .collect()
    };
    asked.iter().map(&mut verdicts).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn verdicts_are_read_in_the_order_of_the_keys() {
        let quota = Quota::new(NonZeroU32::new(2).unwrap(), NonZeroU32::new(2).unwrap());
        let bucket = || Bucket { key: "k".to_owned(), quota };
        let asked = vec![vec![bucket(), bucket()], vec![bucket()]];
        let answers = read(&asked, &[0, 1_000_000, 0, 3_000_000, 1, 1_500_000]);
        let first = answers[0].clone().unwrap();
        assert_eq!((first[0].allowed, first[0].remaining), (true, 2), "not the one that refused");
        assert_eq!((first[1].allowed, first[1].wait_ns), (false, 1_000_000_000));
        let second = answers[1].clone().unwrap();
        assert_eq!((second[0].allowed, second[0].remaining), (true, 0));
        assert!(read(&asked, &[1, 1]).iter().all(Option::is_none), "half an answer is none");
    }

    #[test]
    fn intervals_keep_their_fraction() {
        assert_eq!(microseconds(33_333), "33.333");
        assert_eq!(microseconds(2_000_000_007), "2000000.007");
    }
}
