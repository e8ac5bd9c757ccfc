//! Every command that asks a daemon, through the real binary: against the dataplane's real control socket with a double
//! behind it, and against sockets that are not what they should be.

mod answers;
mod double;
mod drain;
mod failures;
mod server;
mod streams;
