//! levee, the command line.
//!
//! ```text
//!  arguments ─► command::* ─┬─► client ──HTTP+JSON/UDS──► levee-dataplane, levee-control     (what runs)
//!                           └─► files ─► levee_control ─► levee_dataplane's own tables       (what would)
//!                                   │                            │
//!  exit status ◄─ failure ◄─────────┴──────── output ◄───────────┘   tables for people, JSON and YAML for programs
//! ```
//!
//! It keeps no state and takes no lock: everything it says was just asked for or just computed. It decides nothing itself;
//! what a file means is `levee_control`'s word, what becomes of a packet `levee_dataplane`'s.
//!
//! Exit status: 0 done, 1 a daemon could not be reached or refused, 2 the input was bad.

mod arguments;
mod client;
mod command;
mod failure;
mod input;
mod output;
mod repeat;

use std::process::ExitCode;

use clap::Parser as _;

use self::arguments::Arguments;

fn main() -> ExitCode {
    match command::run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}
