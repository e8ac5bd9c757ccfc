//! Solicited-node groups (RFC 4291, 2.7.1): who answers for an address must hear who asks for it (RFC 4861, 7.2.8).
//!
//! The group of each address that is known by itself is joined on each uplink, as a host would: the kernel then has the
//! NIC let it in, and tells switches by MLD. For addresses that are known by their prefix, of which there can be more than
//! groups, uplinks hear all groups; switches that snoop do not know of those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{set_ipv6_add_membership, set_ipv6_drop_membership};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Groups on one socket. Each takes some 60 bytes of its option memory, of which old kernels allow 20 KiB (`optmem_max`).
const ON_ONE: usize = 128;

/// An interface, and a group.
type Key = (u32, Ipv6Addr);

/// A socket that receives nothing, and the number of its groups.
type Holder = (OwnedFd, usize);

/// See the module's documentation.
#[derive(Default)]
pub struct Groups {
    all: Option<af_xdp::groups::Groups>,
    uplinks: Vec<u32>,
    hears_all: bool,
    holders: Vec<Holder>,
    joined: BTreeMap<Key, usize>,
    /// Could not be joined: IPv6 is off there. Told once.
    refused: BTreeSet<Key>,
}

impl Groups {
    /// On these interfaces, by index. Without a packet socket, prefixes are left to what the NIC lets in anyway.
    #[must_use]
    pub fn new(all: Option<af_xdp::groups::Groups>, uplinks: Vec<u32>) -> Self {
        Groups { all, uplinks, ..Groups::default() }
    }

    /// Hears those who ask for these addresses, and, if `prefixes`, for any.
    pub(super) fn hear(&mut self, addresses: impl IntoIterator<Item = IpAddr>, prefixes: bool) {
        let groups: BTreeSet<Ipv6Addr> = addresses.into_iter().filter_map(solicited_node).collect();
        let wanted: BTreeSet<Key> =
            self.uplinks.iter().flat_map(|uplink| groups.iter().map(|group| (*uplink, *group))).collect();
        let left: Vec<Key> = self.joined.keys().filter(|key| !wanted.contains(key)).copied().collect();
        for key in left {
            self.leave(key);
        }
        self.refused.retain(|key| wanted.contains(key));
        for key in wanted {
            if !self.joined.contains_key(&key) {
                self.join(key);
            }
        }
        if self.hears_all != prefixes
            && let Some(all) = &self.all
        {
            self.hears_all = prefixes;
            for uplink in &self.uplinks {
                if let Err(error) = all.hear_all(*uplink, prefixes) {
                    tracing::warn!(%error, "questions for pods by IPv6 may not be heard");
                }
            }
        }
    }

    fn join(&mut self, key: Key) {
        let outcome = self.holder().and_then(|holder| {
            let (socket, count) = self.holders.get_mut(holder).ok_or(rustix::io::Errno::NOBUFS)?;
            set_ipv6_add_membership(socket, &key.1, key.0)?;
            *count += 1;
            Ok(holder)
        });
        match outcome {
            Ok(holder) => {
                self.joined.insert(key, holder);
                self.refused.remove(&key);
            }
            Err(error) if self.refused.insert(key) => {
                tracing::debug!(%error, group = %key.1, interface = key.0, "a solicited-node group could not be joined");
            }
            Err(_) => {}
        }
    }

    fn leave(&mut self, key: Key) {
        let Some(holder) = self.joined.remove(&key) else { return };
        if let Some((socket, count)) = self.holders.get_mut(holder) {
            *count -= 1;
            // The interface may be gone, and its groups with it.
            let _ = set_ipv6_drop_membership(socket, &key.1, key.0);
        }
    }

    /// A socket with room for one more.
    fn holder(&mut self) -> rustix::io::Result<usize> {
        if let Some(index) = self.holders.iter().position(|(_, count)| *count < ON_ONE) {
            return Ok(index);
        }
        // Bound to nothing, so that nothing is ever put into its queue.
        let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        self.holders.push((socket, 0));
        Ok(self.holders.len() - 1)
    }
}

/// The group of an IPv6 address: `ff02::1:ff` and its last 24 bits.
fn solicited_node(address: IpAddr) -> Option<Ipv6Addr> {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(PREFIX | v6.to_bits() & 0xff_ffff)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says it hears on the loopback, in its own way of writing.
    fn heard() -> Vec<String> {
        let text = std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap();
        let groups = text.lines().filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned));
        groups.filter(|group| group.starts_with("ff0200000000000000000001ff")).collect()
    }

    #[test]
    fn groups_are_joined_and_left_with_their_addresses_however_many_there_are() {
        let thread = std::thread::spawn(|| {
            if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
                eprintln!("SKIPPED: a network namespace needs root ({error})");
                return;
            }
            let loopback = af_xdp::interface::index("lo").unwrap();
            let mut groups = Groups::new(None, vec![loopback]);
            let address = |host: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, host));
            groups.hear((1..=300).map(address), false);
            let three = heard();
            if three.is_empty() {
                eprintln!("SKIPPED: this kernel has no IPv6");
                return;
            }
            assert_eq!((three.len(), groups.holders.len()), (300, 3));
            assert!(three.contains(&"ff0200000000000000000001ff120001".to_owned()), "{three:?}");
            // Two addresses, one group.
            let other = IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 1));
            groups.hear([address(1), other, [192, 0, 2, 1].into()], false);
            assert_eq!(heard(), ["ff0200000000000000000001ff120001"]);
            groups.hear([other], false);
            assert_eq!(heard(), ["ff0200000000000000000001ff120001"]);
            groups.hear([], false);
            assert_eq!(heard(), [""; 0]);
        });
        thread.join().unwrap();
    }
}
