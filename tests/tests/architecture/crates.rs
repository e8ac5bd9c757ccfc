//! Crates: who may depend on whom, as cargo resolves it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

use crate::none_of;
use crate::source::{relative, root};

/// One crate of the workspace: the crates of the workspace that it may use, and crates that must not come with it, not
/// even through others.
struct Crate {
    name: &'static str,
    uses: &'static [&'static str],
    never: &'static [&'static str],
}

const ASYNC: &[&str] = &["tokio", "axum", "hyper", "tower"];
const KUBERNETES: &[&str] = &["kube", "k8s-openapi"];
const SOCKETS: &[&str] = &["libc", "nix", "rustix", "socket2", "tokio", "axum", "hyper", "memmap2"];

const CRATES: &[Crate] = &[
    // No I/O, no async.
    Crate { name: "levee-api", uses: &[], never: SOCKETS },
    // A file and a listener: what is served on it is each daemon's own affair.
    Crate { name: "levee-socket", uses: &[], never: ASYNC },
    // Reusable by others: nothing of levee's in it.
    Crate { name: "af-xdp", uses: &[], never: ASYNC },
    // Has never heard of Kubernetes, nor of who programs it.
    Crate { name: "levee-dataplane", uses: &["af-xdp", "levee-api", "levee-socket"], never: KUBERNETES },
    // Never sees a packet.
    Crate { name: "levee-control", uses: &["levee-api", "levee-socket"], never: &["af-xdp", "levee-dataplane"] },
    // Explains offline with the very code of the live path, so it may know both; asks a host's drivers as the dataplane does.
    Crate {
        name: "levee",
        uses: &["af-xdp", "levee-api", "levee-control", "levee-dataplane"],
        never: &["levee-tests"],
    },
    // The packet's way over memory; the same source under loom's types.
    Crate { name: "levee-fuzz", uses: &["af-xdp", "levee-api", "levee-dataplane"], never: &[] },
    Crate { name: "levee-loom", uses: &[], never: ASYNC },
    Crate { name: "levee-tests", uses: &["levee-api", "levee-dataplane", "levee-control", "af-xdp"], never: &[] },
    // Of levee's it knows MACs: any device can be under test.
    Crate { name: "levee-pktgen", uses: &["levee-api", "af-xdp"], never: ASYNC },
    Crate {
        name: "levee-benches",
        uses: &["levee-api", "levee-dataplane", "levee-control", "af-xdp", "levee-tests", "levee-pktgen"],
        never: &[],
    },
];

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).other_options([
        "--offline".to_owned(),
        "--locked".to_owned(),
        // Without what other systems would need, which was never downloaded.
        format!("--filter-platform={}-unknown-linux-gnu", std::env::consts::ARCH),
    ]);
    command.exec().unwrap_or_else(|error| panic!("cargo metadata: {error}"))
}

/// What a crate is linked with, tests and build scripts apart.
fn normal_dependencies(metadata: &Metadata) -> BTreeMap<&PackageId, BTreeSet<&PackageId>> {
    let nodes = &metadata.resolve.as_ref().expect("dependencies are resolved").nodes;
    let normal = |kinds: &[cargo_metadata::DepKindInfo]| kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
    nodes
        .iter()
        .map(|node| {
            let linked = node.deps.iter().filter(|dependency| normal(&dependency.dep_kinds));
            (&node.id, linked.map(|dependency| &dependency.pkg).collect())
        })
        .collect()
}

#[test]
fn crates_depend_only_on_what_they_may() {
    let metadata = metadata();
    let direct = normal_dependencies(&metadata);
    let name = |id: &PackageId| metadata[id].name.to_string();
    let members: BTreeSet<_> = metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        let Some(rule) = CRATES.iter().find(|rule| rule.name == package.name.as_str()) else {
            complaints.push(format!(
                "Cargo.toml: workspace member `{}` is not in the table. Add it to tests/tests/architecture/crates.rs with \
                 what it may use, and to the code map in ARCHITECTURE.md.",
                package.name
            ));
            continue;
        };
        let manifest = relative(package.manifest_path.as_std_path());
        for other in direct[&package.id].iter().map(|id| name(id)).filter(|other| members.contains(other)) {
            if !rule.uses.contains(&other.as_str()) {
                complaints
                    .push(format!("{manifest}: `{}` may not depend on `{other}`, only on {:?}.", rule.name, rule.uses));
            }
        }
        // Everything that is linked, with how it came in.
        let mut way: BTreeMap<&PackageId, Vec<String>> = BTreeMap::from([(&package.id, vec![name(&package.id)])]);
        let mut open = vec![&package.id];
        while let Some(id) = open.pop() {
            let so_far = way[id].clone();
            for &next in &direct[id] {
                if !way.contains_key(next) {
                    way.insert(next, so_far.iter().cloned().chain([name(next)]).collect());
                    open.push(next);
                }
            }
        }
        for way in way.values() {
            let last = way.last().expect("a way has an end");
            if rule.never.contains(&last.as_str()) {
                complaints.push(format!(
                    "{manifest}: `{last}` must not be linked into `{}`: {}.",
                    rule.name,
                    way.join(" → ")
                ));
            }
        }
    }
    for rule in CRATES.iter().filter(|rule| !members.contains(rule.name)) {
        complaints
            .push(format!("the table has a crate `{}` that is not a member of the workspace: take it out.", rule.name));
    }
    none_of(&complaints);
}

#[test]
fn each_dependency_has_its_version_and_its_reason_in_one_place() {
    let mut complaints = Vec::new();
    let path = root().join("Cargo.toml");
    let text = fs::read_to_string(&path).expect("the workspace has a manifest");
    let mut section = "";
    let mut explained = false;
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            (section, explained) = (name.trim_end_matches(']'), false);
        } else if line.starts_with('#') {
            explained = true;
        } else if line.trim().is_empty() {
            explained = false;
        } else if section == "workspace.dependencies" && line.contains('=') {
            let name = line.split('=').next().unwrap_or_default().trim();
            if !line.contains("path =") {
                let place = format!("Cargo.toml:{}", number + 1);
                if !explained {
                    complaints.push(format!("{place}: `{name}` has no `# reason` above it. Say what it is here for."));
                }
                if !line.contains("default-features = false") || line.contains(" features") {
                    complaints.push(format!(
                        "{place}: `{name}` enables features for everybody. Write `default-features = false` here, and \
                         ask for features in the crate that needs them."
                    ));
                }
            }
        }
    }
    for package in metadata().workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).expect("cargo has read it too");
        let mut section = String::new();
        for (number, line) in manifest.lines().enumerate() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']).to_owned();
            } else if section.ends_with("dependencies") && line.contains("version") {
                complaints.push(format!(
                    "{}:{}: a version. Versions live in [workspace.dependencies] of the root; write `workspace = true`.",
                    relative(package.manifest_path.as_std_path()),
                    number + 1
                ));
            }
        }
    }
    none_of(&complaints);
}
