//! QUIC connection IDs that say which server they are of: QUIC-LB, draft-ietf-quic-load-balancers-21.
//!
//! ```text
//!   datagram ──header──► destination connection ID ──code──► server ID ──tables::connections──► backend
//! ```
//!
//! Only the first packet of a flow comes by here: what the flow table knows is sent where the flow goes. So a connection costs the
//! decryption of one ID for each address that its client has.
//!
//! Nothing here is believed that could do harm: a connection ID is whatever its sender likes, and names a backend out of the service's
//! own, or none.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod code;
mod header;

pub use self::code::Code;
pub use self::header::{ConnectionId, destination};

/// Connection IDs that levee reads have at most as many octets: those of versions 1 and 2 (RFC 9000, 17.2; RFC 9369).
pub const MOST: usize = 20;
