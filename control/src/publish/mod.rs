//! What the cluster is told: addresses, conditions and events. By one leader alone, which holds a Lease.
//!
//! ```text
//!  Balanced ─► Desk ─► allocate ─► plan ─► due: Writes ──► Writer ─► API server
//!     ▲       (in flight:         (pure)   (not too fast,   (still leader?    │
//!     │        as if done)                  nor twice)       not changed?)    │
//!     └───────────────────────────── watch ◄──────────────────────────────────┘
//! ```
//!
//! - [`plan`]: from what there is to what must be written, and the events that go with it. Pure.
//! - `desk`, `bulletin`, `pace`: what was written and not seen yet, which events wait, how fast. Pure, with time handed in.
//! - `writer`: the requests. Each write carries the resourceVersion that it was found from, so it changes what was looked at, or
//!   nothing.
//! - `announcers`: who announces what.
//! - `leader`: the loop around it, on a thread of its own: [`start`].
//!
//! A new leader writes nothing before its watch has shown everything that there was when it began: what its predecessor gave is
//! not given again. The statuses are the only memory, so it does not matter who leads.

mod announcers;
mod bulletin;
mod desk;
pub mod event;
mod leader;
mod pace;
pub mod plan;
mod standing;
mod writer;

pub use leader::{Order, Settings, start};
pub use standing::{Report, Standing, Tally};
