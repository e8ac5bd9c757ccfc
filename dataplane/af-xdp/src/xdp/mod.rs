//! XDP: the program in the driver that decides which frames go to the sockets.
//!
//! ```text
//!   NIC queue N --> program --+-- redirect_map(XSKMAP, N) --> the socket of queue N
//!                             `-- XDP_PASS ----------------> the kernel's own stack
//! ```
//!
//! A program is written with the [`asm::Assembler`], refers to maps ([`XskMap`], [`Array`], [`HashMap`], [`LpmTrie`],
//! [`Counters`]), is loaded ([`Program::load`]), tried on bytes ([`Program::test_run`]), and attached to an interface
//! ([`Program::attach`]) by a bpf_link, which goes away with the process: when it dies, the kernel has its traffic
//! back. No compiler, no libbpf, no C.
//!
//! One program and one [`XskMap`] per interface: a redirect goes by the receive queue's number, and those are the
//! same on every interface.

pub mod asm;
mod map;
mod program;
mod stock;
mod syscall;

pub use map::{Array, Counters, HashMap, LpmTrie, LruHashMap, XskMap};
pub use program::{Action, Attach, Link, LinkMode, Program, TestOutcome, TestRun};
pub use stock::redirect_all;
