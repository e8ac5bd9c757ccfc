//! A program: loaded, tried, attached.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::asm::Code;
use super::syscall::{self, Command, LinkCreate, ProgramLoad};
use crate::error::Error;

// include/uapi/linux/bpf.h and if_link.h.
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// None of the helpers that are offered here is for GPL programs only.
const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

/// Room for what the verifier says about a program that it refuses. It says ENOSPC if that is too little.
const LOG_SIZE: usize = 1 << 20;

/// What a program decides on a frame: `enum xdp_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The program failed; dropped, and seen by the tracepoint `xdp:xdp_exception`.
    Aborted,
    /// Dropped.
    Drop,
    /// To the kernel's stack.
    Pass,
    /// Back out of the interface it came from.
    Transmit,
    /// To where the program's redirect helper said: a socket.
    Redirect,
    /// No action that the kernel knows; treated as [`Action::Aborted`].
    Unknown(u32),
}

impl From<u32> for Action {
    fn from(number: u32) -> Self {
        match number {
            0 => Action::Aborted,
            1 => Action::Drop,
            2 => Action::Pass,
            3 => Action::Transmit,
            4 => Action::Redirect,
            other => Action::Unknown(other),
        }
    }
}

impl Action {
    /// The number that a program returns for it.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Action::Aborted => 0,
            Action::Drop => 1,
            Action::Pass => 2,
            Action::Transmit => 3,
            Action::Redirect => 4,
            Action::Unknown(other) => other as i32,
        }
    }
}

/// Where to attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// In the driver, or an error.
    Native,
    /// Behind the driver, on finished `sk_buff`s: any interface can, slowly.
    Generic,
    /// In the driver if it can, else behind it; [`Link::mode`] says which it became.
    NativeOrGeneric,
}

/// Where a program was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkMode {
    /// In the driver.
    Native,
    /// Behind the driver.
    Generic,
}

impl fmt::Display for LinkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinkMode::Native => "native",
            LinkMode::Generic => "generic",
        })
    }
}

/// How a program is tried.
#[derive(Debug, Clone, Copy)]
pub struct TestRun {
    /// How often. Default 1.
    pub repeat: u32,
    /// Interface index and queue that the frame seems to come from. Default: the loopback's of the network namespace,
    /// queue 0.
    pub from: Option<(u32, u32)>,
    /// Really send and redirect the frames (`BPF_F_TEST_XDP_LIVE_FRAMES`). With a large `repeat` (2^20; the set-up is
    /// dear) a generator of millions of frames per second. The program must write all of the frame each time: pages
    /// come back with what the receiver left in them.
    pub live_frames: bool,
    /// Live frames that are made at a time before those that were redirected are sent on: at most 256, and 0 for the kernel's
    /// own choice, 64. Fewer leave sooner, and cost more.
    pub batch: u32,
}

impl Default for TestRun {
    fn default() -> Self {
        TestRun { repeat: 1, from: None, live_frames: false, batch: 0 }
    }
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    /// The decision on the last run; with live frames always [`Action::Aborted`], the kernel does not say.
    pub action: Action,
    /// The frame as the program left it; empty with live frames.
    pub frame: Vec<u8>,
    /// Mean time of a run in nanoseconds.
    pub nanoseconds: u32,
}

/// A program that the kernel has verified.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    name: String,
}

impl Program {
    /// Has the kernel verify and compile a program. With `frags` it may be attached where frames are of several
    /// buffers (MTU 9000), of which it sees the first.
    ///
    /// Needs CAP_BPF and CAP_NET_ADMIN, and CAP_PERFMON for accesses at variable offsets.
    ///
    /// # Errors
    /// [`Error::Verifier`] with the verifier's log if it is refused; [`Error::System`] otherwise.
    pub fn load(name: &str, code: &Code<'_>, frags: bool) -> Result<Program, Error> {
        let mut attr = ProgramLoad {
            prog_type: BPF_PROG_TYPE_XDP,
            insn_cnt: code.len() as u32,
            insns: code.instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            prog_flags: if frags { BPF_F_XDP_HAS_FRAGS } else { 0 },
            prog_name: syscall::object_name(name),
            expected_attach_type: BPF_XDP,
            ..ProgramLoad::default()
        };
        // SAFETY: the command's own structure; `insns` leads to `insn_cnt` instructions and `license` to a C string,
        // both only read.
        if let Ok(fd) = unsafe { syscall::call_fd(Command::ProgramLoad, &mut attr) } {
            return Ok(Program { fd, name: name.to_owned() });
        }
        // Once more for the reasons: a log makes the verifier slow, so it is asked for only now.
        let mut log = vec![0u8; LOG_SIZE];
        attr.log_level = 1;
        attr.log_size = LOG_SIZE as u32;
        attr.log_buf = log.as_mut_ptr() as u64;
        // SAFETY: as above; and `log_buf` leads to `log_size` bytes, which the kernel writes.
        match unsafe { syscall::call_fd(Command::ProgramLoad, &mut attr) } {
            Ok(fd) => Ok(Program { fd, name: name.to_owned() }),
            Err(source) => {
                let said = log.split(|&byte| byte == 0).next().unwrap_or_default();
                let log = String::from_utf8_lossy(said).into_owned();
                if log.is_empty() {
                    // It did not come to verifying: a capability is missing, or memory.
                    return Err(Error::from_io("bpf(BPF_PROG_LOAD)", format!("program {name}"), source));
                }
                Err(Error::Verifier { program: name.to_owned(), source, log })
            }
        }
    }

