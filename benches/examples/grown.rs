//! Packets among so many Services, backends and flows, and nothing else: for `perf`, callgrind, and to see what all of it takes.
//!
//! ```text
//! cargo build --release -p levee-benches --example grown
//! perf record target/release/examples/grown 100000 1000000 10000000 20000000
//! ```

use std::process::ExitCode;
use std::time::Instant;

use levee_benches::growth::{Growth, Size};
use levee_benches::memory::resident;
use levee_benches::throughput::spread;

fn main() -> ExitCode {
    let arguments: Option<Vec<u32>> = std::env::args().skip(1).map(|argument| argument.parse().ok()).collect();
    let Some([services @ 1..=100_000, backends, flows @ 1..=16_000_000, packets]) = arguments.as_deref() else {
        eprintln!("usage: grown SERVICES BACKENDS FLOWS PACKETS");
        return ExitCode::from(2);
    };
    let size = Size { services: *services, backends: *backends, flows: *flows };
    let begun = Instant::now();
    let mut growth = Growth::new(size);
    let (built, all) = (growth.built, begun.elapsed());
    let memory = resident(std::process::id());
    println!(
        "{size}: tables made in {built:.1?}, flows begun in {:.1?}; {} MiB resident, {} of them on huge pages",
        all - built,
        memory.now >> 20,
        memory.huge >> 20
    );
    let mut flows = growth.packets();
    // In windows, since a machine is seldom quiet: the least is what it takes without anybody else.
    let window = packets.div_ceil(100);
    let windows = (0..100).map(|_| growth.play(&mut flows, window.into()).as_nanos() as f64 / f64::from(window));
    let (median, least, _) = spread(windows);
    println!("{median:.1} ns a packet in the median of a hundred windows, {least:.1} at least");
    ExitCode::SUCCESS
}
