//! A dataplane that moves no packets: what it says is made up, and what it is told it remembers.

use std::sync::{Arc, Mutex};

use levee_api::explain::{Explanation, Fate, Packet, Question};
use levee_api::net::{Mac, Protocol, Role};
use levee_api::program::{Applied, Delta, Mode, Pool, Program, ServiceKey, Side};
use levee_api::report::{
    BackendEntry, Counters, Drain, Drop, Flow, FlowFilter, Flushed, Health, LearntMtu, Neighbour, Port, Queue, Rings,
    Scheduling, Status, TunnelEntry, VipEntry, WorkerStatus,
};
use levee_api::term::{Term, TermStatus};
use levee_api::tunnel::Encapsulation;
use levee_dataplane::events::{Events, Kind};
use levee_dataplane::intake::{FlowCursor, FlowPage, Measures, Pending, Refusal, Subject};

pub(crate) struct Double {
    program: Mutex<Arc<Program>>,
    pub(crate) flows: Mutex<Vec<Flow>>,
    events: Events,
}

impl Double {
    pub(crate) fn new() -> Self {
        let events = Events::default();
        events.record(Kind::Started, "it is a double");
        Double { program: Mutex::default(), flows: Mutex::new(vec![flow(40_000), flow(40_001)]), events }
    }

    pub(crate) fn programmed(&self) -> Arc<Program> {
        Arc::clone(&self.program.lock().expect("lock"))
    }
}

/// A client's flow by its port.
pub(crate) fn flow(port: u16) -> Flow {
    Flow {
        worker: 0,
        protocol: Protocol::Tcp,
        number: None,
        client: ([198, 51, 100, 7], port).into(),
        frontend: ([192, 0, 2, 80], 80).into(),
        backend: ([10, 244, 1, 10], 8080).into(),
        snat: Some(([172, 16, 0, 1], 61_000).into()),
        service: "default/web:http".into(),
        mode: Mode::Nat,
        state: "established".into(),
        idle_seconds: 3,
        expires_seconds: 7437,
    }
}

fn key() -> ServiceKey {
    ServiceKey { name: "default/web:http".into(), protocol: Protocol::Tcp, family: Default::default() }
}

const NODE: Mac = Mac([2, 0, 0, 0, 0, 1]);

