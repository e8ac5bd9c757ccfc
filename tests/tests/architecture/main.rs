//! The rules of this repository, executed.
//!
//! - [`rooms`]: which module of the daemons may use which, and what must never come near the packet's way;
//! - [`crates`]: which crate may depend on which;
//! - [`house`]: where `unsafe` lives, how long a file may be, links that must be alive, files that must be there.
//!
//! A broken rule prints `FILE:LINE: what is wrong. What to do.` To change a rule, change its table here, and say why in
//! the commit; `ARCHITECTURE.md` has the reasons that hold now.

mod crates;
mod house;
mod rooms;
mod source;

/// Fails with all complaints of one rule, if there are any.
fn none_of(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n\n{}\n", complaints.join("\n"));
}
