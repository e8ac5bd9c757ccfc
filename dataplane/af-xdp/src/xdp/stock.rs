//! The least program that is of use: everything to the sockets.

use std::os::fd::AsFd;

use super::asm::{Assembler, Code, Helper, Reg, Size};
use super::map::XskMap;
use super::program::Action;
use crate::error::Error;

/// Where `struct xdp_md` has the receive queue's number.
const RX_QUEUE_INDEX: i16 = 16;

/// Redirects every frame to the socket of the queue that it came in on; where there is no socket, the kernel gets it.
///
/// # Errors
/// None in practice: it has no jumps.
///
/// # Examples
/// ```no_run
/// use af_xdp::xdp::{Attach, Program, XskMap, redirect_all};
///
/// let map = XskMap::new("sockets", 1)?;
/// let program = Program::load("redirect_all", &redirect_all(&map)?, false)?;
/// // ... open a socket, fill its fill ring, `map.insert(0, &socket)?` ...
/// let link = program.attach(af_xdp::interface::index("eth1")?, Attach::NativeOrGeneric)?;
/// println!("attached, {}", link.mode());
/// # Ok::<(), af_xdp::Error>(())
/// ```
pub fn redirect_all(map: &XskMap) -> Result<Code<'_>, Error> {
    let mut asm = Assembler::new();
    asm.load(Size::Word, Reg::R2, Reg::R1, RX_QUEUE_INDEX);
    asm.load_map(Reg::R1, map.as_fd());
    // The low bits of the flags are the action for an empty slot.
    asm.mov(Reg::R3, Action::Pass.number());
    asm.call(Helper::RedirectMap);
    asm.exit();
    asm.finish()
}
