//! What can go wrong while setting up, and what to do about it.
//!
//! There are two kinds of trouble in this crate, and only one of them is an [`Error`]. A bad frame or a bad
//! descriptor is a counter ([`crate::Counters`]): the world goes on. An [`Error`] means that something which was
//! asked for does not exist: it says which system call failed, on what, with which errno, and what the person who
//! reads it can do.

use std::fmt;
use std::io;

/// Why something could not be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a call.
    System {
        /// The call, with its operation where it has one: `setsockopt(XDP_UMEM_REG)`.
        call: &'static str,
        /// What it was done to: `UMEM of 16384 frames of 2048 bytes`, `eth0 queue 3`.
        subject: String,
        /// The errno.
        source: io::Error,
    },
    /// A value that was asked for cannot be, whatever the kernel says.
    Invalid {
        /// Which value: `frame count`.
        what: &'static str,
        /// What was given, and what would be right.
        why: String,
    },
    /// The kernel's verifier refused a program.
    Verifier {
        /// Name of the program.
        program: String,
        /// The errno.
        source: io::Error,
        /// What the verifier said, its last lines being the important ones.
        log: String,
    },
}

impl Error {
    /// The errno of the last failed call, as a fresh [`Error::System`].
    pub(crate) fn last(call: &'static str, subject: impl Into<String>) -> Self {
        Self::from_io(call, subject, io::Error::last_os_error())
    }

    pub(crate) fn from_io(call: &'static str, subject: impl Into<String>, source: io::Error) -> Self {
        Error::System { call, subject: subject.into(), source }
    }

    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Error::Invalid { what, why: why.into() }
    }

    /// The errno, if the kernel said no.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::System { source, .. } | Error::Verifier { source, .. } => source.raw_os_error(),
            Error::Invalid { .. } => None,
        }
    }

    /// What to do about it, in one sentence, where this crate knows.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        let (call, errno) = match self {
            Error::System { call, source, .. } => (*call, source.raw_os_error()?),
            Error::Verifier { source, .. } => ("bpf(BPF_PROG_LOAD)", source.raw_os_error()?),
            Error::Invalid { .. } => return None,
        };
        // From what the kernel's sources return; each has been seen in use of this crate or in facts measured for it.
        Some(match (call, errno) {
            ("socket(AF_XDP)" | "setsockopt(XDP_UMEM_REG)" | "bind(AF_XDP)", libc::EPERM | libc::EACCES) => {
                "give the process CAP_NET_RAW (AF_XDP sockets), or create the socket in a process that has it"
            }
            ("socket(AF_XDP)", libc::EAFNOSUPPORT) => "use a kernel with CONFIG_XDP_SOCKETS=y",
            ("setsockopt(XDP_UMEM_REG)", libc::ENOBUFS | libc::ENOMEM) => {
                "raise RLIMIT_MEMLOCK above the UMEM's size (systemd: LimitMEMLOCK=infinity), give CAP_IPC_LOCK, or use fewer frames"
            }
            ("bind(AF_XDP)", libc::EBUSY) => {
                "another AF_XDP socket holds this queue: stop its process, or choose another queue"
            }
            ("bind(AF_XDP)", libc::EOPNOTSUPP) => {
                "the driver has no zero-copy for this queue (or another socket of the same UMEM fixed the mode): ask for copy or auto"
            }
            ("bind(AF_XDP)", libc::EINVAL) => {
                "does this queue exist, and does the driver allow this frame size and MTU? See `ethtool -l IFACE` and `ip link`"
            }
            ("bind(AF_XDP)", libc::ENODEV) => "does the interface still exist in this network namespace?",
            ("bpf(BPF_LINK_CREATE)", libc::ERANGE) => {
                "the MTU is too large for this driver's XDP: lower it (about 3,500 on most), or ask for `frags`"
            }
            ("bpf(BPF_LINK_CREATE)", libc::EBUSY | libc::EEXIST) => {
                "another XDP program is attached: see `ip link` (`xdp`), and detach it with `ip link set IFACE xdp off`"
            }
            ("bpf(BPF_LINK_CREATE)", libc::EOPNOTSUPP) => "the driver has no native XDP: allow generic (SKB) mode",
            ("bpf(BPF_PROG_LOAD)", libc::EACCES) => {
                "the verifier refused an access (give CAP_PERFMON if the log speaks of variable offset), see its log"
            }
            ("sched_setattr", libc::EPERM) => {
                "give the process CAP_SYS_NICE; in a cgroup of a kernel with CONFIG_RT_GROUP_SCHED, real time also takes cpu.rt_runtime_us"
            }
            (call, libc::EPERM) if call.starts_with("bpf(") => "give the process CAP_BPF and CAP_NET_ADMIN",
            ("bpf(BPF_MAP_UPDATE_ELEM)", libc::E2BIG | libc::ENOSPC) => "the map is full: create it with more entries",
            ("open(/dev/net/tun)", libc::ENOENT | libc::ENODEV) => "load the module: `modprobe tun`",
            ("open(/dev/net/tun)" | "ioctl(TUNSETIFF)", libc::EPERM | libc::EACCES) => {
                "give the process CAP_NET_ADMIN, and read and write on /dev/net/tun"
            }
            ("ioctl(TUNSETIFF)", libc::EBUSY) => "a TAP device of this name is open elsewhere: choose another name",
            ("madvise(MADV_POPULATE_WRITE)", libc::EINVAL) => "use Linux 5.14 or later",
            ("mmap(MAP_HUGETLB)" | "mmap(memfd)", libc::ENOMEM) => {
                "reserve huge pages: `sysctl vm.nr_hugepages=N`, or allow falling back to normal ones"
            }
            (_, libc::EPERM) => "give the process CAP_NET_ADMIN",
            (_, libc::ENODEV) => "does the interface exist in this network namespace? See `ip link`",
            _ => return None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System { call, subject, source } => write!(f, "{subject}: {call}: {source}")?,
            Error::Invalid { what, why } => write!(f, "{what}: {why}")?,
            Error::Verifier { program, source, log } => {
                write!(f, "program `{program}` was refused by the kernel's verifier: {source}")?;
                // The reason stands in the last lines; the first thousands are a trace.
                let tail: Vec<&str> = log.lines().rev().take(12).collect();
                for line in tail.iter().rev() {
                    write!(f, "\n    {line}")?;
                }
            }
        }
        match self.help() {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::System { source, .. } | Error::Verifier { source, .. } => Some(source),
            Error::Invalid { .. } => None,
        }
    }
}

