//! bpf(2): one call, a structure per command.
//!
//! The layouts are those of `union bpf_attr`, include/uapi/linux/bpf.h. The kernel takes a shorter structure than its
//! own, the rest being zero, so each has only the fields that are used here.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Commands: `enum bpf_cmd`.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(super) enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ProgramLoad = 5,
    ProgramTestRun = 10,
    ObjectInfo = 15,
    LinkCreate = 28,
}

#[derive(Default)]
#[repr(C)]
pub(super) struct MapCreate {
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub inner_map_fd: u32,
    pub numa_node: u32,
    pub map_name: [u8; 16],
}

#[derive(Default)]
#[repr(C)]
pub(super) struct Element {
    pub map_fd: u32,
    pub pad: u32,
    pub key: u64,
    /// The value, or where the next key goes.
    pub value: u64,
    pub flags: u64,
}

#[derive(Default)]
#[repr(C)]
pub(super) struct ProgramLoad {
    pub prog_type: u32,
    pub insn_cnt: u32,
    pub insns: u64,
    pub license: u64,
    pub log_level: u32,
    pub log_size: u32,
    pub log_buf: u64,
    pub kern_version: u32,
    pub prog_flags: u32,
    pub prog_name: [u8; 16],
    pub prog_ifindex: u32,
    pub expected_attach_type: u32,
}

#[derive(Default)]
#[repr(C)]
pub(super) struct TestRun {
    pub prog_fd: u32,
    pub retval: u32,
    pub data_size_in: u32,
    pub data_size_out: u32,
    pub data_in: u64,
    pub data_out: u64,
    pub repeat: u32,
    pub duration: u32,
    pub ctx_size_in: u32,
    pub ctx_size_out: u32,
    pub ctx_in: u64,
    pub ctx_out: u64,
    pub flags: u32,
    pub cpu: u32,
    pub batch_size: u32,
    pub pad: u32,
}

#[derive(Default)]
#[repr(C)]
pub(super) struct ObjectInfo {
    pub bpf_fd: u32,
    pub info_len: u32,
    pub info: u64,
}

#[derive(Default)]
#[repr(C)]
pub(super) struct LinkCreate {
    pub prog_fd: u32,
    pub target_ifindex: u32,
    pub attach_type: u32,
    pub flags: u32,
}

/// The call. The kernel may write results into the structure.
///
/// # Safety
/// `T` is the structure of the command, and every address in it leads to as much memory as the command reads or
/// writes there.
pub(super) unsafe fn call<T>(command: Command, attr: &mut T) -> io::Result<i32> {
    let size = size_of::<T>() as libc::c_uint;
    // SAFETY: `attr` is a whole structure of ours, which the kernel reads and writes up to `size`; the rest is the
    // caller's promise.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, &raw mut *attr, size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}

/// A call that makes a descriptor.
///
/// # Safety
/// As [`call`], and the command is one of those.
pub(super) unsafe fn call_fd<T>(command: Command, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd: RawFd = unsafe { call(command, attr) }?;
    // SAFETY: the kernel has just made it (close-on-exec, as all of bpf's), and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A name for the kernel's lists: at most 15 of the characters that it allows.
pub(super) fn object_name(name: &str) -> [u8; 16] {
    let mut out = [0; 16];
    let allowed = name.bytes().map(|byte| if byte.is_ascii_alphanumeric() || byte == b'.' { byte } else { b'_' });
    for (to, from) in out.iter_mut().take(15).zip(allowed) {
        *to = from;
    }
    out
}
