//! `levee explain`: what becomes of a packet, and why.
//!
//! Offline, the cluster goes the whole way of a live one, with the same code and no daemon: objects, program, tables,
//! `classify`, `decide`. Online, the running dataplane does the last steps with what it has.

mod offline;

use std::io::{self, Write};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use levee_api::explain::{Explanation, Fate, Packet, Question};
use levee_api::tunnel::{Encapsulation, Tunnel};
use levee_control::compile::{Overlay, View};

use crate::arguments::{Explain, Format, Role};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::value;

pub(super) fn run(
    client: impl FnOnce() -> Result<Client, Failure>,
    format: Format,
    arguments: Explain,
) -> Result<(), Failure> {
    // A daemon would say the same, but only if it runs.
    let packet: Packet = arguments.packet.parse().map_err(|error| Failure::argument("--packet", error))?;
    let question = Question { packet: packet.to_string(), from: arguments.from.map(Into::into) };
    let explanation: Explanation = match view(&arguments) {
        Some(view) => offline::explain(&arguments.cluster, &view, &question)?,
        None => client()?.post("/v1/explain", &question)?,
    };
    let mut stdout = io::stdout().lock();
    if format.is_for_people() {
        return in_words(&mut stdout, &explanation);
    }
    value(&mut stdout, format, &explanation)
}

/// Whose eyes to see the cluster with, if offline.
fn view(arguments: &Explain) -> Option<View> {
    let node = arguments.node.as_ref()?;
    let view = match arguments.role {
        Role::Node => View::node(node),
        Role::Balancer => View::balancer(node),
    };
    Some(View {
        service_cidrs: arguments.service_cidr.clone(),
        class_required: arguments.load_balancer_class_required,
        tunnels: tunnels(arguments),
        overlay: arguments.overlay_flannel.then_some(Overlay::Flannel),
        ..view
    })
}

/// With everybody for a peer: who sends is not the question.
fn tunnels(arguments: &Explain) -> Vec<Tunnel> {
    if arguments.overlay_flannel {
        return vec![Tunnel { port: Some(8472), ..Tunnel::default() }];
    }
    let everybody = [IpNet::from(Ipv4Net::default()), Ipv6Net::default().into()];
    let tunnel = |kind: &Encapsulation| Tunnel { kind: *kind, peers: everybody.into(), ..Tunnel::default() };
    arguments.tunnel.iter().map(tunnel).collect()
}

fn in_words(out: &mut impl Write, explanation: &Explanation) -> Result<(), Failure> {
    let Explanation { packet, from, verdict, reason, service, candidates, backend, tunnel, mode, client_address_kept } =
        explanation;
    writeln!(out, "packet      {packet}, in from {from}")?;
    writeln!(out, "verdict     {} ({reason})", meaning(*verdict))?;
    if let Some(service) = service {
        writeln!(out, "service     {service}")?;
    }
    if let Some(backend) = backend {
        writeln!(out, "backend     {backend}")?;
    }
    if let Some(tunnel) = tunnel {
        writeln!(out, "tunnel      {tunnel}")?;
    }
    if let Some(mode) = mode {
        let kept = match client_address_kept {
            Some(true) => ": the backend sees the client's own address",
            Some(false) => ": the backend sees an address of levee's instead of the client's",
            None => "",
        };
        writeln!(out, "mode        {mode}{kept}")?;
    }
    for (number, candidate) in candidates.iter().enumerate() {
        writeln!(out, "{}{candidate}", if number == 0 { "candidates  " } else { "            " })?;
    }
    Ok(())
}

fn meaning(verdict: Fate) -> &'static str {
    match verdict {
        Fate::Forward => "forward: rewritten and sent on",
        Fate::Hairpin => "hairpin: answered by levee itself",
        Fate::Pass => "pass: left to the kernel",
        Fate::Drop => "drop: counted under this reason",
        Fate::Reject => "reject: answered with TCP RST or ICMP port unreachable",
    }
}
