//! ARP and Neighbour Discovery: who has an address? Both families ask the same question, so it is answered by one rule.
//!
//! | | ARP (RFC 826, RFC 5227) | Neighbour Discovery (RFC 4861, RFC 4862) |
//! |---|---|---|
//! | asks | request | solicitation |
//! | tells | reply, or a request for the sender's own address | advertisement: the *target* is who speaks |
//! | probes | sender 0.0.0.0 | source `::` |
//! | sender's MAC | `ar$sha` | link-layer address option, or else Ethernet's source |
//!
//! Nothing crosses from one side to the other, whatever it is. Router solicitations, advertisements and redirects are the
//! kernel's where it has any use for them; a pod's are nobody's.

use levee_api::net::{Mac, Role};

use super::Class;
use crate::address::Address;
use crate::headers::{Arp, ArpOperation, Discovery, DiscoveryKind, Headers};
use crate::reason::Reason;
use crate::tables::{Port, Tables};
use crate::verdict::PortId;

/// What both protocols say.
struct Resolution {
    /// Who speaks, and where it says that it is.
    sender: Address,
    sender_mac: Mac,
    /// Whom it speaks of.
    target: Address,
    asks: bool,
    /// Asks whether the address is free, to take it.
    probes: bool,
    /// Linux answers ARP for each of its addresses on each of its interfaces (`arp_ignore` 0), but Neighbour Discovery only
    /// for an interface's own.
    kernel_answers_for_all: bool,
    ignored: Reason,
    kept: Reason,
}

/// What an ARP packet is to us.
pub(super) fn arp(arp: &Arp, tables: &Tables, port: (PortId, &Port)) -> Class {
    let resolution = Resolution {
        sender: arp.sender,
        sender_mac: arp.sender_mac,
        target: arp.target,
        asks: arp.operation == ArpOperation::Request,
        probes: arp.sender == Address::UNSPECIFIED_V4,
        kernel_answers_for_all: true,
        ignored: Reason::ArpIgnored,
        kept: Reason::PodArpKept,
    };
    resolution.class(tables, port)
}

/// What a message of Neighbour Discovery is to us.
pub(super) fn discovery(headers: &Headers, discovery: &Discovery, tables: &Tables, port: (PortId, &Port)) -> Class {
    let asks = match discovery.kind {
        DiscoveryKind::Solicitation => true,
        DiscoveryKind::Advertisement => false,
        DiscoveryKind::RouterSolicitation => return router(port.1, Reason::PodNdpKept),
        DiscoveryKind::RouterAdvertisement => return router(port.1, Reason::PodRouterAdvertisement),
        DiscoveryKind::Redirect => return router(port.1, Reason::PodRedirect),
    };
    let resolution = Resolution {
        sender: discovery.speaker(),
        sender_mac: discovery.mac.unwrap_or(headers.source),
        target: discovery.target,
        asks,
        probes: asks && discovery.source == Address::UNSPECIFIED_V6,
        kernel_answers_for_all: false,
        ignored: Reason::NdpIgnored,
        kept: Reason::PodNdpKept,
    };
    resolution.class(tables, port)
}

fn router(port: &Port, from_pods: Reason) -> Class {
    match port.role {
        Role::Pods => Class::Ends(from_pods),
        Role::Uplink if port.passes => Class::Kernel,
        Role::Uplink | Role::Host | Role::Tunnel => Class::Ends(Reason::NdpIgnored),
    }
}

impl Resolution {
    fn class(&self, tables: &Tables, (id, port): (PortId, &Port)) -> Class {
        match port.role {
            Role::Uplink if tables.stands_by(id) => self.of_others(port),
            Role::Uplink => self.on_fabric(tables, port),
            Role::Pods => self.among_pods(tables),
            // Those links have no use for either.
            Role::Host | Role::Tunnel => Class::Ends(self.ignored),
        }
    }

    /// A probe for an address of ours is answered, for it is in use; somebody else who says that it has one is a conflict.
    fn on_fabric(&self, tables: &Tables, port: &Port) -> Class {
        // Whether an address is ours to answer for, and if so, whether for somebody else.
        let proxied = |address: Address| {
            let owner = tables.owner(address);
            // SNAT addresses that are also the kernel's are answered for by the kernel.
            if owner.announce || owner.snat && !owner.kernel {
                Some(false)
            } else {
                tables.is_local_pod(address, owner).then_some(true)
            }
        };
        // What we say ourselves may come back: by a loop of the fabric, or by another uplink on the same segment.
        if proxied(self.sender).is_some() && !tables.is_own_mac(self.sender_mac) {
            return Class::Claim;
        }
        match proxied(self.target) {
            Some(proxied) if self.asks && self.sender != self.target => Class::IsAt { proxied },
            _ => self.of_others(port),
        }
    }

    fn of_others(&self, port: &Port) -> Class {
        if port.passes { Class::Kernel } else { Class::Ends(self.ignored) }
    }

    /// What is not on this node is answered for; what is, answers itself.
    fn among_pods(&self, tables: &Tables) -> Class {
        let sender = tables.owner(self.sender);
        if sender.vip || sender.gateway || sender.snat && !sender.kernel {
            return Class::Claim;
        }
        if !self.asks || self.sender == self.target {
            return Class::Ends(self.kept);
        }
        let target = tables.owner(self.target);
        // What is link-local is here, if anywhere.
        let answered_here = tables.is_local_pod(self.target, target)
            || target.kernel && self.kernel_answers_for_all
            || !self.target.is_v4() && self.target.stays_on_its_link() && !target.gateway;
        // A probe asks whether an address is free. We know that of our own addresses; a pod that is just being made asks
        // for one that no table has yet, and "taken" would be a lie that keeps it from starting.
        let certain = target.vip || target.gateway || target.snat && !target.kernel;
        if answered_here || self.probes && !certain {
            return Class::Ends(self.kept);
        }
        Class::IsAt { proxied: !certain }
    }
}
