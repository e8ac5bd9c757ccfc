//! All contestants of a run, each in its place.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::contestants::Contestant;
use super::topology::Topology;
use super::{Plan, prove};

/// Contestants that this machine can have, and that do what they say.
pub struct Field {
    /// In the order of a round.
    pub entries: Vec<Entry>,
    /// Those that it cannot have, and why: their keys, names and reasons.
    pub missing: Vec<(String, String, String)>,
}

/// One of them.
pub struct Entry {
    /// Who forwards.
    pub contestant: Box<dyn Contestant>,
    /// Where.
    pub topology: Rc<Topology>,
}

impl Field {
    /// Builds all places, once, and has each contestant prove what it does; `None`, said aloud, where the machine can have no
    /// places. What cannot be had is said aloud and left out.
    #[must_use]
    pub fn build(contestants: Vec<Box<dyn Contestant>>, plan: &Plan) -> Option<Field> {
        let mut places: BTreeMap<Option<String>, Rc<Topology>> = BTreeMap::new();
        let mut field = Field { entries: Vec::new(), missing: Vec::new() };
        for contestant in contestants {
            let (key, name) = (contestant.key(), contestant.name());
            let mut leave_out = |reason: String| {
                eprintln!("SKIPPED: {name}: {reason}");
                field.missing.push((key.clone(), name.clone(), reason));
            };
            if let Some(reason) = contestant.missing() {
                leave_out(reason);
                continue;
            }
            let place = contestant.place();
            let topology = match places.get(&place) {
                Some(topology) => Rc::clone(topology),
                None => {
                    let topology = Rc::new(Topology::build()?);
                    contestant.prepare(&topology);
                    places.insert(place, Rc::clone(&topology));
                    topology
                }
            };
            match prove(&*contestant, &topology, plan) {
                Ok(()) => field.entries.push(Entry { contestant, topology }),
                Err(problem) => leave_out(problem),
            }
        }
        Some(field)
    }

    /// One of them, by its key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.contestant.key() == key)
    }
}
