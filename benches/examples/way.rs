//! A packet's way over memory, as often as wanted and nothing else: for `perf` and callgrind.
//!
//! ```text
//! cargo build --release -p levee-benches --example way
//! perf record target/release/examples/way nat 1000 20000000
//! valgrind --tool=callgrind --toggle-collect='*Worker<P>::turn' target/release/examples/way nat 1000 100000
//! ```
//!
//! | | |
//! |---|---|
//! | `nat`, `dnat`, `dsr` | packets of so many established flows, in turn |
//! | `mac` | packets that get other MACs and nothing else |
//! | `new` | each packet begins a flow, by `nat`, beside so many that are there |
//! | `full` | the same in a table that those fill: each has another forgotten |

use std::process::ExitCode;

use levee_api::program::Mode;
use levee_benches::rig::{PODS, Rig, UPLINK, acks, from_pod, syn, syns};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, flows, packets] = arguments.as_slice() else { return usage() };
    let (Ok(flows @ 1..=4_000_000), Ok(packets)) = (flows.parse::<u32>(), packets.parse::<u64>()) else {
        return usage();
    };
    let room = (flows as usize * 2).max(4096);
    let (rig, taken) = match what.as_str() {
        "mac" => {
            let mut rig = Rig::new(Mode::Nat, 100, room);
            let taken = rig.run(PODS, &from_pod(0..flows), packets);
            (rig, taken)
        }
        "new" | "full" => {
            let Ok(more @ 0..=8_000_000) = u32::try_from(packets) else { return usage() };
            let room = if what == "full" { flows } else { flows + more };
            let mut rig = Rig::new(Mode::Nat, 100, room as usize);
            rig.play(&mut syn(), &mut (0..flows), u64::from(flows));
            let taken = rig.play(&mut syn(), &mut (flows..flows + more), packets);
            (rig, taken)
        }
        mode => {
            let mode = match mode {
                "nat" => Mode::Nat,
                "dnat" => Mode::Dnat,
                "dsr" => Mode::Dsr,
                _ => return usage(),
            };
            let mut rig = Rig::new(mode, 100, room);
            rig.run(UPLINK, &syns(0..flows), u64::from(flows));
            let taken = rig.run(UPLINK, &acks(0..flows), packets);
            (rig, taken)
        }
    };
    let each = taken.as_nanos() as f64 / packets as f64;
    println!("{what}, {flows} flows, {packets} packets: {each:.1} ns each; dropped: {:?}", rig.drops());
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: way mac|nat|dnat|dsr|new|full FLOWS PACKETS");
    ExitCode::from(2)
}
