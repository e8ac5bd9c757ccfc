//! The lab: a whole cluster's network in namespaces of one machine, and instruments to see what its wires carry.
//!
//! ```text
//!  ┌ node-1 ────────────────┐      ┌ fabric ─────────────┐      ┌ node-2 ───────────────┐
//!  │ pod ── br-ex … ── eth0 ═══════ node-1   br0  node-2 ═══════ eth0 … ── br-ex ── pod │
//!  └────────────────────────┘      │   │   ▲ a Tap here  │      └───────────────────────┘
//!                                  └───┼───┼─────────────┘
//!                                 client   node-3 … (bystanders: whatever is heard here was flooded)
//! ```
//!
//! | noun | what it is |
//! |---|---|
//! | [`Lab`] | owner of everything below; takes it down on drop, panic and signals |
//! | [`Namespace`] | one `ip netns`: run commands, start daemons, or enter it with a closure |
//! | [`Daemon`] | a child process with its log; ends with its owner |
//! | [`Fabric`] | a learning bridge and its wires, the layer-2 segment |
//! | [`Node`], [`Pod`] | a cluster node before or after levee, and what runs on it |
//! | [`Host`] | a station with one wire: a balancer or a client |
//! | [`Tap`], [`Census`] | every frame on every wire, heard and sorted |
//! | [`inject`] | frames that no well-behaved kernel sends |
//! | [`path`] | a client and a backend far from the balancer, with narrow links on both ways |
//! | [`Scene`] | a fabric of nodes with levee on each |
//! | [`dual`] | IPv6 beside IPv4 |
//! | [`traffic`] | TCP and UDP echo, HTTP servers, curl, iperf3, floods of SYNs |
//! | [`cluster`] | Nodes, Services and EndpointSlices as YAML |
//! | [`container`] | a container as a manifest describes it, by runc |
//! | [`kube`] | a real API server, and kubectl |
//! | [`Reach`] | the way to it from another namespace, which can be cut |
//! | [`levee`] | the daemons under test: configuration, start, questions |
//!
//! Tests and the demo share it. It works on nothing outside the namespaces that it made, and it panics with the whole
//! story (command, exit status, standard error) when the world is not as a test needs it: that is its way to report.

mod census;
pub mod cluster;
pub mod container;
mod daemon;
pub mod dual;
mod fabric;
pub mod inject;
pub mod kube;
mod lab;
pub mod levee;
mod namespace;
mod node;
pub mod path;
mod reach;
pub mod scene;
mod tap;
pub mod traffic;

pub use census::{Arp, Census, Kind, Ndp};
pub use daemon::Daemon;
pub use fabric::{Fabric, Wire};
pub use lab::{Lab, reap};
pub use namespace::Namespace;
pub use node::{ArpPayload, Host, Node, Pod, Uplink};
pub use reach::Reach;
pub use scene::Scene;
pub use tap::{Captured, Direction, Tap};
