//! `levee explain --cluster`: for each rule of `control/RULES.md`, what an operator is told about packets from a pod of the
//! node, from a pod of another node and from outside, to every kind of address, on a node and on a balancer.
//!
//! The real binary answers, with `-o json`, and whole objects are compared: this is what users' own scripts rely on. Clusters
//! are in `clusters/`, named after the rules.

mod asked;
mod endpoints;
mod joining;
mod packets;
mod places;
mod usage;
