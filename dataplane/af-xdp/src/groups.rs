//! Which groups an interface hears. A NIC throws away frames to groups that nobody has joined, before any XDP program sees
//! them; so does a switch that snoops MLD, before the NIC.
//!
//! A [`Groups`] asks the NIC for all of them (`PACKET_MR_ALLMULTI`, packet(7)), for as long as it lives. To be heard of by
//! switches, a group must be joined by the protocol that it belongs to (IPV6_JOIN_GROUP).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::Error;

/// A packet socket that receives nothing, and holds memberships. They end with it.
#[derive(Debug)]
pub struct Groups(OwnedFd);

impl Groups {
    /// Opens the socket. Needs CAP_NET_RAW; what is asked of it later needs nothing.
    ///
    /// # Errors
    /// [`Error::System`]: EPERM without the right.
    pub fn open() -> Result<Self, Error> {
        // SAFETY: integers only. Protocol 0: no packet is ever put into its queue.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(Error::last("socket(AF_PACKET)", "groups"));
        }
        // SAFETY: a descriptor that has just been made, and is nobody else's.
        Ok(Groups(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Has an interface hear every group, or takes that back.
    ///
    /// # Errors
    /// [`Error::System`]: ENODEV if there is no such interface, EADDRNOTAVAIL if what is taken back was never asked for.
    pub fn hear_all(&self, interface: u32, all: bool) -> Result<(), Error> {
        let index = libc::c_int::try_from(interface).unwrap_or_default();
        let request = libc::packet_mreq {
            mr_ifindex: index,
            mr_type: libc::PACKET_MR_ALLMULTI as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        let (option, call) = if all {
            (libc::PACKET_ADD_MEMBERSHIP, "setsockopt(PACKET_ADD_MEMBERSHIP)")
        } else {
            (libc::PACKET_DROP_MEMBERSHIP, "setsockopt(PACKET_DROP_MEMBERSHIP)")
        };
        let length = size_of::<libc::packet_mreq>() as libc::socklen_t;
        // SAFETY: the structure that both options take, for the time of the call, with its length.
        let done = unsafe {
            libc::setsockopt(self.0.as_raw_fd(), libc::SOL_PACKET, option, (&raw const request).cast(), length)
        };
        if done < 0 { Err(Error::last(call, format!("interface {interface}"))) } else { Ok(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_hears_all_groups_for_as_long_as_it_is_asked_to() {
        let groups = match Groups::open() {
            Ok(groups) => groups,
            Err(error) if error.errno() == Some(libc::EPERM) => {
                eprintln!("SKIPPED: a packet socket needs CAP_NET_RAW");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(groups.hear_all(0, true).unwrap_err().errno(), Some(libc::ENODEV));
        // On a loopback of this thread's own.
        let thread = std::thread::spawn(|| {
            // SAFETY: moves this thread alone into a network namespace of its own.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
                eprintln!("SKIPPED: a network namespace needs root");
                return;
            }
            let hears_all = || {
                let shown = std::process::Command::new("ip").args(["-d", "link", "show", "lo"]).output().unwrap();
                String::from_utf8_lossy(&shown.stdout).contains("allmulti 1")
            };
            let groups = Groups::open().unwrap();
            let loopback = crate::interface::index("lo").unwrap();
            assert!(!hears_all());
            groups.hear_all(loopback, true).unwrap();
            assert!(hears_all());
            groups.hear_all(loopback, false).unwrap();
            assert!(!hears_all());
            groups.hear_all(loopback, true).unwrap();
            drop(groups);
            assert!(!hears_all());
        });
        thread.join().unwrap();
    }
}
