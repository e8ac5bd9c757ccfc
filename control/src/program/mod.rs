//! Keeping a dataplane on the program that was compiled last.
//!
//! ```text
//!            want(program)
//!                 │
//!                 ▼            Request            HTTP + JSON
//!   now ──►  [ Sync ] ──────────────────► Transport ────────► dataplane
//!                 ▲            Outcome           │
//!                 └──────────────────────────────┘
//! ```
//!
//! [`Sync`] decides what to say next and is pure: time comes in, requests come out. A [`Transport`] carries one request at a
//! time; [`UnixTransport`] does so over the dataplane's socket, tests do without. Nothing here has heard of Kubernetes.

mod sync;
mod transport;
mod unix;

pub use sync::{Link, Settings, Step, Sync};
pub use transport::{Outcome, Request, Sent, Transport};
pub(crate) use unix::exchange;
pub use unix::{UnixTransport, is_healthy};
