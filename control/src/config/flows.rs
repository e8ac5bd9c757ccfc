//! `drain` and `mid_stream`: what becomes of flows when their backend, or what is known of them, ends. Services may say otherwise.

use levee_api::diagnostic::Diagnostic;
use levee_api::program::{FlowPolicy, MidStream};

use crate::compile::Role;
use crate::model::{Origin, Placed, flows};

/// What is so for Services that do not say otherwise. A node keeps its pods' connections through a restart of its dataplane: their other
/// end is known by the hash. A balancer leaves it to the mode: see [`FlowPolicy::mid_stream`].
pub(super) fn read(
    drain: Option<&Placed<String>>,
    mid_stream: Option<&Placed<String>>,
    role: Role,
    origin: &Origin,
    mistakes: &mut Vec<Diagnostic>,
) -> FlowPolicy {
    let mut policy = default(role);
    if let Some(Placed { value, place }) = drain {
        match flows::drain(value) {
            Ok(seconds) => policy.drain_seconds = seconds,
            Err(why) => mistakes.push(origin.diagnostic(*place, format!("`drain`: {why}"))),
        }
    }
    if let Some(Placed { value, place }) = mid_stream {
        match flows::mid_stream(value) {
            Ok(word) => policy.mid_stream = Some(word),
            Err(why) => mistakes.push(origin.diagnostic(*place, format!("`mid_stream`: {why}"))),
        }
    }
    policy
}

/// Without a word in the configuration.
fn default(role: Role) -> FlowPolicy {
    FlowPolicy { drain_seconds: None, mid_stream: (role == Role::Node).then_some(MidStream::Hash) }
}
