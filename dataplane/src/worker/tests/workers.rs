//! Several workers: what is handed over from one to another, when one of them is late, stuck or asleep.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::decide::owner;
use crate::flows::Flow;
use crate::flows::state::State;
use crate::verdict::Endpoint;

/// A client that the worker owns, where it is by the client that flows have an owner.
fn client_of(lab: &mut Lab, worker: usize) -> [u8; 4] {
    let tables = lab.workers[0].tables.current();
    let mut clients = (1..=200u8).map(|last| [192, 0, 2, last]);
    clients.find(|client| owner(Ipv4Addr::from(*client).into(), tables) == worker).unwrap()
}

fn sum(lab: &Lab, counter: Counter) -> u64 {
    lab.handles.iter().map(|handle| handle.counters.get(counter)).sum()
}

#[test]
fn a_stuck_worker_keeps_a_bounded_number_of_frames_and_the_others_go_on() {
    let mut lab = Lab::new(2, program(Mode::Dnat, &[REMOTE_IP]));
    let room = lab.workers[0].bench.handover.room(1);
    assert!(room * 4 <= lab.umem.frames() as usize / 2, "less than a worker's share of all frames: {room}");
    let question = |client| udp((PEER, NODE), (client, VIP), (4000, 80));
    let (mine, theirs) = (client_of(&mut lab, 0), client_of(&mut lab, 1));
    // Worker 1 is not turned any more, and more comes for it than there are frames.
    let rounds = 2 * lab.umem.frames() as usize;
    let mut sent = 0;
    for round in 0..rounds {
        for client in [mine, theirs] {
            let port = lab.workers[0].port_mut(0).unwrap();
            assert!(port.deliver(&question(client)), "round {round}: nothing is left to receive into");
        }
        lab.workers[0].turn(0);
        while let Some(frame) = lab.workers[0].port_mut(0).unwrap().sent() {
            assert_eq!(read(&frame).2.0, mine);
            sent += 1;
        }
        assert_eq!(lab.frames(), lab.umem.frames() as usize, "round {round}");
    }
    assert_eq!(sent, rounds, "{:?}", lab.drops());
    assert_eq!(lab.handles[0].counters.get(Counter::HandedOver), room as u64);
    assert_eq!(lab.drops(), [(Reason::HandoverFull.name(), (rounds - room) as u64)]);
    // It turns again: what was kept for it goes on, and no frame is missing.
    for _ in 0..room.div_ceil(BATCH) {
        lab.workers[1].turn(0);
    }
    assert_eq!(lab.handles[1].counters.get(Counter::TakenOver), room as u64);
    assert_eq!(lab.handles[1].counters.get(Counter::Forwarded), room as u64);
    lab.settle();
}

#[test]
fn each_worker_counts_what_it_did_itself() {
    let mut lab = Lab::new(2, program(Mode::Dnat, &[REMOTE_IP]));
    let theirs = client_of(&mut lab, 1);
    for port in 4000..4010 {
        lab.arrive_at(0, UPLINK, &udp((PEER, NODE), (theirs, VIP), (port, 80)));
    }
    let of = |worker: usize, counter| lab.handles[worker].counters.get(counter);
    assert_eq!([of(0, Counter::Rx), of(0, Counter::HandedOver), of(0, Counter::Forwarded)], [10, 10, 0]);
    assert_eq!([of(1, Counter::Rx), of(1, Counter::TakenOver), of(1, Counter::Forwarded)], [0, 10, 10]);
    assert_eq!([of(0, Counter::FlowsCreated), of(1, Counter::FlowsCreated)], [0, 10]);
}

