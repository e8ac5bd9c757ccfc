//! Annotation `levee.dev/quic-lb`: which configurations of QUIC-LB a Service's servers make their connection IDs by.

use std::collections::BTreeMap;

use levee_api::program::Backend;
use levee_api::quic::{Config, ServerId};

/// What is said in notices of a name that somebody wrote.
fn shown(name: &str) -> String {
    name.chars().take(40).collect()
}

/// The configurations that a Service names, separated by commas; and what is wrong, for its owner.
pub(super) fn named(annotation: &str, configs: &BTreeMap<String, Config>) -> (Vec<Config>, Vec<String>) {
    let (mut found, mut notices): (Vec<Config>, Vec<String>) = (Vec::new(), Vec::new());
    for name in annotation.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match configs.get(name) {
            None => notices.push(format!(
                "annotation `levee.dev/quic-lb` names `{}`, which is not in `quic_lb` of the configuration; it is left out",
                shown(name)
            )),
            Some(config) if found.contains(config) => {}
            Some(config) if found.iter().any(|other| other.rotation == config.rotation) => notices.push(format!(
                "annotation `levee.dev/quic-lb` names two configurations of rotation {}; `{}` is left out",
                config.rotation,
                shown(name)
            )),
            Some(config) => found.push(config.clone()),
        }
    }
    if found.is_empty() && notices.is_empty() {
        notices.push("annotation `levee.dev/quic-lb` names no configuration; expected names out of `quic_lb`".into());
    }
    (found, notices)
}

/// What is wrong with a configuration and these backends: an ID that two have names neither.
pub(super) fn shared(config: &Config, backends: &[Backend]) -> Option<String> {
    let mut owners: BTreeMap<ServerId, &Backend> = BTreeMap::new();
    let (mut count, mut first) = (0, None);
    for backend in backends {
        for id in config.server_ids(backend.address) {
            if let Some(other) = owners.insert(id.clone(), backend) {
                count += 1;
                first.get_or_insert((id, other, backend));
            }
        }
    }
    let (id, one, other) = first?;
    let and_more = if count > 1 { format!(", and {} more like them", count - 1) } else { String::new() };
    Some(format!(
        "`levee.dev/quic-lb`: {}:{} and {}:{} have one server ID of rotation {}, {id}{and_more}: their connections are balanced by address \
         and port alone; expected longer IDs, or `servers`",
        one.address, one.port, other.address, other.port, config.rotation
    ))
}
