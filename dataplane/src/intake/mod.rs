//! The control socket: HTTP/1.1 and JSON over a Unix socket.
//!
//! ```text
//!  connect ─► accept ─► peer credentials ─► a place free? ─► hyper ─► routes ─► Subject
//!                │              │ no rights ─ reader    │ none: 503, closed          │
//!                ▼              ▼                       ▼                            ▼
//!          backlog: kernel   rights::Rights      semaphores by rights      answers, or a Problem
//! ```
//!
//! `curl --unix-socket /run/levee/dataplane.sock http://levee/v1/status` is a full client; `/openapi.json` describes
//! everything. Whoever can open the socket may read; [`rights`] says who may program.
//!
//! [`metrics`] are a page of the same, for Prometheus, and [`probes`] two for a supervisor; these may also be read by TCP: nothing
//! else is.
//!
//! What a client can cost is bounded: connections ([`limits`]), time (headers, body, each write), and memory (bodies are
//! cut off while they stream in). It runs on one slow thread and speaks for a [`Subject`], a trait, so that all of it is
//! tested without a packet. It never touches frames, and forwarding never waits for it.

pub mod limits;
pub mod metrics;
pub mod probes;
pub mod rights;
mod routes;
mod server;
mod subject;

pub use levee_socket::{BindError, Listening};
pub use routes::document;
pub use server::{serve, serve_metrics};
pub use subject::{FlowCursor, FlowPage, Measures, Pending, Programming, Refusal, Subject};

#[cfg(test)]
mod tests;
