//! What a packet takes over memory: what `cargo bench --bench pipeline` has measured, read out of what criterion left, and what
//! `scripts/instructions` has counted.

use serde_json::{Value, json};

use super::Spread;
use crate::growth::Size;
use crate::newcomers::Table;

/// As criterion calls packets that are each the first of a flow since tables were changed.
pub const CHANGED: &str = "pipeline/nat, 1000 flows, each the first since a change";

/// As criterion calls the lookup of a Service.
pub const LOOKUP: &str = "Service of a packet, and a backend";

/// See the module. Empty where nothing was measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pipeline {
    /// Packets of established flows through `nat`, from few flows to many.
    pub established: Vec<Established>,
    /// Packets of 1,000 established flows, each the first of its flow since tables were changed.
    pub after_a_change: Option<Spread>,
    /// Packets that each begin a flow through `nat`: what they come into, and nanoseconds.
    pub beginning: Vec<(Table, Spread)>,
    /// Packets of established flows, from little of everything to much.
    pub growth: Vec<Growth>,
    /// What a packet is for, of so many Services: the lookup alone.
    pub lookup: Vec<Lookup>,
    /// Instructions of a packet of an established flow through `nat`.
    pub instructions: Option<u32>,
}

/// With so many flows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Established {
    /// Flows.
    pub flows: u32,
    /// Nanoseconds a packet.
    pub ns: Spread,
}

/// Among so many Services.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lookup {
    /// Services.
    pub services: u32,
    /// Nanoseconds from a packet's address and port to its Service and a backend of it.
    pub found: Option<Spread>,
    /// … and to knowing that it is for none of them.
    pub nobodys: Option<Spread>,
}

/// With so much of everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// How much.
    pub size: Size,
    /// Nanoseconds a packet.
    pub ns: Spread,
}

impl Pipeline {
    /// Those of `nat` among criterion's figures (`[{"name", "ns", "least", "most"}]`, as `scripts/bench` gathers them), and what
    /// `scripts/instructions --json` says; none of what looks otherwise.
    #[must_use]
    pub fn read(figures: &Value, instructions: &Value) -> Pipeline {
        let mut pipeline = Pipeline::default();
        for figure in figures.as_array().into_iter().flatten() {
            let (Some(name), Some(median)) = (figure["name"].as_str(), figure["ns"].as_f64()) else { continue };
            let or = |name: &str| figure[name].as_f64().unwrap_or(median);
            let ns = Spread { median, least: or("least"), most: or("most") };
            if let Some(flows) = name.strip_prefix("pipeline/nat, ").and_then(|rest| rest.strip_suffix(" flows")) {
                pipeline.established.extend(flows.parse().ok().map(|flows| Established { flows, ns }));
            } else if name == CHANGED {
                pipeline.after_a_change = Some(ns);
            } else if let Some(table) = name.strip_prefix("pipeline, new flows/nat, ").and_then(Table::read) {
                pipeline.beginning.push((table, ns));
            } else if let Some(of) = name.strip_prefix(LOOKUP).and_then(|rest| rest.strip_prefix('/')) {
                let (nobodys, services) = of.strip_prefix("nobody's/").map_or((false, of), |services| (true, services));
                let Ok(services) = services.parse() else { continue };
                let known = pipeline.lookup.iter().position(|lookup| lookup.services == services);
                let index = known.unwrap_or(pipeline.lookup.len());
                if known.is_none() {
                    pipeline.lookup.push(Lookup { services, ..Lookup::default() });
                }
                let lookup = &mut pipeline.lookup[index];
                *if nobodys { &mut lookup.nobodys } else { &mut lookup.found } = Some(ns);
            } else if let Some(size) = name.strip_prefix("growth/").and_then(Size::read) {
                pipeline.growth.push(Growth { size, ns });
            }
        }
        pipeline.established.sort_by_key(|point| point.flows);
        pipeline.beginning.sort_by_key(|(table, _)| (table.room, table.full));
        pipeline.lookup.sort_by_key(|lookup| lookup.services);
        pipeline.growth.sort_by_key(|point| point.size.flows);
        pipeline.instructions = instructions["nat"].as_u64().and_then(|count| u32::try_from(count).ok());
        pipeline
    }

    /// Nanoseconds a packet with so many flows.
    #[must_use]
    pub fn with_flows(&self, flows: u32) -> Option<Spread> {
        self.established.iter().find(|point| point.flows == flows).map(|point| point.ns)
    }

    /// Nanoseconds of a packet that begins a flow in such a table.
    #[must_use]
    pub fn beginning_in(&self, table: Table) -> Option<Spread> {
        self.beginning.iter().find(|(of, _)| *of == table).map(|(_, ns)| *ns)
    }

