//! Election: of several balancers on a segment, exactly one announces each address, with Leases as the arbiter.
//!
//! ```text
//!   API server ──watch──► View ┐                        ┌─► heartbeat: levee-balancer-<node>, several times a second
//!   dataplane ──fitness──────► Balancer (pure) ──Task───┼─► levee-address-<address>, when its owner changes
//!   wanted addresses ────────► │                        ├─► term: what the dataplane announces, and until when
//!   peers' promises ─────────► ┘                        └─► peers: promise me not to take over
//! ```
//!
//! - [`Balancer`]: every decision; pure, and model-checked.
//! - [`rank`]: who should own an address. [`names`]: how the Leases are called, and what they say.
//! - [`start`]: the thread around it: watch, requests, terms, peers. It shares nothing with the thread that compiles, so that
//!   a large cluster does not make heartbeats late.
//! - [`Owners`]: who announces what, as anybody can see it from the Leases.
//!
//! # Rules
//! 1. An owner announces an address only if it wrote itself into the address's Lease and was answered, in its present
//!    *tenure*: the time in which its heartbeat was confirmed without a break, each confirmation counting for `deadline` from
//!    when it was sent. The dataplane gets the end of that time with each term, and stops by its own clock.
//! 2. Who takes an address from another has seen that one's heartbeat unchanged for its whole duration, has then read it
//!    once more from the API server itself, and writes under the version of the address's Lease that it saw before that. So
//!    whatever the old owner does after it comes back, it has to write the address's Lease first, and one of the two writes
//!    fails.
//! 3. Who hands an address over withdraws it first: its dataplane has answered that no worker announces it, or its time is
//!    over. Then it empties the Lease.
//! 4. Who is cut off from the API server outlasts its Lease only while *every* other balancer that its heartbeat names
//!    promises, from second to second, not to take over, because it is cut off as well. One that is not named in a heartbeat (it came
//!    later) does not take over before the time is over for which its owner may outlast it.
//!
//! `docs/decisions/0012-election.md` says why, and what was weighed.

mod balancer;
mod dataplane;
pub mod names;
mod owners;
mod peers;
pub mod rank;
mod run;
mod view;

pub use balancer::{Ask, Balancer, Settings, Task};
pub use owners::{AddressStatus, ElectionStatus, MemberStatus, Owners};
pub use run::{Elected, Setup, Wanted, follow, start};
pub use view::{Object, Seen, View};
