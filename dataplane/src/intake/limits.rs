//! What one client, and all together, may cost.

use std::time::Duration;

/// Connections at a time of those who may only read. Each costs a descriptor and some 50 KiB; a person with a browser, a
/// scraper and a few shells needs ten.
pub const READERS: usize = 32;

/// Connections at a time of those who may program. Apart from the readers', so that no number of these keeps the control
/// process out.
pub const PROGRAMMERS: usize = 32;

/// Connections at a time to the TCP listener of metrics: two scrapers and a probe need three.
pub const SCRAPERS: usize = 8;

/// Largest program or delta, in bytes: 100,000 services with ten backends each are some 100 MiB of JSON.
pub const PROGRAM_BODY: usize = 192 << 20;

/// Programs and deltas that are read at a time; others wait. So all that wait to be applied are at most 768 MiB, and one client that sends
/// slowly does not hold up the rest.
pub const PROGRAM_BODIES: usize = 4;

/// Largest term: 100,000 addresses.
pub const TERM_BODY: usize = 4 << 20;

/// Time that a term may take until all workers know it. Nobody who gives terms waits so long.
pub const TERM_TIME: Duration = Duration::from_secs(10);

/// Largest other body: a question about one packet.
pub const SMALL_BODY: usize = 64 << 10;

/// Time to send the request's head. An idle connection is closed after it.
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// Time to send the body.
pub const BODY_TIME: Duration = Duration::from_secs(30);

/// Time that one write may wait for a client that does not read.
pub const WRITE_TIME: Duration = Duration::from_secs(10);

/// Time that a program may take from its last byte until all workers run it. Building tables for 25,000 services takes
/// seconds in the worst case.
pub const PROGRAM_TIME: Duration = Duration::from_secs(30);

/// Entries of a worker's flow table that are copied between two of its batches, which takes some 10 µs.
pub const FLOW_PAGE: usize = 256;

/// Entries that are forgotten between two of its batches: 160 ns each, since each of both directions' places in the index is
/// another line of memory. It comes on top of a batch that may be full of newcomers, and both together are to be done within 50 µs
/// (`./scripts/bench peers --only pause`).
pub const FLUSH_PAGE: usize = 64;
