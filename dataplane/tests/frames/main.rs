//! What `parse` and `rewrite` make of whole frames, judged by another implementation: etherparse.
//!
//! | file | what it holds |
//! |---|---|
//! | `build` | frames from parts, each part written by etherparse |
//! | `fixtures` | the named frames of `tests/fixtures/frames`, and what `parse` says to each |
//! | `oracle` | what etherparse reads in a frame; whether its checksums are right |
//! | `parsing` | `parse` against the oracle: fixtures, their truncations and mutations, frames made at random |
//! | `tunnels` | `rewrite::wrap`, `parse::tunnelled`, `rewrite::unwrap`: there and back |
//! | `clamping`, `erring`, `forwarding`, `fragmenting`, `replying`, `sending` | `rewrite`: each result read and summed up again by the oracle |

mod build;
mod clamping;
mod erring;
mod fixtures;
mod forwarding;
mod fragmenting;
mod oracle;
mod parsing;
mod replying;
mod sending;
mod tunnels;
