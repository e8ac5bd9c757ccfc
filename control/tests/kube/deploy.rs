//! `configs/kubernetes/install.yaml` before a real API server.
//!
//! The server is of 1.20, older than the first that levee is for. It refuses what is malformed and what contradicts itself; a field that
//! it does not know it drops without a word (`fieldValidation` came with 1.25). So each object must come back with every field
//! that was sent: a misspelt one would not. No field of the manifests is younger than that server, or this test would say so.

use kube::api::{Patch, PatchParams};
use serde_json::Value;

use crate::common::Server;

/// The objects of install.yaml, in its order.
fn objects() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/kubernetes/install.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let documents = levee_api::yaml::documents("install.yaml", &text);
    let objects: Vec<Option<Value>> =
        documents.iter().map(|document| document.read().unwrap_or_else(|mistake| panic!("{mistake}"))).collect();
    // The head of the file is a document of comments alone.
    objects.into_iter().flatten().collect()
}

/// Where `kept` has not what `sent` has.
fn lost(sent: &Value, kept: &Value, path: &str, losses: &mut Vec<String>) {
    match (sent, kept) {
        (Value::Object(sent), Value::Object(kept)) => {
            for (key, value) in sent {
                match kept.get(key) {
                    Some(other) => lost(value, other, &format!("{path}.{key}"), losses),
                    // What is empty says nothing, and the server leaves it out.
                    None if value.as_object().is_some_and(serde_json::Map::is_empty) => {}
                    None => losses.push(format!("{path}.{key}")),
                }
            }
        }
        (Value::Array(sent), Value::Array(kept)) if sent.len() == kept.len() => {
            for (index, (sent, kept)) in sent.iter().zip(kept).enumerate() {
                lost(sent, kept, &format!("{path}[{index}]"), losses);
            }
        }
        _ if sent == kept => {}
        _ => losses.push(format!("{path}: sent {sent}, got {kept}")),
    }
}

#[test]
fn the_server_takes_every_object_and_keeps_every_field() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    let objects = objects();
    assert!(objects.len() > 8, "{}", objects.len());
    let params = PatchParams::apply("a-test").dry_run().force();
    let mut losses = Vec::new();
    for object in &objects {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let answer = admin.block_on(admin.api(object).patch(name, &params, &Patch::Apply(object)));
        let kept = answer.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
        lost(object, &serde_json::to_value(kept).unwrap(), &format!("{kind} {name}: "), &mut losses);
    }
    assert_eq!(losses, [""; 0]);
}

#[test]
fn a_misspelt_field_would_be_found() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    let mut object = objects().into_iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    object["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = true.into();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let params = PatchParams::apply("a-test").dry_run().force();
    let answer = admin.block_on(admin.api(&object).patch(&name, &params, &Patch::Apply(&object)));
    let mut losses = Vec::new();
    match answer {
        Ok(kept) => lost(&object, &serde_json::to_value(kept).unwrap(), "", &mut losses),
        // A newer server says so itself; and this one, whose server-side apply knows its types.
        Err(error) => losses.push(error.to_string()),
    }
    assert!(losses.iter().any(|loss| loss.contains("readOnlyRootFileSystem")), "{losses:?}");
}
