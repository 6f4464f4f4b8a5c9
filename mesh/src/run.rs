//! A service as a process of its own: configuration, runtime, telemetry, signals.

use std::{process::ExitCode, sync::Arc};

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use schemars::JsonSchema;

use crate::{
    clock::{RandomIds, SystemClock},
    config::{ConfigArgs, HELP, Loaded, Sources, Tree},
    drain::Drain,
    memory, server,
    service::{Launch, Service, StartError, start},
    telemetry::Telemetry,
    transport::Transport,
};

#[derive(Debug, Parser)]
#[command(after_help = HELP)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
}

/// The `main` of a service's binary.
pub fn service_main<S: Service>() -> ExitCode
where
    S::Config: JsonSchema,
{
    let arguments = Arguments::command().name(S::NAME).get_matches();
    let outcome = Arguments::from_arg_matches(&arguments)
        .map_err(|error| StartError::Config(error.to_string()))
        .and_then(|arguments| {
            let loaded = Tree::only::<S>().load(&Sources::of(&arguments.config))?;
            serve::<S>(&loaded)
        });
    report(S::NAME, outcome)
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

/// Runs a service as it is configured until it is told to stop.
pub fn serve<S: Service>(loaded: &Loaded) -> Result<(), StartError>
where
    S::Config: JsonSchema,
{
    let (mesh, config) = loaded.service::<S>()?;
    runtime()?.block_on(async {
        let telemetry = Telemetry::start(&mesh.telemetry, S::NAME)
            .map_err(|error| StartError::Config(error.to_string()))?;
        memory::protect(&mesh.memory).map_err(|error| StartError::Config(error.to_string()))?;
        let listen =
            |what, address| server::bind(address).map_err(StartError::io(format!("{what} {address}")));
        // Before any id is used: it says of which mesh they are.
        let transport = Transport::open(S::NAME, mesh.tls, &mesh.identity, &mesh.linkerd).await?;
        let drain = Drain::new();
        let launch = Launch {
            transport,
            rpc: listen("rpc_listen", mesh.rpc_listen)?,
            admin: listen("admin_listen", mesh.admin_listen)?,
            settings: mesh.settings,
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            drain: drain.clone(),
        };
        let running = start::<S>(config, launch).await?;
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
