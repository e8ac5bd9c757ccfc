//! The way from files to a program with no daemon in between: for `levee check` and `levee explain`, with the very code
//! that the daemon runs.

use std::path::Path;

use levee_api::diagnostic::Diagnostic;
use levee_api::program::Program;

use crate::compile::{self, View};
use crate::model::{ValidatedCluster, validate};
use crate::notice::Notice;
use crate::watch::files;

/// Reads and judges the cluster that files and directories describe together.
///
/// # Errors
/// Everything that is wrong with it: of each document every misspelt key or else the first mistake in its form; or, where all are of the right form,
/// every object that cannot be accepted.
pub fn load<P: AsRef<Path>>(paths: &[P]) -> Result<ValidatedCluster, Vec<Diagnostic>> {
    let (mut objects, mut notices, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        let reading = files::read_path(path.as_ref());
        objects.extend(reading.objects);
        notices.extend(reading.notices);
        mistakes.extend(reading.mistakes);
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let validation = validate(&objects, notices);
    if validation.refused.is_empty() { Ok(validation.cluster) } else { Err(validation.refused) }
}

/// What the dataplane of a view would be told. Also says what is worth telling about the objects themselves.
#[must_use]
pub fn compile(cluster: &ValidatedCluster, view: &View) -> (Program, Vec<Notice>) {
    compile::compile(cluster, view)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_program_comes_out_of_files_alone() {
        let cluster = load(&[concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/cluster")]).expect("good");
        let (program, notices) = compile(&cluster, &View::node("node-1"));
        assert_eq!((program.services.len(), program.vips.len(), notices.len()), (1, 2, 0));
        assert_eq!(program.services[0].name, "default/web:http");
    }
}
