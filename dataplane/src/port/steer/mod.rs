//! Steering: which frames of an interface come to levee, and which stay the kernel's.
//!
//! AF_XDP cannot give a frame back, so the choice is exact, and is made in the driver by a small program (`program.rs`):
//!
//! | what | comes to levee |
//! |---|---|
//! | [`Take::All`] | everything |
//! | [`Take::Ip`] | all of IPv4, and of IPv6 what is neither to a group nor link-local; ARP and neighbour discovery as below |
//! | addresses and prefixes that levee owns | what is sent to them; ARP and neighbour discovery about them, or that claims them |
//! | addresses that it shares with the kernel | TCP, UDP and SCTP to the ports that are levee's: NodePorts, SNAT ports, tunnels; IP in IP, if tunnels are that; ICMP errors about packets from such a port, or to the port of a tunnel's far end; fragments behind a first one to such a port |
//! | everything else | nothing: `XDP_PASS`, as if levee were not there |
//!
//! ARP and ND replies to the kernel's own questions are "everything else", and so is what else comes to shared addresses: other
//! ICMP, fragments that overtake their first one, IPv6 with other extension headers. A frame that is too short for what it says it is
//! passes too: the kernel has counters for those. Where there is no socket for the queue, because levee is starting or has
//! died, the kernel gets the frame.
//!
//! One [`Steering`] per interface: program, maps and counters are its own. What it should do is a [`SteeringSet`];
//! [`Steering::apply`] finds the difference from what it does. Nothing here is on the packet's way in user space.

mod program;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use af_xdp::xdp::{Array, Attach, Counters, HashMap, Link, LpmTrie, LruHashMap, Program, XskMap};
use af_xdp::{Error, Socket};
use ipnet::IpNet;
use levee_api::net::{PortRange, Protocol};

use program::Maps;

/// Values of the map of whole addresses.
const HOST_OWNED: u8 = 1;
const HOST_SHARED: u8 = 2;

/// Most whole addresses per family: one per VIP (25,000 Services is the design's measure, and room). The kernel takes
/// memory only for those that are there.
const HOSTS: u32 = 1 << 17;
/// Most prefixes per family: pod ranges and address pools.
const PREFIXES: u32 = 1 << 14;

/// Datagrams to shared addresses whose first fragment is remembered: fragments follow each other within microseconds.
const FRAGMENTS: u32 = 1 << 12;

/// Why the program took or passed a frame. Each frame is counted in exactly one class; a taken frame for which there
/// was no socket is counted as [`Class::NoSocket`] besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum Class {
    /// Taken: the port takes everything, or all IP.
    All,
    /// Taken: IPv4 to an owned address.
    Address4,
    /// Taken: IPv6 to an owned address.
    Address6,
    /// Taken: a port of levee's on a shared address.
    SharedPort,
    /// Taken: an ICMP error about a packet from a port of levee's on a shared address.
    SharedError,
    /// Taken: a fragment behind a first one to a port of levee's on a shared address.
    SharedFollower,
    /// Taken: ARP that asks for, or answers to, an owned address.
    ArpTarget,
    /// Taken: ARP from somebody who claims an owned address.
    ArpSender,
    /// Taken: neighbour discovery about an owned address.
    NeighbourTarget,
    /// Taken: neighbour discovery from somebody who claims an owned address.
    NeighbourSource,
    /// Passed although taken: no socket for its queue.
    NoSocket,
    /// Passed: IP to an address that is not levee's.
    OtherAddress,
    /// Passed: a shared address, but no port of levee's.
    SharedOther,
    /// Passed: a shared address, and a fragment without ports.
    SharedFragment,
    /// Passed: ARP about others.
    ArpOther,
    /// Passed: neither IP nor ARP behind at most two VLAN tags.
    OtherProtocol,
    /// Passed: shorter than its headers say, or headers that cannot be.
    Malformed,
}

impl Class {
    /// All of them, by number.
    pub const ALL: [Class; 17] = [
        Class::All,
        Class::Address4,
        Class::Address6,
        Class::SharedPort,
        Class::SharedError,
        Class::SharedFollower,
        Class::ArpTarget,
        Class::ArpSender,
        Class::NeighbourTarget,
        Class::NeighbourSource,
        Class::NoSocket,
        Class::OtherAddress,
        Class::SharedOther,
        Class::SharedFragment,
        Class::ArpOther,
        Class::OtherProtocol,
        Class::Malformed,
    ];

