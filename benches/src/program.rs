//! What the programs here have in common: where their figures go, what they want of a machine, and how they end.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::TypedValueParser;
use serde_json::Value;

/// Where figures go, besides the terminal.
#[derive(Debug, Clone, Default, Args)]
pub struct Output {
    /// Everything that was measured, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Output {
    /// Writes the figures, if they are wanted.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub fn write(&self, figures: &Value) -> Result<(), String> {
        self.json.as_deref().map_or(Ok(()), |file| write(file, &format!("{figures:#}\n")))
    }

    /// The end of a program: writes the figures, says what was missed, and fails if something was.
    #[must_use]
    pub fn end(&self, figures: &Value, missed: &[String]) -> ExitCode {
        for miss in missed {
            eprintln!("{miss}");
        }
        match self.write(figures) {
            Ok(()) if missed.is_empty() => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
            Err(problem) => {
                eprintln!("{problem}");
                ExitCode::FAILURE
            }
        }
    }
}

/// How many of something: clap knows ranges of numbers of a certain size, and not of what everything is counted in.
pub fn number(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u64).range(range).map(|number| number as usize)
}

/// Writes a file.
///
/// # Errors
/// Its name, and what is wrong with it.
pub fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Whether this machine has so many cores for a program; if not, that is said. `each` says what they are for.
#[must_use]
pub fn has_cores(program: &str, wanted: usize, each: &str) -> bool {
    let here = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if here < wanted {
        println!("SKIPPED: {program} wants {wanted} cores, {each}; here is {here}");
    }
    here >= wanted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_program_fails_if_something_was_missed_or_its_figures_are_lost() {
        let directory = std::env::temp_dir().join(format!("levee-program-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("figures.json");
        let output = Output { json: Some(file.clone()) };
        let code = |output: &Output, missed: &[String]| format!("{:?}", output.end(&json!({ "a": 1 }), missed));
        let (success, failure) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(code(&output, &[]), success);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\n  \"a\": 1\n}\n");
        assert_eq!(code(&output, &["a bar".into()]), failure);
        assert_eq!(code(&Output { json: Some(directory.join("none/figures.json")) }, &[]), failure);
        assert_eq!(code(&Output::default(), &[]), success);
        assert!(has_cores("it", 1, "for itself") && !has_cores("it", usize::MAX, "for everybody"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
