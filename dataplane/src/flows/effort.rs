//! How much one turn may spend on making room: for what nobody can bound who looks at one packet alone.
//!
//! A packet that begins a flow may have to look for somebody else to be forgotten, or for a source port that is free. Each of these looks
//! has a bound by itself, but a batch of such packets, in a table of established flows or with a range of ports in use, would
//! look 64 times as often: a pause for whatever comes behind it. So a turn has so many looks, for all of its packets together, and
//! who finds none left is told that there is no room, as one is who has looked in vain.

/// Entries that are looked at for one to be forgotten: 48 KiB, read in order, some 10 µs. It is twice what a batch of 64
/// newcomers needs where half-open flows are everywhere.
pub(super) const ENTRIES: u32 = 1024;

/// SNAT ports that are looked at beyond each flow's first: some three cache lines anywhere each. A batch of 64 newcomers to one
/// backend needs so many where two thirds of the ports are in use.
pub(super) const PORTS: u32 = 128;

/// What is left of a turn's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effort {
    pub(super) entries: u32,
    pub(super) ports: u32,
}

impl Effort {
    pub(super) const WHOLE: Effort = Effort { entries: ENTRIES, ports: PORTS };
}