    /// Whether such frames are levee's.
    #[must_use]
    pub fn is_taken(self) -> bool {
        self < Class::NoSocket
    }

    /// Its name among the counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::All => "all",
            Class::Address4 => "address4",
            Class::Address6 => "address6",
            Class::SharedPort => "shared_port",
            Class::SharedError => "shared_error",
            Class::SharedFollower => "shared_follower",
            Class::ArpTarget => "arp_target",
            Class::ArpSender => "arp_sender",
            Class::NeighbourTarget => "neighbour_target",
            Class::NeighbourSource => "neighbour_source",
            Class::NoSocket => "no_socket",
            Class::OtherAddress => "other_address",
            Class::SharedOther => "shared_other",
            Class::SharedFragment => "shared_fragment",
            Class::ArpOther => "arp_other",
            Class::OtherProtocol => "other_protocol",
            Class::Malformed => "malformed",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many frames the program has seen, by class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<Class, u64>);

impl Counts {
    /// Frames of a class.
    #[must_use]
    pub fn get(&self, class: Class) -> u64 {
        self.0.get(&class).copied().unwrap_or(0)
    }

    /// All classes, zeros too.
    pub fn iter(&self) -> impl Iterator<Item = (Class, u64)> + '_ {
        Class::ALL.into_iter().map(|class| (class, self.get(class)))
    }

    /// Frames that were levee's, whether or not there was a socket.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.iter().filter(|(class, _)| class.is_taken()).map(|(_, count)| count).sum()
    }

    /// Frames that were the kernel's.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.iter().filter(|(class, _)| !class.is_taken() && *class != Class::NoSocket).map(|(_, count)| count).sum()
    }
}

/// Reads an interface's counts while somebody else steers it.
#[derive(Debug, Clone)]
pub struct Observer(Arc<Counters>);

impl Observer {
    /// Frames by class, since the steering was made.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn counts(&self) -> Result<Counts, Error> {
        Ok(Counts(Class::ALL.into_iter().zip(self.0.read()?).collect()))
    }
}

/// What comes to levee whatever its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u32)]
pub enum Take {
    /// Nothing.
    #[default]
    Owned = 0,
    /// All IP that can be forwarded: an uplink that levee has to itself. ARP and neighbour discovery about others stay the kernel's,
    /// for its own questions are answered on this interface and an answer by way of a TAP device would teach it nothing about
    /// this one; and so does what is link-local in IPv6, groups among it.
    Ip = 1,
    /// Everything: the pods' side, where levee answers for the world.
    All = 2,
}

/// What an interface's steering should do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SteeringSet {
    /// What comes to levee whatever its address.
    pub take: Take,
    /// Prefixes that are wholly levee's. Bits behind the prefix are ignored.
    pub own: BTreeSet<IpNet>,
    /// Addresses on which only some ports are levee's. An address that is also owned as a /32 or /128 is owned.
    pub share: BTreeSet<IpAddr>,
    /// Those ports, the same on all shared addresses. They may overlap.
    pub ports: BTreeSet<(Protocol, PortRange)>,
    /// Whether IP packets inside of IP packets are levee's, on all shared addresses.
    pub ip_in_ip: bool,
    /// UDP ports that far ends of tunnels listen on: errors about packets to one of them are levee's, on all shared addresses.
    pub far_ports: BTreeSet<u16>,
}

impl SteeringSet {
    /// Whole addresses, and what they are; a /32 or /128 among the prefixes is one.
    fn hosts(&self) -> BTreeMap<IpAddr, u8> {
        let shared = self.share.iter().map(|address| (*address, HOST_SHARED));
        let owned = self.own.iter().filter(|prefix| is_host(prefix)).map(|prefix| (prefix.addr(), HOST_OWNED));
        // Owned ones come later, and win.
        shared.chain(owned).collect()
    }

    /// Prefixes that are not whole addresses, without bits behind them.
    fn prefixes(&self) -> BTreeSet<IpNet> {
        self.own.iter().filter(|prefix| !is_host(prefix)).map(IpNet::trunc).collect()
    }

    /// For each port, the bits of the protocols for which it is levee's.
    fn port_bits(&self) -> Vec<u8> {
        let mut bits = vec![0u8; 1 << 16];
        for (protocol, range) in &self.ports {
            let of_range = bits.get_mut(usize::from(range.first)..=usize::from(range.last));
            for port in of_range.into_iter().flatten() {
                *port |= protocol_bit(*protocol);
            }
        }
        if let Some(port) = bits.get_mut(usize::from(program::IP_IN_IP.1)).filter(|_| self.ip_in_ip) {
            *port |= program::IP_IN_IP.0;
        }
        for port in &self.far_ports {
            if let Some(port) = bits.get_mut(usize::from(*port)) {
                *port |= program::FAR_PORT;
            }
        }
        bits
    }
}

