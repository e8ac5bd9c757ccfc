//! Leases: who may do what only one may do, with the API server as the arbiter.
//!
//! ```text
//!            time ──►┌─────────┐── Step: Read, Write ──►┌────────┐── GET, POST, PUT ──► Lease
//!                    │ Elector │                        │ Leases │   (resourceVersion: compare and swap)
//!        Tenure ◄────└─────────┘◄─ Outcome ─────────────└────────┘◄─────────────────
//! ```
//!
//! - [`Elector`]: one candidate for one Lease. Pure: time comes in, requests come out. A model check runs it under clocks
//!   that drift, pauses, partitions and lost answers.
//! - [`Leases`]: carries its requests to the API server; nothing else knows `kube` here.
//! - [`hold()`]: an elector over a connection, for as long as somebody wants to hold a Lease: what elects a leader.
//!
//! **Why there are never two.** No clock is compared with another machine's, and no time that somebody wrote down is believed.
//! A holder counts from before it *sent* a renewal that was confirmed, and ends by itself after [`Terms::deadline`]. Another
//! takes over only when it has not *seen* the Lease change for the duration that the holder wrote into it, which is longer,
//! and begins to count when it saw it. In between lies what clocks may drift, and the time to really stop
//! ([`Terms::MARGIN`]). Times in the object (`renewTime`, `acquireTime`) are for people.
//!
//! kube-lease-manager 0.13 was looked at and left: it compares `renewTime` with its own wall clock, so two machines whose clocks
//! are a few seconds apart both hold the Lease, and it counts in whole seconds. `docs/decisions/0011-leases.md`.

mod elector;
mod hold;
mod moment;
mod object;
mod terms;

pub use elector::{Change, Elector, Outcome, Record, Step, Tenure, Write};
pub use hold::{Held, hold};
pub use moment::Moment;
pub use object::{Answered, Labels, Leases, record};
pub use terms::{BadTerms, Terms};

use std::hash::{BuildHasher, Hasher, RandomState};

/// What is in `holderIdentity`: a name, and a number that no other process has, nor this one when it is started again. Two
/// processes by one name then know each other for two.
#[must_use]
pub fn identity(name: &str) -> String {
    format!("{name}_{:016x}", RandomState::new().build_hasher().finish())
}

/// The name in an [`identity`].
#[must_use]
pub fn name_in(identity: &str) -> &str {
    identity.rsplit_once('_').map_or(identity, |(name, _)| name)
}
