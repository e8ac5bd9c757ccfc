//! What operators apply and install: that the manifests and units in `configs/` say what the daemons really need.
//!
//! A real API server's opinion of the same manifests is in `control/tests/kube/deploy.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod capabilities;
mod image;
mod manifests;
mod units;

use std::path::PathBuf;

use serde_json::Value;

/// A file of this repository.
fn path(relative: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(relative)
}

fn read(relative: &str) -> String {
    std::fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// The objects of install.yaml.
fn objects() -> Vec<Value> {
    documents(&read("configs/kubernetes/install.yaml"))
}

fn documents(yaml: &str) -> Vec<Value> {
    let documents = levee_api::yaml::documents("objects", yaml);
    let objects = documents.iter().map(|document| document.read().unwrap_or_else(|mistake| panic!("{mistake}")));
    // A document of comments alone is none.
    objects.collect::<Vec<Option<Value>>>().into_iter().flatten().collect()
}

/// An object of install.yaml.
fn object(kind: &str, name: &str) -> Value {
    let found = objects().into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("install.yaml has no {kind} {name}"))
}

/// Objects that make pods, with the pods' spec of each.
fn workloads() -> Vec<(String, Value)> {
    let all = objects().into_iter().filter(|object| !object["spec"]["template"].is_null());
    let named = all.map(|object| {
        (object["metadata"]["name"].as_str().unwrap().to_owned(), object["spec"]["template"]["spec"].clone())
    });
    named.collect()
}

/// A container of a pod's spec.
fn container<'a>(spec: &'a Value, name: &str) -> &'a Value {
    let found = spec["containers"].as_array().unwrap().iter().find(|container| container["name"] == name);
    found.unwrap_or_else(|| panic!("no container {name}"))
}
