//! levee-dataplane: moves packets.

pub mod address;
pub mod headers;
pub mod reason;
pub mod verdict;
