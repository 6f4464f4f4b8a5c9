//! A service as a process of its own: configuration, runtime, telemetry, signals.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use serde::Deserialize;

use crate::{
    clock::{RandomIds, SystemClock},
    drain::Drain,
    linkerd::LinkerdConfig,
    server,
    service::{Launch, Service, Settings, StartError, start},
    telemetry::{Telemetry, TelemetryConfig},
    tls::IdentityConfig,
    transport::{TlsMode, Transport},
};

/// A service's configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "C: Deserialize<'de> + Default"))]
pub struct FileConfig<C> {
    /// What every service has.
    pub mesh: MeshConfig,
    /// What this one has.
    #[serde(default)]
    pub service: C,
}

/// The `[mesh]` part of a service's configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshConfig {
    /// Where RPCs are taken.
    pub listen: SocketAddr,
    /// Where `/metrics` and probes are answered.
    pub admin: SocketAddr,
    /// Who does mutual TLS: `native`, we with the certificate of `identity`, or `linkerd`, the Linkerd
    /// proxy beside us. Default: `native`.
    #[serde(default)]
    pub tls: TlsMode,
    /// The workload's certificate, key and CA, or where to ask for them; with `linkerd` none of it.
    #[serde(default)]
    pub identity: IdentityConfig,
    /// The Linkerd installation; of interest with `linkerd` only.
    #[serde(default)]
    pub linkerd: LinkerdConfig,
    /// State, upstreams and limits.
    pub settings: Settings,
    /// Logs, traces, metrics.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

#[derive(Debug, Parser)]
struct Arguments {
    /// The configuration file (TOML): one table `mesh`, one table `service`.
    #[arg(long, env = "PAYMESH_CONFIG")]
    config: PathBuf,
}

/// The `main` of a service's binary.
pub fn service_main<S: Service>() -> ExitCode {
    let arguments = Arguments::parse();
    report(S::NAME, serve_from_file::<S>(&arguments.config))
}

/// Says in one line why a process could not do its work.
pub fn report(name: &str, outcome: Result<(), StartError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a service with a configuration file until it is told to stop.
pub fn serve_from_file<S: Service>(path: &std::path::Path) -> Result<(), StartError> {
    let text = std::fs::read_to_string(path).map_err(StartError::io(path.display().to_string()))?;
    let config: FileConfig<S::Config> =
        toml::from_str(&text).map_err(|error| StartError::Config(format!("{}: {error}", path.display())))?;
    runtime()?.block_on(async {
        let telemetry = Telemetry::start(&config.mesh.telemetry, S::NAME)
            .map_err(|error| StartError::Config(error.to_string()))?;
        let listen =
            |what, address| server::bind(address).map_err(StartError::io(format!("{what} {address}")));
        let MeshConfig { tls, identity, linkerd, .. } = &config.mesh;
        // Before any id is used: it says of which mesh they are.
        let transport = Transport::open(S::NAME, *tls, identity, linkerd).await?;
        let drain = Drain::new();
        let launch = Launch {
            transport,
            rpc: listen("mesh.listen", config.mesh.listen)?,
            admin: listen("mesh.admin", config.mesh.admin)?,
            settings: config.mesh.settings,
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            drain: drain.clone(),
        };
        let running = start::<S>(config.service, launch).await?;
        let failed = running.failed();
        let outcome = tokio::select! {
            () = wait_for_signal() => Ok(()),
            () = failed => Err(StartError::Failed(S::NAME)),
        };
        tracing::info!(service = S::NAME, "draining");
        give_up_on_second_signal();
        running.stop().await;
        let _ = tokio::task::spawn_blocking(|| telemetry.flush()).await;
        outcome
    })
}

/// The runtime that the mesh runs on: all cores, without the LIFO slot.
///
/// The slot makes a connection's task run right after each handler, so that every answer is a write of
/// its own; without it the answers of several handlers share one write.
pub fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    #[cfg(tokio_unstable)]
    builder.disable_lifo_slot();
    builder.enable_all().thread_name("paymesh").build().map_err(StartError::io("the runtime"))
}

/// From now on another signal ends the process at once: for whoever does not want to wait for a drain.
pub fn give_up_on_second_signal() {
    tokio::spawn(async {
        wait_for_signal().await;
        std::process::exit(130);
    });
}

/// Waits for SIGTERM or Ctrl-C.
pub async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
