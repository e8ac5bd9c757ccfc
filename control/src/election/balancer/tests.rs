//! A model check: balancers with their dataplanes under clocks that drift, an API server that goes away, watches that stall,
//! partitions, pauses, deaths and restarts; and known stories.

use proptest::prelude::*;

use super::super::names::About;
use super::*;
use crate::lease::Labels;

fn settings() -> Settings {
    Settings { terms: Terms::balancer(), settle: Duration::from_millis(1500), outage: Duration::from_secs(8) }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

/// The API server: objects, and all that was ever said about them.
#[derive(Default)]
struct Server {
    objects: BTreeMap<About, Object>,
    version: u64,
    log: Vec<Seen>,
}

impl Server {
    fn write(&mut self, about: &About, write: &Write, notes: Labels) -> Outcome {
        if write.version.as_ref() != self.objects.get(about).map(|object| &object.record.version) {
            return Outcome::Conflict;
        }
        self.version += 1;
        let version = self.version.to_string();
        let duration = Terms::balancer().duration();
        let record =
            Record { version: version.clone(), holder: write.holder.clone(), duration, transitions: write.transitions };
        let object = Object { about: about.clone(), record, notes };
        self.objects.insert(about.clone(), object.clone());
        self.log.push(Seen::Changed(object));
        Outcome::Written(version)
    }

    fn delete(&mut self, about: &About, version: &str) -> bool {
        if self.objects.get(about).is_none_or(|object| object.record.version != version) {
            return false;
        }
        self.objects.remove(about);
        self.version += 1;
        self.log.push(Seen::Gone(about.clone(), self.version.to_string()));
        true
    }
}

#[derive(Debug, Clone)]
enum Reply {
    Beaten(Outcome),
    Verified(Option<Object>),
    Written(Outcome),
    Deleted(bool),
}

/// A request on its way.
struct Flight {
    task: Task,
    carried: u64,
    answered: u64,
    reply: Option<Reply>,
}

struct Dataplane {
    term: Option<(BTreeSet<IpAddr>, u64)>,
    problems: Vec<String>,
}

/// One machine, which has a balancer and a dataplane. Times are the world's, in milliseconds.
struct Machine {
    name: String,
    generation: u32,
    balancer: Balancer,
    dataplane: Dataplane,
    ahead: u64,
    percent: i64,
    flights: Vec<Flight>,
    /// Requests of a process that is dead, still on their way.
    late: Vec<(u64, About, Write)>,
    /// Terms on their way to the dataplane and back.
    term: Option<(u64, Term, u64)>,
    watched: usize,
    listed: bool,
    paused: u64,
    cut: u64,
    stalled: u64,
    wakes: u64,
}

impl Machine {
    fn new(name: &str, ahead: u64, percent: i64) -> Machine {
        let balancer = Balancer::new(name, format!("{name}_0"), settings(), Some(name.to_owned()));
        let dataplane = Dataplane { term: None, problems: Vec::new() };
        Machine {
            name: name.to_owned(),
            generation: 0,
            balancer,
            dataplane,
            ahead,
            percent,
            flights: Vec::new(),
            late: Vec::new(),
            term: None,
            watched: 0,
            listed: false,
            paused: 0,
            cut: 0,
            stalled: 0,
            wakes: 0,
        }
    }

    fn millis(&self, real: u64) -> u64 {
        let drift = i64::try_from(real).unwrap() * self.percent / 100;
        real.checked_add_signed(drift).unwrap() + self.ahead
    }

    fn clock(&self, real: u64) -> Moment {
        Moment::since_boot(Duration::from_millis(self.millis(real)))
    }

    fn announces(&self, real: u64) -> BTreeSet<IpAddr> {
        match &self.dataplane.term {
            Some((addresses, until)) if self.millis(real) < *until => addresses.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// Killed, with or without its dataplane, and started anew.
    fn restart(&mut self, wanted: &BTreeSet<IpAddr>) {
        self.generation += 1;
        let identity = format!("{}_{}", self.name, self.generation);
        self.balancer = Balancer::new(&self.name, identity, settings(), Some(self.name.clone()));
        self.balancer.want(Some(wanted.clone()));
        for flight in self.flights.drain(..) {
            if let (Task::Write(address, write), None) = (flight.task, flight.reply) {
                self.late.push((flight.carried, About::Address(address), write));
            }
        }
        self.term = None;
        self.listed = false;
    }
}

#[derive(Debug, Clone)]
enum Fault {
    /// From the API server.
    Cut {
        who: usize,
        time: u64,
    },
    /// Its watch says nothing, and requests go through.
    Stall {
        who: usize,
        time: u64,
    },
    /// The process stands still, and its dataplane does not.
    Pause {
        who: usize,
        time: u64,
    },
    Restart {
        who: usize,
        with_dataplane: bool,
    },
    /// The API server, for everybody.
    Down {
        time: u64,
    },
    /// Peers do not reach each other.
    Apart {
        time: u64,
    },
    Sick {
        who: usize,
        sick: bool,
    },
    Exclude {
        who: usize,
        excluded: bool,
    },
    Want {
        last: u8,
        wanted: bool,
    },
}

fn fault() -> impl Strategy<Value = Fault> {
    let time = prop_oneof![3 => 50u64..900, 2 => 900u64..4000];
    prop_oneof![
        3 => (0usize..3, time.clone()).prop_map(|(who, time)| Fault::Cut { who, time }),
        2 => (0usize..3, time.clone()).prop_map(|(who, time)| Fault::Stall { who, time }),
        3 => (0usize..3, time.clone()).prop_map(|(who, time)| Fault::Pause { who, time }),
        2 => (0usize..3, any::<bool>()).prop_map(|(who, with_dataplane)| Fault::Restart { who, with_dataplane }),
        3 => time.clone().prop_map(|time| Fault::Down { time }),
        1 => time.prop_map(|time| Fault::Apart { time }),
        1 => (0usize..3, any::<bool>()).prop_map(|(who, sick)| Fault::Sick { who, sick }),
        1 => (0usize..3, any::<bool>()).prop_map(|(who, excluded)| Fault::Exclude { who, excluded }),
        1 => (1u8..5, any::<bool>()).prop_map(|(last, wanted)| Fault::Want { last, wanted }),
    ]
}

struct World {
    server: Server,
    machines: Vec<Machine>,
    wanted: BTreeSet<IpAddr>,
    down: u64,
    apart: u64,
    /// Delays, taken in turn.
    delays: Vec<u64>,
    drawn: usize,
    real: u64,
    /// Milliseconds, over all addresses, in which nobody announced one.
    silent: u64,
}

impl World {
    fn new(clocks: &[(u64, i64)], delays: Vec<u64>) -> World {
        let wanted: BTreeSet<IpAddr> = (1..4).map(address).collect();
        let mut machines: Vec<Machine> = clocks
            .iter()
            .enumerate()
            .map(|(index, (ahead, percent))| Machine::new(&format!("m{index}"), *ahead, *percent))
            .collect();
        for machine in &mut machines {
            machine.balancer.want(Some(wanted.clone()));
        }
        let server = Server::default();
        World { server, machines, wanted, down: 0, apart: 0, delays, drawn: 0, real: 0, silent: 0 }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.delays[self.drawn % self.delays.len()]
    }

    fn strike(&mut self, fault: &Fault) {
        let real = self.real;
        let count = self.machines.len();
        match *fault {
            Fault::Cut { who, time } => self.machines[who % count].cut = real + time,
            Fault::Stall { who, time } => self.machines[who % count].stalled = real + time,
            Fault::Pause { who, time } => self.machines[who % count].paused = real + time,
            Fault::Restart { who, with_dataplane } => {
                let machine = &mut self.machines[who % count];
                machine.restart(&self.wanted);
                if with_dataplane {
                    machine.dataplane = Dataplane { term: None, problems: Vec::new() };
                }
            }
            Fault::Down { time } => self.down = real + time,
            Fault::Apart { time } => self.apart = real + time,
            Fault::Sick { who, sick } => {
                let problems = if sick { vec!["no uplink is up".to_owned()] } else { Vec::new() };
                self.machines[who % count].dataplane.problems = problems;
            }
            Fault::Exclude { who, excluded } => {
                let why = excluded.then(|| "excluded".to_owned());
                self.machines[who % count].balancer.exclude(why);
            }
            Fault::Want { last, wanted } => {
                if wanted {
                    self.wanted.insert(address(last));
                } else {
                    self.wanted.remove(&address(last));
                }
                for machine in &mut self.machines {
                    machine.balancer.want(Some(self.wanted.clone()));
                }
            }
        }
    }

    /// One millisecond.
    fn tick(&mut self) -> Result<(), String> {
        for index in 0..self.machines.len() {
            self.tick_machine(index);
        }
        let mut owners: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
        for machine in &self.machines {
            for address in machine.announces(self.real) {
                owners.entry(address).or_default().push(&machine.name);
            }
        }
        self.silent +=
            (self.wanted.len() - owners.keys().filter(|address| self.wanted.contains(address)).count()) as u64;
        if let Some((address, owners)) = owners.iter().find(|(_, owners)| owners.len() > 1) {
            return Err(format!("at {} ms, {address} is announced by {owners:?}", self.real));
        }
        self.real += 1;
        Ok(())
    }

    fn tick_machine(&mut self, index: usize) {
        let (real, down) = (self.real, self.down);
        let server = &mut self.server;
        let machine = &mut self.machines[index];
        let reached = real >= machine.cut && real >= down;
        machine.late.retain(|(when, about, write)| {
            if *when <= real && real >= down {
                server.write(about, write, Labels::new());
            }
            *when > real
        });
        for flight in machine.flights.iter_mut().filter(|flight| flight.reply.is_none() && flight.carried == real) {
            if !reached {
                continue;
            }
            let name = About::Balancer(machine.name.clone());
            flight.reply = Some(match &flight.task {
                Task::Heartbeat(Step::Write(write), notes) => {
                    Reply::Beaten(server.write(&name, write, notes.annotations()))
                }
                Task::Heartbeat(..) => {
                    Reply::Beaten(Outcome::Read(server.objects.get(&name).map(|object| object.record.clone())))
                }
                Task::Verify(name) => Reply::Verified(server.objects.get(&About::Balancer(name.clone())).cloned()),
                Task::Write(address, write) => {
                    Reply::Written(server.write(&About::Address(*address), write, Labels::new()))
                }
                Task::Delete(address, version) => Reply::Deleted(server.delete(&About::Address(*address), version)),
                Task::Term(_) | Task::Ask(_) => continue,
            });
        }
        // The dataplane takes terms by itself.
        if let Some((when, term, _)) = &machine.term
            && *when == real
        {
            machine.dataplane.term = Some((term.addresses.clone(), term.until));
        }
        if machine.paused > real {
            return;
        }
        let now = machine.clock(real);
        if let Some((_, _, answered)) = &machine.term
            && *answered <= real
        {
            machine.term = None;
            machine.balancer.termed(Ok(machine.dataplane.problems.clone()));
        }
        let mut index_of = 0;
        while index_of < machine.flights.len() {
            if machine.flights[index_of].answered > real {
                index_of += 1;
                continue;
            }
            let Flight { task, reply, .. } = machine.flights.remove(index_of);
            match (task, reply) {
                (Task::Heartbeat(..), Some(Reply::Beaten(outcome))) => machine.balancer.beaten(outcome, now),
                (Task::Heartbeat(..), _) => machine.balancer.beaten(Outcome::Failed, now),
                (Task::Verify(name), Some(Reply::Verified(object))) => {
                    machine.balancer.verified(&name, Ok(object), now)
                }
                (Task::Verify(name), _) => machine.balancer.verified(&name, Err(()), now),
                (Task::Write(address, write), Some(Reply::Written(outcome))) => {
                    machine.balancer.written(address, &write, &outcome, now);
                }
                (Task::Write(address, write), _) => machine.balancer.written(address, &write, &Outcome::Failed, now),
                (Task::Delete(address, version), reply) => {
                    let done = matches!(reply, Some(Reply::Deleted(true)));
                    machine.balancer.deleted(address, version, done, now);
                }
                _ => {}
            }
            machine.wakes = real;
        }
        if !reached && machine.listed && machine.cut > real {
            // A cut is noticed; a stall is not.
            machine.listed = false;
            machine.balancer.see(Seen::Nothing, now);
        } else if reached && real >= machine.stalled {
            if !machine.listed {
                machine.listed = true;
                machine.watched = server.log.len();
                machine.balancer.see(Seen::All(server.objects.values().cloned().collect()), now);
                machine.wakes = real;
            }
            while let Some(seen) = server.log.get(machine.watched) {
                machine.balancer.see(seen.clone(), now);
                machine.watched += 1;
                machine.wakes = real;
            }
        }
        if machine.wakes > real {
            return;
        }
        let (tasks, wake) = machine.balancer.step(now);
        // Its clock may be slow: looked at a little early.
        machine.wakes = real + u64::try_from(wake.since(now).as_millis()).unwrap().clamp(1, 50);
        for task in tasks {
            self.send(index, task);
        }
    }

    fn send(&mut self, index: usize, task: Task) {
        let real = self.real;
        let (there, back) = (self.draw(), self.draw());
        match task {
            Task::Term(term) => {
                let quick = there % 10;
                self.machines[index].term = Some((real + quick + 1, term, real + quick + 2 + back % 10));
            }
            Task::Ask(ask) => {
                let from = self.machines[index].balancer.identity().to_owned();
                let Some(other) = self.machines.iter_mut().find(|machine| machine.name == ask.peer) else { return };
                // Answered now, heard in a while: what is heard late is counted from when it was asked.
                if real < self.apart || other.paused > real || other.balancer.identity() != ask.of {
                    return;
                }
                let now = other.clock(real);
                if other.balancer.asked(&from, now) && there < 100 {
                    let now = self.machines[index].clock(real);
                    self.machines[index].balancer.promised(&ask.of, ask.number, now);
                }
            }
            task => {
                let patience = u64::try_from(Terms::balancer().patience().as_millis()).unwrap();
                let answered = real + (there + back).min(patience) + 1;
                let machine = &mut self.machines[index];
                if there + back > patience
                    && let Task::Write(address, write) = &task
                {
                    // Given up, and carried out all the same.
                    machine.late.push((real + there, About::Address(*address), write.clone()));
                }
                let carried = if there + back > patience { u64::MAX } else { real + there };
                machine.flights.push(Flight { task, carried, answered, reply: None });
            }
        }
    }

    fn run(&mut self, time: u64) -> Result<(), String> {
        (0..time).try_for_each(|_| self.tick())
    }

    fn owners(&self) -> BTreeMap<IpAddr, String> {
        let of = |machine: &Machine| {
            let name = machine.name.clone();
            machine.announces(self.real).into_iter().map(move |address| (address, name.clone())).collect::<Vec<_>>()
        };
        self.machines.iter().flat_map(of).collect()
    }
}

fn calm(machines: &[(u64, i64)]) -> World {
    World::new(machines, vec![3, 5, 2])
}

#[test]
fn every_address_finds_an_owner_and_the_death_of_one_moves_only_its_own() {
    let mut world = calm(&[(0, 0), (5_000, 1), (90, -1)]);
    world.wanted = (1..30).map(address).collect();
    for machine in &mut world.machines {
        machine.balancer.want(Some(world.wanted.clone()));
    }
    world.run(5_000).unwrap();
    let before = world.owners();
    assert_eq!(before.len(), 29, "{before:?}");
    let owned: BTreeSet<&String> = before.values().collect();
    assert_eq!(owned.len(), 3, "spread: {before:?}");
    // For ever dead: paused, its dataplane gone.
    world.machines[1].paused = u64::MAX;
    world.machines[1].dataplane.term = None;
    world.silent = 0;
    world.run(1_400).unwrap();
    let after = world.owners();
    assert_eq!(after.len(), 29, "taken over within 1.4 s");
    for (address, owner) in &before {
        assert!(owner == "m1" || after[address] == *owner, "{address} moved from {owner}");
    }
}

#[test]
fn who_is_sick_or_excluded_hands_over_at_once_and_gets_nothing() {
    let mut world = calm(&[(0, 0), (5_000, 0)]);
    world.run(4_000).unwrap();
    world.strike(&Fault::Sick { who: 0, sick: true });
    world.silent = 0;
    world.run(1_000).unwrap();
    assert!(world.owners().values().all(|owner| owner == "m1"), "{:?}", world.owners());
    // Three addresses at most, each silent from its withdrawal to the other's announcement.
    assert!(world.silent < 3 * 200, "silent for {} ms", world.silent);
    world.strike(&Fault::Sick { who: 0, sick: false });
    world.strike(&Fault::Exclude { who: 1, excluded: true });
    world.run(1_000).unwrap();
    assert!(world.owners().values().all(|owner| owner == "m0") && world.owners().len() == 3);
}

#[test]
fn nothing_lapses_while_the_api_server_is_gone_for_all_and_what_was_left_goes_on() {
    let mut world = calm(&[(0, 0), (5_000, 1), (90, -1)]);
    world.run(5_000).unwrap();
    let before = world.owners();
    world.silent = 0;
    world.strike(&Fault::Down { time: 6_000 });
    world.run(12_000).unwrap();
    assert_eq!(world.owners(), before);
    assert_eq!(world.silent, 0, "no address lapsed");
    // Longer than anybody may go on.
    world.strike(&Fault::Down { time: 12_000 });
    world.run(11_000).unwrap();
    assert!(world.owners().is_empty(), "the limit counts");
    world.run(5_000).unwrap();
    assert_eq!(world.owners().len(), 3);
}

#[test]
fn who_alone_is_cut_off_gets_no_promise_and_loses_everything() {
    let mut world = calm(&[(0, 0), (5_000, 1)]);
    world.run(5_000).unwrap();
    world.strike(&Fault::Cut { who: 0, time: 10_000 });
    world.run(2_000).unwrap();
    assert!(world.owners().len() == 3 && world.owners().values().all(|owner| owner == "m1"), "{:?}", world.owners());
}

#[test]
fn a_newcomer_gets_its_share_when_it_has_settled_and_what_nobody_wants_is_deleted() {
    let mut world = calm(&[(0, 0)]);
    world.wanted = (1..20).map(address).collect();
    world.machines[0].balancer.want(Some(world.wanted.clone()));
    world.run(3_000).unwrap();
    assert_eq!(world.owners().len(), 19, "alone");
    world.machines.push(Machine::new("m1", 7, 0));
    world.machines[1].balancer.want(Some(world.wanted.clone()));
    world.run(1_000).unwrap();
    assert!(world.owners().values().all(|owner| owner == "m0"), "not at once");
    world.silent = 0;
    world.run(3_000).unwrap();
    let moved = world.owners().values().filter(|owner| *owner == "m1").count();
    assert!((4..16).contains(&moved) && world.owners().len() == 19, "{moved} moved");
    assert!(world.silent / u64::try_from(moved).unwrap() < 100, "{} ms for {moved}", world.silent);
    for last in 1..20 {
        world.strike(&Fault::Want { last, wanted: false });
    }
    world.run(1_000).unwrap();
    assert!(world.owners().is_empty());
    assert!(world.server.objects.keys().all(|about| matches!(about, About::Balancer(_))), "no Lease is left");
}

#[test]
fn who_stops_hands_everything_over() {
    let mut world = calm(&[(0, 0), (5_000, 0)]);
    world.run(4_000).unwrap();
    world.machines[0].balancer.stop();
    world.silent = 0;
    world.run(400).unwrap();
    assert!(world.machines[0].balancer.is_stopped());
    assert!(world.owners().len() == 3 && world.owners().values().all(|owner| owner == "m1"));
    assert!(world.silent < 3 * 150, "silent for {} ms", world.silent);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever happens, no address is announced by two; and when nothing happens any more, each by one.
    #[test]
    fn no_address_is_ever_announced_by_two(
        clocks in proptest::collection::vec((0u64..100_000, -1i64..=1), 2..4),
        faults in proptest::collection::vec((0u64..1_500, fault()), 1..25),
        delays in proptest::collection::vec(prop_oneof![12 => 0u64..20, 2 => 0u64..300, 1 => 0u64..2500], 20..200),
    ) {
        let mut world = World::new(&clocks, delays);
        prop_assert_eq!(world.run(3_000), Ok(()));
        for (pause, fault) in &faults {
            world.strike(fault);
            prop_assert_eq!(world.run(*pause), Ok(()), "after {:?}", fault);
        }
        for who in 0..clocks.len() {
            world.strike(&Fault::Sick { who, sick: false });
            world.strike(&Fault::Exclude { who, excluded: false });
        }
        world.delays = vec![4, 3, 8];
        // Longer than any fault lasts, and than whoever came meanwhile has to wait (rule 4).
        prop_assert_eq!(world.run(18_000), Ok(()));
        let owned: BTreeSet<IpAddr> = world.owners().into_keys().collect();
        prop_assert_eq!(owned, world.wanted.clone());
    }
}
