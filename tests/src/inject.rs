//! Frames that no well-behaved kernel sends, from a station's interface.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use etherparse::{Icmpv6Header, Icmpv6Type};
use levee_api::net::Mac;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::namespace::Namespace;

/// Sends any bytes as a frame out of one interface.
pub struct Injector {
    socket: OwnedFd,
    interface: LinkAddr,
}

impl Injector {
    /// On an interface of a namespace.
    ///
    /// # Panics
    /// If there is no such interface.
    #[must_use]
    pub fn new(namespace: &Namespace, interface: &str) -> Injector {
        namespace.enter(|| {
            // Without a protocol it sends only, and hears nothing.
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
                .expect("root gets a packet socket");
            let interface = getifaddrs()
                .expect("the kernel lists its interfaces")
                .filter(|entry| entry.interface_name == interface)
                .find_map(|entry| entry.address.and_then(|address| address.as_link_addr().copied()))
                .unwrap_or_else(|| panic!("{} has no interface {interface}", namespace.name()));
            Injector { socket, interface }
        })
    }

    /// Sends one frame.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn send(&self, frame: &[u8]) {
        assert!(self.try_send(frame), "the kernel sends no frame of {} bytes", frame.len());
    }

    /// Sends one frame, unless it is shorter or longer than the kernel sends.
    ///
    /// # Panics
    /// If it refuses for another reason.
    pub fn try_send(&self, frame: &[u8]) -> bool {
        loop {
            match sendto(self.socket.as_raw_fd(), frame, &self.interface, MsgFlags::empty()) {
                Ok(_) => return true,
                Err(Errno::EINVAL | Errno::EMSGSIZE) => return false,
                // The queue of the interface is full for a moment.
                Err(Errno::ENOBUFS | Errno::EINTR) => std::thread::yield_now(),
                Err(error) => panic!("cannot send {} bytes: {error}", frame.len()),
            }
        }
    }
}

/// An ARP request to everybody (RFC 826): who has `target`, tell `sender`. A sender 0.0.0.0 makes it a probe (RFC 5227).
#[must_use]
pub fn arp_request(source: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(Mac::BROADCAST.0);
    frame.extend(source.0);
    // EtherType ARP; Ethernet, IPv4, their lengths; request.
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(source.0);
    frame.extend(sender.octets());
    frame.extend(Mac::ZERO.0);
    frame.extend(target.octets());
    frame
}

/// A message of Neighbour Discovery (RFC 4861) in its frame: `flags` is its fifth byte, `content` what follows the eighth.
#[must_use]
pub fn discovery(macs: (Mac, Mac), addresses: (Ipv6Addr, Ipv6Addr), kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
    let (from, to) = (addresses.0.octets(), addresses.1.octets());
    let raw = Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [flags, 0, 0, 0] };
    let header = Icmpv6Header::with_checksum(raw, from, to, content).expect("it is short");
    let mut frame = [macs.1.0, macs.0.0].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((8 + content.len() as u16).to_be_bytes());
    frame.extend([58, 255]);
    frame.extend(from);
    frame.extend(to);
    frame.extend(header.to_bytes().as_slice());
    frame.extend(content);
    frame
}

/// A neighbour solicitation to the group of `target` (RFC 4861, 4.3). A sender `::` makes it a probe (RFC 4862, 5.4.2).
#[must_use]
pub fn solicitation(source: Mac, sender: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let mut content = target.octets().to_vec();
    if !sender.is_unspecified() {
        content.extend([1, 1]);
        content.extend(source.0);
    }
    discovery((source, Mac([0x33, 0x33, 0xff, a, b, c])), (sender, group), 135, 0, &content)
}
