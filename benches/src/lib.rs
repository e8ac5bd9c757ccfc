//! levee-benches: what levee costs.
//!
//! | | |
//! |---|---|
//! | `benches/parts.rs` | criterion: parse, checksums, Maglev, classify and decide, flows, publication |
//! | `benches/pipeline.rs` | criterion: the whole packet's way over memory: each way to reach a backend, more flows, more of everything |
//! | `tests/no_allocation.rs` | that way allocates nothing |
//! | `throughput` | end to end over veth: levee, a bare AF_XDP bounce, Linux |
//! | `tables` | flow tables beside each other: levee's, its first one, hashbrown's; and how many frames a worker should take at once |
//! | `workers` | what a second worker adds, over memory, each on a core of its own |
//! | `idle` | what a worker costs that has nothing to do, and what its sleep costs the first packet |
//! | `peers` | the same beside DPDK, kube-proxy's rules, a bridge; latency, floods, changes; figures and plots |
//! | `limits` | throughput as RFC 2544 finds it, connections as RFC 9693 counts them |
//! | `control` | a change of a cluster, from a real API server's answer until every worker runs it |
//! | `delta` | a change of a program, from the request on the dataplane's socket until every worker runs it |
//!
//! `scripts/bench` runs them all. [`rig`] is the worker that the first three drive.

pub mod batches;
pub mod control;
pub mod delta;
pub mod frames;
pub mod growth;
pub mod idle;
pub mod limits;
pub mod memory;
pub mod newcomers;
pub mod page;
pub mod peers;
pub mod program;
pub mod rig;
pub mod services;
pub mod tables;
pub mod throughput;
pub mod workers;
