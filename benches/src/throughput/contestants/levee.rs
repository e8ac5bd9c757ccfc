//! levee, as a balancer of a cluster or as a node.

use levee_api::program::{Local, Pod, Program};
use levee_tests::levee::Dataplane;

use super::{Contestant, Offer, Running, translated};
use crate::delta::Programmer;
use crate::services::Services;
use crate::throughput::seen::Seen;
use crate::throughput::topology::{FAR, IN_MAC, NEXT, NEXT_MAC, OUT_MAC, POD, POD_MAC, SNAT, Topology};

/// See the module.
#[derive(Debug, Clone)]
pub struct Levee {
    /// What it does.
    pub way: Way,
    /// What its worker does when there is nothing to do, as its configuration says.
    pub idle: &'static str,
    /// More lines of configuration, for comparing one setting with another; empty: as a user has it who sets nothing.
    pub more: String,
}

/// What levee does with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As a balancer of a cluster: sources and destinations rewritten.
    Nat(Services),
    /// As a node: from the pods' port to the uplink, MACs rewritten.
    MacRewriting,
}

/// Flows that it has room for here.
pub const ROOM: u32 = 65_536;

impl Levee {
    /// As it is measured: always polling, like those beside it.
    #[must_use]
    pub fn new(way: Way) -> Levee {
        Levee { way, idle: "poll", more: String::new() }
    }

    /// The same with more lines of configuration.
    #[must_use]
    pub fn with(way: Way, more: &str) -> Levee {
        Levee { more: more.to_owned(), ..Levee::new(way) }
    }

    /// Starts it, and hands it over as what it is.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn dataplane(&self, topology: &Topology, core: usize) -> Dataplane {
        let ports = match self.way {
            Way::Nat(_) => "  - {interface: in0, role: uplink}\n  - {interface: out0, role: uplink}\n",
            Way::MacRewriting => {
                "  - {interface: out0, role: uplink}\n  - {interface: in0, role: pods, neighbours: in0}\n"
            }
        };
        let dataplane = Dataplane::start_as(&topology.forwarder, |socket| {
            let Levee { idle, more, .. } = self;
            let snat = match self.way {
                Way::Nat(_) => format!("snat: [{{address: {SNAT}, ports: 1024-65535}}]\n"),
                Way::MacRewriting => String::new(),
            };
            format!(
                "ports:\n{ports}workers: [{core}]\nidle: {idle}\nsocket: {}\nflows: {{capacity: {ROOM}}}\n{snat}{more}\n",
                socket.display()
            )
        });
        let program = match self.way {
            Way::Nat(services) => services.program(),
            Way::MacRewriting => Program {
                generation: 1,
                local: Local {
                    prefixes: vec!["10.244.1.0/24".parse().expect("a prefix")],
                    pods: vec![Pod { address: POD.into(), mac: Some(POD_MAC) }],
                },
                ..Program::default()
            },
        };
        let _ = Programmer::load(dataplane.socket(), &program);
        dataplane.wait_for_generation(1);
        dataplane.wait_for_neighbours(&[NEXT]);
        dataplane
    }
}

impl Contestant for Levee {
    fn name(&self) -> String {
        let name = match self.way {
            Way::Nat(services) => format!("levee, nat, {services}"),
            Way::MacRewriting => "levee, MAC rewriting".into(),
        };
        if self.more.is_empty() { name } else { format!("{name}, with {}", self.more) }
    }

    fn key(&self) -> String {
        let key = match self.way {
            Way::Nat(services) => format!("levee_nat_{}", services.count),
            Way::MacRewriting => "levee_mac_rewriting".into(),
        };
        if self.more.is_empty() { key } else { format!("{key}_with_{}", self.more) }
    }

    fn offer(&self) -> Offer {
        match self.way {
            Way::Nat(services) => Offer::to(services, true),
            Way::MacRewriting => Offer::from_pod(IN_MAC),
        }
    }

    fn start(&self, topology: &Topology, core: usize) -> Running {
        Running::Levee(Box::new(self.dataplane(topology, core)))
    }

    fn judge(&self, frame: &Seen) -> Result<(), String> {
        frame.has_macs(OUT_MAC, NEXT_MAC)?;
        match self.way {
            Way::Nat(services) => translated(frame, services, SNAT),
            Way::MacRewriting => frame.goes_to(FAR),
        }
    }
}
