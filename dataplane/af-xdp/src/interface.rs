//! What must be known of an interface to open a socket on it, without netlink.
//!
//! Everything is asked of the network namespace that the calling thread is in.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::Error;
use crate::ethtool;

/// The index of an interface.
///
/// # Errors
/// [`Error::System`] with ENODEV if there is none of that name.
pub fn index(name: &str) -> Result<u32, Error> {
    let missing = || Error::from_io("if_nametoindex", name, io::Error::from_raw_os_error(libc::ENODEV));
    let text = CString::new(name).map_err(|_| missing())?;
    // SAFETY: a C string of ours, which is only read.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(missing()),
        index => Ok(index),
    }
}

/// The name of an interface.
///
/// # Errors
/// [`Error::System`] with ENXIO if there is none of that index.
pub fn name(index: u32) -> Result<String, Error> {
    let mut text = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the kernel writes at most IF_NAMESIZE bytes, which is what the buffer has.
    if unsafe { libc::if_indextoname(index, text.as_mut_ptr().cast()) }.is_null() {
        return Err(Error::last("if_indextoname", format!("interface {index}")));
    }
    let name = text.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Number of receive queues, to each of which one socket can be bound; at least 1.
///
/// # Errors
/// [`Error::System`] with ENODEV if there is none of that name.
pub fn queues(name: &str) -> Result<u32, Error> {
    index(name)?;
    // A driver that does not say (EOPNOTSUPP) is one that has one queue, or that does not let it be changed; then
    // sysfs knows, if it is mounted in this network namespace.
    let said = ethtool::receive_queues(name).ok();
    let seen = || {
        let entries = fs::read_dir(PathBuf::from("/sys/class/net").join(name).join("queues")).ok()?;
        let receive = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"));
        u32::try_from(receive.count()).ok()
    };
    Ok(said.or_else(seen).unwrap_or(1).max(1))
}