#[test]
fn a_worker_that_sleeps_is_woken_for_what_is_handed_over() {
    const FRAMES: u64 = 20;
    let mut lab = Lab::new(2, program(Mode::Dnat, &[REMOTE_IP]));
    let theirs = client_of(&mut lab, 1);
    let mut sleeper = lab.workers.pop().unwrap();
    let waker = lab.shared.waker(1).unwrap();
    sleeper.idle = Idle::sleep(waker.clone());
    let (stop, taken) = (AtomicBool::new(false), || lab.handles[1].counters.get(Counter::TakenOver));
    let mut waited = Duration::ZERO;
    std::thread::scope(|scope| {
        scope.spawn(|| sleeper.run(&stop));
        for number in 1..=FRAMES {
            while !waker.is_sleeping() {
                std::thread::yield_now();
            }
            // So that it is in poll(2), and not only about to be.
            std::thread::sleep(Duration::from_millis(2));
            let start = Instant::now();
            let frame = udp((PEER, NODE), (theirs, VIP), (4000, 80));
            assert!(lab.workers[0].port_mut(0).unwrap().deliver(&frame));
            lab.workers[0].turn(0);
            while taken() < number && start.elapsed() < Duration::from_secs(5) {
                std::thread::yield_now();
            }
            waited += start.elapsed();
            if taken() < number {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(taken(), FRAMES);
    // Unwoken, it would have slept on for up to 100 ms each time.
    assert!(waited < Duration::from_millis(FRAMES * 60), "{waited:?}");
}

/// As many as share the lab's frames evenly.
const WORKERS: usize = 4;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Client number `client` says something to the Service, and a queue of this worker hears it.
    Ask { worker: usize, client: u8 },
    /// The backend answers what has been waiting longest for an answer, to a queue of this worker.
    Answer { worker: usize },
    /// This worker has a turn.
    Turn { worker: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let worker = || 0..WORKERS;
    prop_oneof![
        (worker(), 1..30u8).prop_map(|(worker, client)| Step::Ask { worker, client }),
        worker().prop_map(|worker| Step::Answer { worker }),
        worker().prop_map(|worker| Step::Turn { worker }),
    ]
}

proptest! {
    /// In whatever order workers have their turns, and on whatever queue questions and answers come in: every question reaches
    /// the backend and every answer its client, from the worker that owns the flow, and every frame is in one place.
    #[test]
    fn nothing_is_lost_in_whatever_order_workers_turn(
        nat: bool,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mode = if nat { Mode::Nat } else { Mode::Dnat };
        let mut lab = Lab::new(WORKERS, program(mode, &[REMOTE_IP]));
        let (mut asked, mut answered, mut heard) = (0, 0, 0);
        let mut waiting: VecDeque<([u8; 4], u16)> = VecDeque::new();
        let mut turn = |lab: &mut Lab, worker: usize, waiting: &mut VecDeque<_>| {
            lab.workers[worker].turn(0);
            while let Some(frame) = lab.workers[worker].port_mut(0).unwrap().sent() {
                let (_, _, source, destination, _) = read(&frame);
                if destination == (REMOTE_IP, 8080) {
                    waiting.push_back(source);
                } else {
                    assert_eq!((source, destination.0[..3].to_vec()), ((VIP, 80), vec![192, 0, 2]));
                    heard += 1;
                }
            }
        };
        for step in steps {
            match step {
                Step::Ask { worker, client } => {
                    let frame = udp((PEER, NODE), ([192, 0, 2, client], VIP), (4000, 80));
                    asked += u64::from(lab.workers[worker].port_mut(0).unwrap().deliver(&frame));
                }
                Step::Answer { worker } => {
                    let Some(client) = waiting.pop_front() else { continue };
                    let frame = udp((PEER, NODE), (REMOTE_IP, client.0), (8080, client.1));
                    prop_assert!(lab.workers[worker].port_mut(0).unwrap().deliver(&frame));
                    answered += 1;
                }
                Step::Turn { worker } => turn(&mut lab, worker, &mut waiting),
            }
            prop_assert_eq!(lab.frames(), lab.umem.frames() as usize);
        }
        let mut questions = 0;
        for worker in (0..WORKERS).chain(0..WORKERS) {
            turn(&mut lab, worker, &mut waiting);
            questions = waiting.len() as u64 + answered;
        }
        prop_assert_eq!(lab.drops(), []);
        prop_assert_eq!(questions, asked);
        prop_assert_eq!(heard, answered);
        prop_assert_eq!(sum(&lab, Counter::HandedOver), sum(&lab, Counter::TakenOver));
        lab.conserve();
    }
}

/// A sleeper comes by ten times a second, and a table of a million owes it 10,000 looks each time: it goes on until it has had them.
#[test]
fn a_worker_that_sleeps_lets_a_large_table_age_in_time() {
    const FLOWS: u32 = 20_000;
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let waker = lab.shared.waker(0).unwrap();
    let mut sleeper = lab.workers.pop().unwrap();
    sleeper.idle = Idle::sleep(waker.clone());
    let timeouts = Timeouts { closed: 1, ..Timeouts::default() };
    let mut flows = Flows::new(1 << 20, MAGLEV_KEY, timeouts).unwrap();
    for client in 0..FLOWS {
        let end = |address, port| Endpoint { address: crate::address::Address::v4(address), port };
        let tuple = crate::ends::Tuple { source: end(0x0a00_0000 + client, 1), destination: end(1, 80), protocol: 6 };
        let flow = Flow::new(&tuple, end(2, 80), tuple.source, Mode::Dnat, State::Closed, 0);
        flows.insert(&flow, 0).unwrap();
    }
    sleeper.bench.memory.flows = flows;
    // Says how many there are.
    sleeper.turn(0);
    sleeper.epoch = Instant::now();
    let (stop, mut slept) = (AtomicBool::new(false), 0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| sleeper.run(&stop));
        let mut asleep = false;
        // A fiftieth of a lap, which is ten seconds, has all of them in it.
        while lab.handles[0].pulse.flows.load(Ordering::Relaxed) > 0 && begun.elapsed() < Duration::from_secs(30) {
            slept += u32::from(!asleep && waker.is_sleeping());
            asleep = waker.is_sleeping();
            std::thread::sleep(Duration::from_micros(200));
        }
        stop.store(true, Ordering::Relaxed);
        waker.wake();
    });
    assert_eq!(sleeper.memory().flows.len(), 0, "after {:?}", begun.elapsed());
    assert!(slept > 0, "it is one that sleeps");
}
