//! The `paymesh` command.

use paymesh_proto::{crypto::v1::RotateRootResponse, ledger::v1::AuditResponse};
use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use mesh::{config::Sources, telemetry::Telemetry};
use paymesh::{
    Dev, DevOptions,
    args::{AuditArgs, Cli, Command, DevArgs, PolicyCommand},
    certs, config,
    crypto::{
        self,
        args::{AuditCommand, CryptoCommand, RootCommand},
    },
    demo,
    describe::Description,
    keys, operator, policy, serve,
};

/// Measured on the mesh's own hot path: about a fifth more requests than with the system's allocator. What is freed is
/// wiped: buffers of HTTP/2, TLS and messages hold card numbers and plaintexts too.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> =
    zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => dev(&cli.dev),
        Some(Command::Dev(args)) => dev(&args),
        Some(Command::Audit(args)) => audit(&args),
        Some(Command::Crypto(CryptoCommand::Audit(command))) => crypto(&command),
        Some(Command::Crypto(CryptoCommand::Root(command))) => crypto_root(&command),
        Some(Command::Policy(args)) => policy(&args.command),
        Some(Command::Certs(args)) => certs::run(&args, &mut std::io::stdout().lock()).map_err(Into::into),
        Some(Command::Config(command)) => config::run(&command).and_then(|(text, code)| {
            writeln!(std::io::stdout().lock(), "{}", text.trim_end())?;
            Ok(code)
        }),
        Some(Command::Keys(args)) => {
            keys::run(&args, &mut std::io::stdout().lock()).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Some(Command::Serve(args)) => serve::serve(&args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("paymesh: {error}");
        ExitCode::FAILURE
    })
}

fn dev(args: &DevArgs) -> Outcome {
    let mut sources = Sources::of(&args.config);
    if let Some(address) = args.edge_addr {
        sources.flag("--edge-addr", &["edge-gateway", "listen"], address.to_string());
    }
    for (name, port) in &args.ports {
        sources.flag("--port", &[name, "rpc_listen"], format!("127.0.0.1:{port}"));
    }
    if let Some(log) = &args.log {
        sources.flag("--log", &["mesh", "telemetry", "log"], log);
    }
    if let Some(endpoint) = &args.otlp_endpoint {
        sources.flag("--otlp-endpoint", &["mesh", "telemetry", "otlp_endpoint"], endpoint);
    }
    let options = DevOptions { data_dir: args.data_dir.clone(), api_keys: args.api_keys.clone(), sources };
    mesh::run::runtime()?.block_on(async {
        let loaded = options.load()?;
        let telemetry = Telemetry::start(&loaded.common("telemetry")?, "paymesh-dev")?;
        mesh::memory::protect(&loaded.common("memory")?)?;
        let signal = mesh::run::wait_for_signal();
        tokio::pin!(signal);
        let mesh = tokio::select! {
            mesh = Dev::start(options) => mesh?,
            () = &mut signal => return Ok(ExitCode::SUCCESS),
        };
        print_welcome(mesh.description(), &args.data_dir.display().to_string())?;
        let demonstrated = async {
            if args.demo {
                demo::run(mesh.description()).await?;
                println!("\nThe mesh goes on serving; stop it with Ctrl-C.");
            }
            std::future::pending::<Result<(), Box<dyn std::error::Error>>>().await
        };
        let mut code = ExitCode::SUCCESS;
        tokio::select! {
            () = &mut signal => {}
            ended = demonstrated => ended?,
            name = mesh.failed() => {
                eprintln!("paymesh: a part of {name} failed; the log above says which");
                code = ExitCode::FAILURE;
            }
        }
        eprintln!("paymesh: draining (once more Ctrl-C stops at once)");
        mesh::run::give_up_on_second_signal();
        mesh.stop().await;
        tokio::task::spawn_blocking(|| telemetry.flush()).await?;
        eprintln!("paymesh: stopped");
        Ok(code)
    })
}

/// What a newcomer needs next, ready to be pasted.
fn print_welcome(mesh: &Description, data_dir: &str) -> std::io::Result<()> {
    let Description { edge_url: url, api_key: key, services, .. } = mesh;
    let mut out = std::io::stdout().lock();
    writeln!(out, "paymesh is ready.\n")?;
    writeln!(out, "  REST edge  {url}   (API: {url}/openapi.json)")?;
    writeln!(out, "  API key    {key}")?;
    writeln!(out, "  data       {data_dir}   (addresses and certificates for tools: {data_dir}/dev.json)")?;
    for (name, address) in services {
        writeln!(out, "  {name:<13}{address}")?;
    }
    writeln!(out, "\nA payment, to paste into a shell:\n")?;
    writeln!(
        out,
        "TOKEN=$(curl -s {url}/v1/tokens -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
         -d '{{\"card\":{{\"number\":\"4242424242424242\",\"exp_month\":12,\"exp_year\":2030,\"cvc\":\"123\"}}}}' \
         | sed 's/.*\"id\":\"\\(tok_[0-9a-f]*\\)\".*/\\1/'); \
         curl -s {url}/v1/payments -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
         -H \"Idempotency-Key: $(date +%s%N)\" \
         -d \"{{\\\"amount\\\":1050,\\\"currency\\\":\\\"EUR\\\",\\\"payment_method\\\":{{\\\"token\\\":\\\"$TOKEN\\\"}},\\\"reference\\\":\\\"INV-1001\\\"}}\""
    )?;
    writeln!(out, "\nStop with Ctrl-C.")?;
    out.flush()
}

fn audit(args: &AuditArgs) -> Outcome {
    let progress = |said: &AuditResponse| {
        eprint!("\rrecord {} of {}, {} transfers", said.records, said.records_total, said.transfers);
    };
    let report = mesh::run::runtime()?.block_on(operator::audit(&args.data_dir, progress))?;
    eprintln!("\r{} records of the journal replayed", report.records);
    println!("accounts   {}\ntransfers  {}", report.accounts, report.transfers);
    if report.ok {
        println!("The ledger is whole: debits equal credits, and every balance is the sum of its transfers.");
        return Ok(ExitCode::SUCCESS);
    }
    for offence in &report.offences {
        println!("offence    {offence}");
    }
    Ok(ExitCode::FAILURE)
}

fn crypto_root(command: &RootCommand) -> Outcome {
    let mut answer = Vec::new();
    let progress = |said: &RotateRootResponse| eprint!("\r{} of {} keys", said.keys, said.keys_total);
    let read_share = || {
        eprintln!("Share:");
        std::io::stdin().lines().next().unwrap_or_else(|| Ok(String::new()))
    };
    let ran = crypto::root::run(command, &mut answer, read_share, progress);
    let code = mesh::run::runtime()?.block_on(ran)?;
    eprint!("\r");
    std::io::stdout().lock().write_all(&answer)?;
    Ok(code)
}

fn crypto(command: &AuditCommand) -> Outcome {
    let progress = |records, total| match total {
        0 => eprint!("\rrecord {records}"),
        total => eprint!("\rrecord {records} of {total}"),
    };
    let mut answer = Vec::new();
    let code = mesh::run::runtime()?.block_on(crypto::run(command, &mut answer, progress))?;
    eprint!("\r");
    std::io::stdout().lock().write_all(&answer)?;
    Ok(code)
}

fn policy(command: &PolicyCommand) -> Outcome {
    print!("{}", policy::run(command)?);
    Ok(ExitCode::SUCCESS)
}
