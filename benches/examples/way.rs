//! A packet's way over memory, as often as wanted and nothing else: for `perf` and callgrind.
//!
//! ```text
//! cargo build --release -p levee-benches --example way
//! perf record target/release/examples/way nat 1000 20000000
//! valgrind --tool=callgrind --toggle-collect='*Worker<P>::turn' target/release/examples/way nat 1000 100000
//! ```

use std::process::ExitCode;

use levee_api::program::Mode;
use levee_benches::rig::{PODS, Rig, UPLINK, acks, from_pod, syns};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, flows, packets] = arguments.as_slice() else { return usage() };
    let (Ok(flows @ 1..=4_000_000), Ok(packets)) = (flows.parse::<u32>(), packets.parse::<u64>()) else {
        return usage();
    };
    let room = (flows as usize * 2).max(4096);
    let mut rig;
    let (port, frames) = match what.as_str() {
        "mac" => {
            rig = Rig::new(Mode::Nat, 100, room);
            (PODS, from_pod(0..flows))
        }
        "new" => {
            rig = Rig::new(Mode::Dnat, 100, room);
            (UPLINK, syns(0..flows))
        }
        "full" => {
            rig = Rig::new(Mode::Dnat, 100, flows as usize / 4);
            (UPLINK, syns(0..flows))
        }
        mode => {
            let mode = match mode {
                "nat" => Mode::Nat,
                "dnat" => Mode::Dnat,
                "dsr" => Mode::Dsr,
                _ => return usage(),
            };
            rig = Rig::new(mode, 100, room);
            rig.run(UPLINK, &syns(0..flows), u64::from(flows));
            (UPLINK, acks(0..flows))
        }
    };
    let taken = rig.run(port, &frames, packets);
    let each = taken.as_nanos() as f64 / packets as f64;
    println!("{what}, {flows} flows, {packets} packets: {each:.1} ns each; dropped: {:?}", rig.drops());
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: way mac|nat|dnat|dsr|new|full FLOWS PACKETS");
    ExitCode::from(2)
}
