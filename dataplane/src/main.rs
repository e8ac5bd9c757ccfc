//! The daemon: reads its configuration, boots, runs, ends.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use levee_api::diagnostic::Diagnostic;
use levee_api::yaml::SIZE_LIMIT;
use levee_dataplane::boot;
use levee_dataplane::config::{self, Config, Machine};
use levee_dataplane::run::{self, Outcome};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Bad input: the configuration, or the command line (which is clap's own status too).
const BAD_INPUT: u8 = 2;

/// Moves packets: MAC rewriting, ARP proxy, layer-4 balancing, over AF_XDP.
#[derive(Debug, Parser)]
#[command(name = "levee-dataplane", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/levee/dataplane.yaml")]
    config: PathBuf,
    /// Check the configuration against this machine, say what is wrong, and end: status 0 or 2.
    #[arg(long)]
    check: bool,
    /// How logs are written. Which are: environment variable LEVEE_LOG, `info` by default.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (config, machine) = match configuration(&arguments.config) {
        Ok(good) => good,
        Err(found) => {
            for diagnostic in found {
                eprintln!("{diagnostic}");
            }
            return ExitCode::from(BAD_INPUT);
        }
    };
    if arguments.check {
        println!("{}: good", config.file);
        return ExitCode::SUCCESS;
    }
    start_log(arguments.log);
    match daemon(&config, &machine) {
        Ok(Outcome::Stopped) => ExitCode::SUCCESS,
        Ok(Outcome::Failed(thread)) => {
            tracing::error!(thread, "a thread ended by itself");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration, found good by itself and on this machine.
fn configuration(path: &Path) -> Result<(Config, Machine), Vec<Diagnostic>> {
    let name = path.display().to_string();
    let one = |message: String, help: &str| vec![Diagnostic::new(name.clone(), message).help(help)];
    let bytes = read(path).map_err(|error| one(format!("cannot be read: {error}"), "is this the right file?"))?;
    let config = config::read(&name, &bytes)?;
    let machine =
        boot::look().map_err(|error| one(format!("this machine cannot be looked at: {error}"), "is /sys mounted?"))?;
    let found = config.against(&machine);
    if found.is_empty() { Ok((config, machine)) } else { Err(found) }
}

/// As much of a file as is ever read, and one byte more, so that a larger one is told from it.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SIZE_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("LEVEE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        // Colours are for terminals, not for the journal or `kubectl logs`.
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn daemon(config: &Config, machine: &Machine) -> Result<Outcome, Box<dyn std::error::Error>> {
    let booted = boot::boot(config, machine)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        // Would end the process otherwise. Configuration is read at start; everything else comes by the socket.
        let _ignored = signal(SignalKind::hangup())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        run::run(booted, config, stop).await
    })?)
}