/// The kernel would not go on with a socket's work. Small, and made without allocating: it may come up in every round
/// of a worker for as long as an interface is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KickError {
    pub(crate) call: &'static str,
    pub(crate) errno: i32,
}

impl KickError {
    /// The errno.
    #[must_use]
    pub fn errno(self) -> i32 {
        self.errno
    }

    /// Whether the interface is down, which mends itself when the link comes back, or gone, which does not.
    #[must_use]
    pub fn is_link_down(self) -> bool {
        matches!(self.errno, libc::ENETDOWN | libc::ENXIO)
    }
}

impl fmt::Display for KickError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, io::Error::from_raw_os_error(self.errno))?;
        if self.is_link_down() { f.write_str("; the interface is down or gone, see `ip link`") } else { Ok(()) }
    }
}

impl std::error::Error for KickError {}

impl From<KickError> for Error {
    fn from(error: KickError) -> Self {
        Error::from_io(error.call, "AF_XDP socket", io::Error::from_raw_os_error(error.errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_failed_on_what_and_what_to_do() {
        let error =
            Error::from_io("setsockopt(XDP_UMEM_REG)", "UMEM of 8 MiB", io::Error::from_raw_os_error(libc::ENOBUFS));
        let text = error.to_string();
        for part in ["UMEM of 8 MiB", "XDP_UMEM_REG", "os error 105", "RLIMIT_MEMLOCK"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }

    #[test]
    fn verifier_error_ends_with_the_end_of_the_log() {
        let log = (0..100).map(|line| format!("line {line}\n")).collect();
        let source = io::Error::from_raw_os_error(libc::EACCES);
        let text = Error::Verifier { program: "p".into(), source, log }.to_string();
        assert!(text.contains("line 99") && text.contains("line 88") && !text.contains("line 87"), "{text}");
    }
}
