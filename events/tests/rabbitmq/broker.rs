//! A RabbitMQ of a test's own, which can be killed and started again.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::world::connect;

/// How long it may take to start, on a machine that is busy with other tests.
const START_MAX: Duration = Duration::from_secs(120);

/// A broker in a directory of its own. Ends with this.
pub(crate) struct Broker {
    directory: TempDir,
    programs: PathBuf,
    /// For AMQP, for epmd, between nodes, and for AMQP with TLS.
    ports: [u16; 4],
    tls: bool,
    process: Option<Child>,
}

impl Broker {
    /// Starts one; with TLS if `prepare` leaves server.pem and server.key in the directory.
    pub(crate) async fn start(prepare: impl FnOnce(&Path)) -> Self {
        let places = ["/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin"].map(PathBuf::from);
        let programs = places.into_iter().find(|place| place.join("rabbitmq-env").is_file());
        let programs = programs.expect("RabbitMQ's programs (Debian: apt-get install rabbitmq-server)");
        let held = [0; 4].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let ports = held.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(held);
        let directory = TempDir::with_prefix("paymesh-rabbitmq-").unwrap();
        prepare(directory.path());
        let tls = directory.path().join("server.pem").exists();
        let mut broker = Self { directory, programs, ports, tls, process: None };
        broker.start_again().await;
        broker
    }

    /// Starts it in its directory, after it was killed, and waits until it serves.
    pub(crate) async fn start_again(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/rabbitmq/start");
        let [port, epmd, nodes, tls] = self.ports.map(|port| port.to_string());
        let mut command = Command::new("/bin/sh");
        command.arg(script).arg(self.path()).arg(&self.programs).args([port, epmd, nodes]);
        command.args(self.tls.then_some(tls));
        let log = fs::File::create(self.path().join("said")).unwrap();
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let serves = async {
            while connect(&self.uri()).await.is_none() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let said = || fs::read_to_string(self.path().join("said")).unwrap();
        assert!(timeout(START_MAX, serves).await.is_ok(), "it does not start: {}", said());
    }

    /// Kills it, as a machine that fails would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Stops it as an operator would.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        self.process.take().unwrap().wait().unwrap();
    }

    /// Sends its process a signal, such as STOP.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, &self.process.as_ref().unwrap().id().to_string());
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Its port with TLS.
    pub(crate) fn tls_port(&self) -> u16 {
        self.ports[3]
    }

    /// With the password.
    pub(crate) fn uri(&self) -> String {
        // The script makes it first of all.
        let password = fs::read_to_string(self.path().join("password")).unwrap_or_default();
        format!("amqp://paymesh:{password}@127.0.0.1:{}/%2f", self.ports[0])
    }
}

fn signal(name: &str, pid: &str) {
    Command::new("kill").args(["-s", name, pid]).status().unwrap();
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        if let Ok(epmd) = fs::read_to_string(self.path().join("epmd.pid")) {
            signal("TERM", epmd.trim());
        }
    }
}
