//! What must be known of an interface to open a socket on it, without netlink.
//!
//! Everything is asked of the network namespace that the calling thread is in.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::Error;

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
/// [`Error::System`] if the interface is not in sysfs.
pub fn queues(name: &str) -> Result<u32, Error> {
    let path = PathBuf::from("/sys/class/net").join(name).join("queues");
    let entries = fs::read_dir(&path).map_err(|source| Error::from_io("readdir(queues)", name, source))?;
    let receive = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"));
    Ok(u32::try_from(receive.count()).unwrap_or(u32::MAX).max(1))
}
