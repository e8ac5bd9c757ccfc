//! Requests to interfaces by ioctl(2): a name, and something in a union.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::Error;

/// A request for an interface, nothing in it yet but the name.
pub(crate) fn request(name: &str) -> Result<libc::ifreq, Error> {
    let bytes = name.as_bytes();
    // The kernel wants room for the terminating zero (IFNAMSIZ); an empty name would mean "any".
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(Error::invalid("interface name", format!("expected 1 to 15 bytes, got `{name}`")));
    }
    let mut text = [0; libc::IFNAMSIZ];
    for (to, from) in text.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    // SAFETY: an ifreq is bytes, integers, and a pointer that may be null.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name = text;
    Ok(request)
}

/// A socket to send requests through: of this thread's network namespace.
pub(crate) fn control(subject: &str) -> Result<OwnedFd, Error> {
    // SAFETY: makes a descriptor; no memory is involved.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(Error::last("socket(AF_INET)", subject));
    }
    // SAFETY: the call above made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a request.
///
/// # Safety
/// The request's union holds what `code` takes; if that is an address, it leads to what the kernel reads and writes
/// there.
pub(crate) unsafe fn send(fd: BorrowedFd<'_>, code: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: a whole ifreq of ours, which is what all these codes take; its contents are the caller's promise.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), code as libc::Ioctl, &raw mut *request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