fn is_host(prefix: &IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

fn protocol_bit(protocol: Protocol) -> u8 {
    let number = i32::from(protocol.number());
    program::PORT_BITS.iter().find(|(_, of)| *of == number).map_or(0, |(bit, _)| *bit)
}

/// The steering of one interface. See the [module](self).
#[derive(Debug)]
pub struct Steering {
    program: Program,
    maps: Maps,
    /// What was asked for last, so far as the kernel took it.
    wanted: SteeringSet,
    // What the maps hold. Kept beside `wanted` because one change of it may fail half way.
    hosts: BTreeMap<IpAddr, u8>,
    prefixes: BTreeSet<IpNet>,
    ports: Vec<u8>,
    take: Take,
}

impl Steering {
    /// Makes maps for an interface with that many receive queues, and loads the program over them. It passes
    /// everything until it is told otherwise.
    ///
    /// `frags` for interfaces whose MTU needs several buffers a packet (9000). Needs CAP_BPF and CAP_NET_ADMIN; all
    /// but [`Steering::attach`] works without them afterwards.
    ///
    /// # Errors
    /// [`Error::System`] with what is missing.
    pub fn new(queues: u32, frags: bool) -> Result<Steering, Error> {
        let maps = Maps {
            sockets: XskMap::new("levee_sockets", queues)?,
            config: Array::new("levee_config", 1)?,
            hosts4: HashMap::new("levee_hosts4", HOSTS)?,
            hosts6: HashMap::new("levee_hosts6", HOSTS)?,
            prefixes4: LpmTrie::new("levee_prefixes4", PREFIXES)?,
            prefixes6: LpmTrie::new("levee_prefixes6", PREFIXES)?,
            ports: Array::new("levee_ports", 1 << 16)?,
            fragments: LruHashMap::new("levee_fragments", FRAGMENTS)?,
            counters: Arc::new(Counters::new("levee_steering", Class::ALL.len() as u32)?),
        };
        let program = Program::load("levee_steer", &program::assemble(&maps)?, frags)?;
        let wanted = SteeringSet::default();
        let ports = wanted.port_bits();
        Ok(Steering {
            program,
            maps,
            wanted,
            hosts: BTreeMap::new(),
            prefixes: BTreeSet::new(),
            ports,
            take: Take::Owned,
        })
    }

    /// Frames of this queue that are levee's go to the socket from now on.
    ///
    /// # Errors
    /// [`Error::System`]: E2BIG if there is no such queue.
    pub fn insert_socket(&self, queue: u32, socket: &Socket) -> Result<(), Error> {
        self.maps.sockets.insert(queue, socket)
    }

    /// Attaches the program to an interface. Sockets that are to receive should be in already, their fill rings full.
    ///
    /// # Errors
    /// As [`Program::attach`].
    pub fn attach(&self, interface: u32, how: Attach) -> Result<Link, Error> {
        self.program.attach(interface, how)
    }

    // The next seven change one thing each; for many at once, `apply` is one pass instead of many.

    /// What it does at present.
    #[must_use]
    pub fn current(&self) -> &SteeringSet {
        &self.wanted
    }

    /// Whether everything comes to levee.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn set_take(&mut self, take: Take) -> Result<(), Error> {
        self.change(|set| set.take = take)
    }

    /// This prefix is levee's.
    ///
    /// # Errors
    /// [`Error::System`]: ENOSPC if there are too many.
    pub fn own(&mut self, prefix: IpNet) -> Result<(), Error> {
        self.change(|set| {
            set.own.insert(prefix);
        })
    }

    /// It no longer is.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn disown(&mut self, prefix: &IpNet) -> Result<(), Error> {
        self.change(|set| {
            set.own.remove(prefix);
        })
    }

    /// Some ports of this address are levee's.
    ///
    /// # Errors
    /// [`Error::System`]: ENOSPC if there are too many.
    pub fn share(&mut self, address: IpAddr) -> Result<(), Error> {
        self.change(|set| {
            set.share.insert(address);
        })
    }

    /// None are any more.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn unshare(&mut self, address: IpAddr) -> Result<(), Error> {
        self.change(|set| {
            set.share.remove(&address);
        })
    }

    /// These ports are levee's, on all shared addresses.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn take_ports(&mut self, protocol: Protocol, ports: PortRange) -> Result<(), Error> {
        self.change(|set| {
            set.ports.insert((protocol, ports));
        })
    }

    /// They no longer are, but for those that another range has too.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn release_ports(&mut self, protocol: Protocol, ports: PortRange) -> Result<(), Error> {
        self.change(|set| {
            set.ports.remove(&(protocol, ports));
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut SteeringSet)) -> Result<(), Error> {
        let mut wanted = self.wanted.clone();
        change(&mut wanted);
        self.apply(&wanted)
    }

    /// Does exactly this from now on, by the difference from what it does. What is added comes first and what is
    /// taken away last, so that a frame that is levee's before and after is never the kernel's in between.
    ///
    /// # Errors
    /// [`Error::System`]; what was done until then stays done, and the next call goes on from there.
    pub fn apply(&mut self, wanted: &SteeringSet) -> Result<(), Error> {
        let (hosts, prefixes, ports) = (wanted.hosts(), wanted.prefixes(), wanted.port_bits());
        self.write_take(self.take.max(wanted.take))?;
        self.write_ports(&ports, |now, wanted| now | wanted)?;
        for (address, whose) in &hosts {
            if self.hosts.get(address) != Some(whose) {
                self.write_host(*address, Some(*whose))?;
            }
        }
        let new: Vec<IpNet> = prefixes.difference(&self.prefixes).copied().collect();
        for prefix in &new {
            self.write_prefix(prefix, true)?;
        }
        let old: Vec<IpNet> = self.prefixes.difference(&prefixes).copied().collect();
        for prefix in &old {
            self.write_prefix(prefix, false)?;
        }
        let old: Vec<IpAddr> = self.hosts.keys().filter(|address| !hosts.contains_key(address)).copied().collect();
        for address in old {
            self.write_host(address, None)?;
        }
        self.write_ports(&ports, |_, wanted| wanted)?;
        self.write_take(wanted.take)?;
        self.wanted.clone_from(wanted);
        Ok(())
    }

    /// Frames by class, since it was made.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn counts(&self) -> Result<Counts, Error> {
        self.observer().counts()
    }

    /// The same for another thread, without asking the owner.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer(Arc::clone(&self.maps.counters))
    }

    fn write_take(&mut self, take: Take) -> Result<(), Error> {
        if self.take != take {
            self.maps.config.set(0, &(take as u32).to_ne_bytes())?;
            self.take = take;
        }
        Ok(())
    }

    fn write_prefix(&mut self, prefix: &IpNet, there: bool) -> Result<(), Error> {
        let (address, length) = (prefix.addr(), prefix.prefix_len());
        match (prefix, there) {
            (IpNet::V4(_), true) => self.maps.prefixes4.insert(address, length, &[HOST_OWNED])?,
            (IpNet::V6(_), true) => self.maps.prefixes6.insert(address, length, &[HOST_OWNED])?,
            (IpNet::V4(_), false) => drop(self.maps.prefixes4.remove(address, length)?),
            (IpNet::V6(_), false) => drop(self.maps.prefixes6.remove(address, length)?),
        }
        if there {
            self.prefixes.insert(*prefix);
        } else {
            self.prefixes.remove(prefix);
        }
        Ok(())
    }

    fn write_host(&mut self, address: IpAddr, whose: Option<u8>) -> Result<(), Error> {
        match (address, whose) {
            (IpAddr::V4(address), Some(whose)) => self.maps.hosts4.insert(&address.octets(), &[whose])?,
            (IpAddr::V6(address), Some(whose)) => self.maps.hosts6.insert(&address.octets(), &[whose])?,
            (IpAddr::V4(address), None) => drop(self.maps.hosts4.remove(&address.octets())?),
            (IpAddr::V6(address), None) => drop(self.maps.hosts6.remove(&address.octets())?),
        }
        match whose {
            Some(whose) => self.hosts.insert(address, whose),
            None => self.hosts.remove(&address),
        };
        Ok(())
    }

    fn write_ports(&mut self, wanted: &[u8], combine: fn(u8, u8) -> u8) -> Result<(), Error> {
        for (port, (now, wanted)) in self.ports.iter_mut().zip(wanted).enumerate() {
            let next = combine(*now, *wanted);
            if *now != next {
                self.maps.ports.set(port as u32, &[next])?;
                *now = next;
            }
        }
        Ok(())
    }
}
