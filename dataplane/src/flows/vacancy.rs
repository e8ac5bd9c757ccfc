//! A tuple that no flow has: the answer of a look, kept for whoever begins a flow there.
//!
//! A flow that begins has been looked for just before, under the tuple of its client's packets and, with `nat`, under that of the
//! reply. Whoever looked hands on what the look said, so that inserting need neither hash nor look again. It is good for as long as nothing
//! else is inserted: an older one is looked at again, which costs what it saved and is never wrong.

use super::index::Seat;

/// See the module's documentation. Only [`Flows`](super::Flows) makes one.
#[derive(Debug)]
pub struct Vacancy {
    /// Of the tuple.
    pub(super) hash: u64,
    /// Where in the index it would stand.
    pub(super) seat: Seat,
    /// How many flows had been inserted when it was so. Wraps.
    pub(super) as_of: u32,
}