    /// Takes over a program that is loaded already. If it is not an XDP program, the kernel will say so when it is
    /// used.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Program {
        let name = format!("fd {}", fd.as_raw_fd());
        Program { fd, name }
    }

    /// Runs the program on a frame, without an interface (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// [`Error::System`]; EINVAL if the frame is shorter than an Ethernet header or longer than a page has room for, or if
    /// there is a batch without live frames.
    pub fn test_run(&self, frame: &[u8], how: TestRun) -> Result<TestOutcome, Error> {
        // A program may grow the frame in front, by at most XDP_PACKET_HEADROOM.
        let mut out = vec![0u8; if how.live_frames { 0 } else { frame.len() + crate::KERNEL_HEADROOM }];
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let (interface, queue) = how.from.unwrap_or((0, 0));
        let context = [0, frame.len() as u32, 0, interface, queue, 0];
        let mut attr = syscall::TestRun {
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_size_out: out.len() as u32,
            data_in: frame.as_ptr() as u64,
            data_out: if how.live_frames { 0 } else { out.as_mut_ptr() as u64 },
            repeat: how.repeat,
            ctx_size_in: if how.from.is_some() { size_of_val(&context) as u32 } else { 0 },
            ctx_in: if how.from.is_some() { context.as_ptr() as u64 } else { 0 },
            flags: if how.live_frames { BPF_F_TEST_XDP_LIVE_FRAMES } else { 0 },
            batch_size: how.batch,
            ..syscall::TestRun::default()
        };
        // SAFETY: the command's own structure; its addresses lead to as many bytes of ours as the sizes beside them
        // say, and only `data_out` is written.
        let done = unsafe { syscall::call(Command::ProgramTestRun, &mut attr) };
        done.map_err(|source| {
            let subject = format!("program {} on a frame of {} bytes", self.name, frame.len());
            Error::from_io("bpf(BPF_PROG_TEST_RUN)", subject, source)
        })?;
        out.truncate(attr.data_size_out as usize);
        Ok(TestOutcome { action: attr.retval.into(), frame: out, nanoseconds: attr.duration })
    }

    /// Attaches it to an interface of this network namespace, until the [`Link`] is dropped or the process ends.
    ///
    /// Fill the fill ring and put the socket into the map before: what is redirected into nothing goes to the kernel.
    /// Needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// [`Error::System`]: ERANGE if the MTU is too large for a program without frags, EBUSY or EEXIST if something is
    /// attached.
    pub fn attach(&self, interface: u32, how: Attach) -> Result<Link, Error> {
        let native = match how {
            Attach::Generic => None,
            Attach::Native | Attach::NativeOrGeneric => Some(self.link(interface, XDP_FLAGS_DRV_MODE)),
        };
        let (made, mode) = match native {
            // Too large an MTU (ERANGE) is no reason to go generic: there the socket would drop every large frame.
            Some(Err(error)) if how == Attach::NativeOrGeneric && error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                (self.link(interface, XDP_FLAGS_SKB_MODE), LinkMode::Generic)
            }
            Some(made) => (made, LinkMode::Native),
            None => (self.link(interface, XDP_FLAGS_SKB_MODE), LinkMode::Generic),
        };
        let fd = made.map_err(|source| {
            let name = crate::interface::name(interface).unwrap_or_else(|_| format!("interface {interface}"));
            Error::from_io("bpf(BPF_LINK_CREATE)", format!("program {} on {name} ({mode})", self.name), source)
        })?;
        Ok(Link { fd, interface, mode })
    }

    fn link(&self, interface: u32, flags: u32) -> io::Result<OwnedFd> {
        let prog_fd = self.fd.as_raw_fd() as u32;
        let mut attr = LinkCreate { prog_fd, target_ifindex: interface, attach_type: BPF_XDP, flags };
        // SAFETY: the command's own structure, without addresses; it makes a descriptor.
        unsafe { syscall::call_fd(Command::LinkCreate, &mut attr) }
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A program's attachment to an interface. It ends when this is dropped, unless the descriptor was handed to another
/// process as well.
#[derive(Debug)]
#[must_use = "the program is detached when its link is dropped"]
pub struct Link {
    fd: OwnedFd,
    interface: u32,
    mode: LinkMode,
}

impl Link {
    /// Takes over a link that another process has made, which said how.
    pub fn from_fd(fd: OwnedFd, interface: u32, mode: LinkMode) -> Link {
        Link { fd, interface, mode }
    }

    /// Index of the interface.
    #[must_use]
    pub fn interface(&self) -> u32 {
        self.interface
    }

    /// Where it was attached.
    #[must_use]
    pub fn mode(&self) -> LinkMode {
        self.mode
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
