//! levee-dataplane: moves packets.

pub mod address;
pub mod announce;
pub mod classify;
pub mod config;
pub mod counters;
pub mod decide;
pub mod director;
pub mod events;
pub mod explain;
pub mod flows;
pub mod hash;
pub mod headers;
pub mod intake;
pub mod limits;
pub mod maglev;
pub mod mem;
pub mod neighbours;
pub mod parse;
pub mod port;
pub mod reason;
pub mod rewrite;
pub mod running;
pub mod tables;
pub mod verdict;
pub mod wire;
pub mod worker;