impl Subject for Double {
    fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 4711,
            uptime_seconds: 3725,
            generation: self.programmed().generation,
            health: self.health(),
            workers: vec![WorkerStatus {
                worker: 0,
                core: 2,
                scheduling: Some(Scheduling::Fair { nice: -20, slice_microseconds: Some(2800) }),
                generation: self.programmed().generation,
                flows: 2,
                flow_capacity: 1024,
                alive: true,
                received: 1000,
                forwarded: 900,
                dropped: 98,
                handed_over: 7,
                taken_over: 5,
            }],
            services: 1,
            vips: 2,
            backends: 3,
            flows: 2,
            flow_capacity: 1024,
        }
    }

    fn health(&self) -> Health {
        Health { healthy: false, problems: vec!["eth1 is down".into()] }
    }

    fn program(&self) -> Pending<'_, Result<Arc<Program>, String>> {
        Box::pin(async { Ok(self.programmed()) })
    }

    fn counters(&self) -> Counters {
        let counters = |list: &[(&str, u64)]| list.iter().map(|(name, frames)| ((*name).into(), *frames)).collect();
        Counters {
            totals: counters(&[("rx", 10), ("forwarded", 8), ("dropped", 2)]),
            drops: counters(&[("runt", 2), ("giant", 0)]),
        }
    }

    fn drops(&self) -> Vec<Drop> {
        let drop = |reason: &str, frames| Drop { reason: reason.into(), frames, meaning: format!("It is a {reason}.") };
        vec![drop("runt", 2), drop("giant", 0)]
    }

    fn vips(&self) -> Vec<VipEntry> {
        vec![VipEntry {
            address: [192, 0, 2, 80].into(),
            port: 80,
            last_port: None,
            protocol: Protocol::Tcp,
            from: Side::Any,
            service: key().name,
            mode: Mode::Nat,
            announced: true,
            candidates: 2,
            draining: 1,
        }]
    }

    fn backends(&self) -> Vec<BackendEntry> {
        let backend = |service: &str, pools: &[Pool]| BackendEntry {
            service: ServiceKey { name: service.into(), ..key() },
            address: ([10, 244, 1, 10], 8080).into(),
            state: if pools.is_empty() { "draining" } else { "active" }.into(),
            pools: pools.to_vec(),
            next_hop: (!pools.is_empty()).then_some(NODE),
        };
        vec![backend("default/web:http", &[Pool::Cluster, Pool::Local]), backend("default/other:http", &[])]
    }

    fn drains(&self) -> Vec<Drain> {
        vec![Drain {
            service: key(),
            address: ([10, 244, 1, 10], 8080).into(),
            draining_seconds: 3,
            left_seconds: Some(57),
            flows: 0,
        }]
    }

    fn tunnels(&self) -> Vec<TunnelEntry> {
        let entry = |last, learnt: Option<LearntMtu>| TunnelEntry {
            far_end: [172, 16, 0, last].into(),
            kind: Encapsulation::Vxlan,
            port: Some(4789),
            source: Some([172, 16, 0, 9].into()),
            interface: learnt.map(|_| "eth0".to_owned()),
            backends: 2,
            overhead: 50,
            mtu: learnt.map(|_| 1500),
            learnt,
        };
        vec![entry(1, Some(LearntMtu { mtu: 1400, left_seconds: 301 })), entry(2, None)]
    }

    fn neighbours(&self) -> Vec<Neighbour> {
        let neighbour = |last, mac: Option<Mac>, state: &str| Neighbour {
            address: [172, 16, 0, last].into(),
            mac,
            port: "eth0".into(),
            state: state.into(),
        };
        vec![neighbour(1, Some(NODE), "reachable"), neighbour(2, None, "incomplete")]
    }

    fn ports(&self) -> Vec<Port> {
        vec![Port {
            interface: "eth0".into(),
            ifindex: 2,
            role: Role::Uplink,
            mac: NODE,
            up: true,
            take: "owned".into(),
            mode: "zero-copy".into(),
            attached: "native".into(),
            rings: Some(Rings { receive: 4096, fill: 4096, transmit: 2048, completion: 2048 }),
            queues: vec![Queue {
                queue: 0,
                worker: 0,
                rx_frames: 10,
                tx_frames: 8,
                rx_dropped: 1,
                rx_ring_full: 2,
                fill_ring_empty: 3,
                invalid_descriptors: 0,
            }],
        }]
    }

    fn explain(&self, question: Question) -> Pending<'_, Result<Explanation, String>> {
        Box::pin(async move {
            let packet: Packet = question.packet.parse()?;
            if packet.destination.port() == 9 {
                return Err("this dataplane has no port of role pods".into());
            }
            Ok(Explanation {
                packet: packet.to_string(),
                from: question.from.unwrap_or(Role::Uplink),
                verdict: Fate::Drop,
                reason: "no_local_backend".into(),
                service: Some(key().name),
                candidates: Vec::new(),
                backend: None,
                tunnel: None,
                mode: None,
                client_address_kept: None,
            })
        })
    }

    fn load(&self, program: Program) -> Pending<'_, Result<Applied, Refusal>> {
        Box::pin(async move {
            let generation = program.generation;
            if generation == 13 {
                return Err(Refusal::Unavailable("worker 0 does not turn".into()));
            }
            *self.program.lock().expect("lock") = Arc::new(program);
            self.events.record(Kind::Programmed, format!("generation {generation}"));
            Ok(Applied { generation })
        })
    }

    fn amend(&self, _: Delta) -> Pending<'_, Result<Applied, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable("the command line sends no deltas".into())) })
    }

    fn flows(&self, filter: FlowFilter, _: Option<FlowCursor>) -> Pending<'_, Result<FlowPage, String>> {
        let mut flows = self.flows.lock().expect("lock").clone();
        flows.retain(|flow| filter.matches(flow));
        Box::pin(async { Ok(FlowPage { flows, next: None }) })
    }

    fn term(&self) -> TermStatus {
        TermStatus::default()
    }
    fn announce(&self, _: Term) -> Pending<'_, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }
    fn flush(&self, filter: FlowFilter) -> Pending<'_, Result<Flushed, String>> {
        let mut flows = self.flows.lock().expect("lock");
        let before = flows.len();
        flows.retain(|flow| !filter.matches(flow));
        let gone = before - flows.len();
        Box::pin(async move { Ok(Flushed { flows: u64::try_from(gone).expect("few") }) })
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn measures(&self) -> Measures {
        Measures::default()
    }
}
