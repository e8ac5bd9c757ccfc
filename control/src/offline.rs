//! The way from files to a program with no daemon in between: for `levee check` and `levee explain`, with the very code
//! that the daemon runs.

use std::path::Path;

use levee_api::diagnostic::Diagnostic;
use levee_api::program::Program;
use levee_api::yaml;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::compile::{self, View};
use crate::config;
use crate::model::{ValidatedCluster, validate};
use crate::notice::Notice;
use crate::watch::{files, read};

/// Reads and judges the cluster that files and directories describe together.
///
/// # Errors
/// Everything that is wrong with it: at most one mistake in the form of each document; or, where all are of the right form,
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

/// What a file of ours is about, by the keys at its top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Kubernetes objects and levee's own: `apiVersion` and `kind`.
    Cluster,
    /// Configuration of levee-control: `sources`.
    ControlConfig,
    /// Configuration of levee-dataplane: `ports` and `workers`. Only recognised here; the dataplane's library judges it.
    DataplaneConfig,
    /// A program, as the dataplane takes it: `generation`. Only recognised here.
    Program,
}

/// The keys that tell files apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Top {
    api_version: Option<IgnoredAny>,
    kind: Option<IgnoredAny>,
    sources: Option<IgnoredAny>,
    ports: Option<IgnoredAny>,
    workers: Option<IgnoredAny>,
    generation: Option<IgnoredAny>,
    services: Option<IgnoredAny>,
}

/// Says what a file is about, by its first document.
///
/// # Errors
/// It is no YAML, or none of ours.
pub fn recognise(file: &str, bytes: &[u8]) -> Result<FileKind, Diagnostic> {
    let text = yaml::text(file, bytes)?;
    let Some(first) = yaml::documents(file, text).into_iter().next() else {
        return Err(Diagnostic::new(file, "the file has no content"));
    };
    let top: Top = first.read()?;
    if top.api_version.is_some() || top.kind.is_some() {
        Ok(FileKind::Cluster)
    } else if top.sources.is_some() {
        Ok(FileKind::ControlConfig)
    } else if top.generation.is_some() || top.services.is_some() {
        Ok(FileKind::Program)
    } else if top.ports.is_some() || top.workers.is_some() {
        Ok(FileKind::DataplaneConfig)
    } else {
        Err(Diagnostic::new(file, "this is no file of levee's").at(first.lines_before() + 1, 1).help(
            "expected Kubernetes objects (`apiVersion`, `kind`), a configuration of levee-control (`sources`) or of \
             levee-dataplane (`ports`, `workers`), or a program (`generation`)",
        ))
    }
}

/// Judges a file by itself, whatever it is about. What a cluster's files say together is [`load`]'s to judge.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check_file(file: &str, bytes: &[u8]) -> Result<FileKind, Vec<Diagnostic>> {
    let kind = recognise(file, bytes).map_err(|mistake| vec![mistake])?;
    let mistakes = match kind {
        FileKind::Cluster => {
            let reading = read(file, bytes);
            if reading.mistakes.is_empty() { validate(&reading.objects, Vec::new()).refused } else { reading.mistakes }
        }
        // Any host will do: whether this one's name could be a Node's is not the file's fault.
        FileKind::ControlConfig => config::read(file, bytes, "localhost").err().unwrap_or_default(),
        FileKind::DataplaneConfig | FileKind::Program => Vec::new(),
    };
    if mistakes.is_empty() { Ok(kind) } else { Err(mistakes) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_ours_is_recognised() {
        for (text, kind) in [
            (include_str!("../../tests/fixtures/cluster/cluster.yaml"), FileKind::Cluster),
            ("items: []\nkind: List\napiVersion: v1\n", FileKind::Cluster),
            (include_str!("../../configs/control-node.yaml"), FileKind::ControlConfig),
            (include_str!("../../configs/control-balancer.yaml"), FileKind::ControlConfig),
            (include_str!("../../configs/dataplane-node.yaml"), FileKind::DataplaneConfig),
            ("{\"generation\": 1, \"services\": []}", FileKind::Program),
        ] {
            assert_eq!(check_file("f", text.as_bytes()), Ok(kind), "{text}");
        }
    }

    #[test]
    fn every_file_is_judged_as_what_it_is() {
        for (text, expected) in [
            ("colour: blue\n", "f:1:1: this is no file of levee's"),
            ("# empty\n", "f: the file has no content"),
            ("[1, 2]\n", "f:1:1: wrong type"),
            ("sources: []\n", "f:1:10: `sources` is empty"),
            ("kind: Service\n", "f:1:1: the key `apiVersion` is missing"),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: A}\nspec: {}\n",
                "f:3:18: Service default/A: `A` is no name",
            ),
        ] {
            let mistakes = check_file("f", text.as_bytes()).expect_err(text);
            assert!(mistakes[0].to_string().starts_with(expected), "{}\n{expected}", mistakes[0]);
        }
    }

    #[test]
    fn a_program_comes_out_of_files_alone() {
        let cluster = load(&[concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/cluster")]).expect("good");
        let (program, notices) = compile(&cluster, &View::node("node-1"));
        assert_eq!((program.services.len(), program.vips.len(), notices.len()), (1, 2, 0));
        assert_eq!(program.services[0].name, "default/web:http");
    }
}
