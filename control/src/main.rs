//! The daemon `levee-control`: see the library's documentation, and `configs/` for examples of its configuration.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use levee_api::diagnostic::Diagnostic;
use levee_control::config::{self, Config};
use levee_control::daemon;
use levee_control::program::UnixTransport;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Bad input: configuration or objects.
const BAD_INPUT: u8 = 2;
/// The system does not let it run.
const FAILED: u8 = 1;

/// Turns cluster state into a program, and keeps a dataplane running it.
#[derive(Debug, Parser)]
#[command(name = "levee-control", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/levee/control.yaml")]
    config: PathBuf,
    /// Check the configuration and everything that its sources hold, say what is wrong, and end: status 0 or 2.
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
    let config = match config::load(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => return refuse(&mistakes),
    };
    if arguments.check {
        return check(&arguments.config, &config);
    }
    start_log(arguments.log);
    match run(&arguments.config, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

fn check(path: &Path, config: &Config) -> ExitCode {
    match daemon::check(config) {
        Ok(notices) => {
            for notice in notices {
                println!("notice: {notice}");
            }
            println!("{}: good", path.display());
            ExitCode::SUCCESS
        }
        Err(mistakes) => refuse(&mistakes),
    }
}

fn refuse(mistakes: &[Diagnostic]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    ExitCode::from(BAD_INPUT)
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("LEVEE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn run(path: &Path, config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // Files are followed. A stray SIGHUP should not end a daemon.
        let mut hang_up = signal(SignalKind::hangup())?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node = config.view.node,
            role = %config.view.role,
            dataplane = %config.dataplane.as_deref().unwrap_or(Path::new("none")).display(),
            "levee-control starts"
        );
        let stop = async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hang_up.recv() => tracing::info!("SIGHUP changes nothing: files are followed by themselves"),
                }
            }
            tracing::info!("levee-control stops; the dataplane goes on with what it has");
            tell(NotifyState::Stopping);
        };
        let ready = || tell(NotifyState::Ready);
        if let Some(period) = sd_notify::watchdog_enabled() {
            // On the thread that turns the loop: when that hangs, so does this.
            tokio::spawn(async move {
                loop {
                    tell(NotifyState::Watchdog);
                    tokio::time::sleep((period / 3).max(std::time::Duration::from_millis(100))).await;
                }
            });
        }
        // Without one nothing is ever sent.
        let transport = UnixTransport::new(config.dataplane.as_deref().unwrap_or(Path::new("none")));
        daemon::run(path, config, transport, ready, stop).await?;
        Ok(())
    })
}

/// Tells systemd, if it listens.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd does not listen");
    }
}
