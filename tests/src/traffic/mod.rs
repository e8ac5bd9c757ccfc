//! What stations say to each other: real kernels' TCP and UDP, real nginx, real curl, real iperf3; and SYNs that nobody means.

mod attempt;
mod echo;
mod flood;
mod http;
mod iperf;
mod raw;

pub use attempt::{connect, datagram};
pub use echo::{EchoServer, Outcome, bulk, connect_many, udp_round_trips};
pub use flood::{Sources, SynFlood};
pub use http::{Curl, Load, Nginx, Tally};
pub use iperf::{Iperf, Moved, Stream};
pub use raw::{RawEcho, raw_round_trips};
