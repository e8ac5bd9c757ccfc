//! Tells what an input does, step by step: `cargo run -p levee-fuzz --example story FILE`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: story FILE");
        return ExitCode::from(2);
    };
    match std::fs::read(&file) {
        Ok(bytes) => {
            levee_fuzz::play(&bytes, |step| println!("{step}"));
            println!("all is as it should be");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::FAILURE
        }
    }
}