    /// How many times what it takes with least of everything a packet takes with most. Its least and most are what the
    /// uncertainty of both leaves possible.
    #[must_use]
    pub fn grown(&self) -> Option<Spread> {
        let (few, many) = (self.growth.first()?, self.growth.last()?);
        (few.size == Size::LEAST && many.size == Size::MOST).then(|| Spread {
            median: many.ns.median / few.ns.median,
            least: many.ns.least / few.ns.most,
            most: many.ns.most / few.ns.least,
        })
    }

    /// For `--json`.
    #[must_use]
    pub fn json(&self) -> Value {
        let established: Vec<_> =
            self.established.iter().map(|point| json!({ "flows": point.flows, "ns": point.ns.json() })).collect();
        let beginning: Vec<_> = self
            .beginning
            .iter()
            .map(|(table, ns)| json!({ "room": table.room, "full": table.full, "ns": ns.json() }))
            .collect();
        let maybe = |of: Option<Spread>| of.map(|spread| spread.json());
        let lookup: Vec<_> = self
            .lookup
            .iter()
            .map(|of| json!({ "services": of.services, "ns": maybe(of.found), "nobodys_ns": maybe(of.nobodys) }))
            .collect();
        let growth: Vec<_> = self
            .growth
            .iter()
            .map(|Growth { size: Size { services, backends, flows }, ns }| {
                json!({ "services": services, "backends": backends, "flows": flows, "ns": ns.json() })
            })
            .collect();
        json!({
            "established": established, "after_a_change": maybe(self.after_a_change), "beginning": beginning,
            "growth": growth, "lookup": lookup,
            "grown": self.grown().map(|grown| grown.json()), "instructions": self.instructions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criterions_names_are_those_of_the_bench() {
        let (least, most) = (Size::LEAST, Size::MOST);
        let figures = json!([
            { "name": "pipeline/nat, 100000 flows", "ns": 50.0, "least": 49.0, "most": 51.0 },
            { "name": "pipeline/nat, 1000 flows", "ns": 30.0 },
            { "name": "pipeline/dnat, 1000 flows", "ns": 20.0 },
            { "name": "pipeline/mac rewriting", "ns": 10.0 },
            { "name": "pipeline, new flows/nat, a full table of 1 M", "ns": 140.0 },
            { "name": "pipeline, new flows/nat, a table of 65,536 with room", "ns": 60.0 },
            { "name": "pipeline, new flows/nat, another table", "ns": 1.0 },
            { "name": "pipeline, new flows/dnat, a full table of 1 M", "ns": 100.0 },
            { "name": CHANGED, "ns": 90.0 },
            { "name": format!("{LOOKUP}/100000"), "ns": 20.0 },
            { "name": format!("{LOOKUP}/nobody's/100000"), "ns": 12.0 },
            { "name": format!("{LOOKUP}/1"), "ns": 5.0 },
            { "name": format!("growth/{most}"), "ns": 60.0, "least": 50.0, "most": 80.0 },
            { "name": format!("growth/{least}"), "ns": 30.0, "least": 25.0, "most": 40.0 },
            { "name": "maglev/build", "ns": 10.0 },
            { "nonsense": 1 },
        ]);
        let read = Pipeline::read(&figures, &json!({ "nat": 300, "mac": 1 }));
        let flows: Vec<_> =
            read.established.iter().map(|point| (point.flows, point.ns.median, point.ns.most)).collect();
        assert_eq!(flows, [(1_000, 30.0, 30.0), (100_000, 50.0, 51.0)]);
        assert_eq!((read.with_flows(1_000), read.with_flows(7)), (Some(Spread::one(30.0)), None));
        let [small, full] = [(65_536, false), (1_000_000, true)].map(|(room, full)| Table { room, full });
        assert_eq!(read.beginning, [(small, Spread::one(60.0)), (full, Spread::one(140.0))]);
        assert_eq!(read.beginning_in(full), Some(Spread::one(140.0)));
        assert_eq!(read.beginning_in(Table { room: 1_000_000, full: false }), None);
        assert_eq!(read.after_a_change, Some(Spread::one(90.0)));
        let [few, many] = [(1, 5.0, None), (100_000, 20.0, Some(12.0))].map(|(services, found, nobodys)| Lookup {
            services,
            found: Some(Spread::one(found)),
            nobodys: nobodys.map(Spread::one),
        });
        assert_eq!(read.lookup, [few, many]);
        assert_eq!(read.grown(), Some(Spread { median: 2.0, least: 1.25, most: 3.2 }));
        assert_eq!(read.instructions, Some(300));
        assert_eq!(Pipeline::read(&json!({}), &Value::Null), Pipeline::default());
    }

    #[test]
    fn half_of_the_way_is_no_growth() {
        let figures = json!([
            { "name": format!("growth/{}", Size::STEPS[0]), "ns": 30.0 },
            { "name": format!("growth/{}", Size::STEPS[1]), "ns": 30.0 },
        ]);
        assert_eq!(Pipeline::read(&figures, &Value::Null).grown(), None);
    }
}
