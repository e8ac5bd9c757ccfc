//! Why frames are dropped: one closed list, each with the name of its counter and what it means to an operator.
//!
//! The counters, `levee drops` and `docs/counters.md` are all made from this list.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

macro_rules! reasons {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a frame was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),+];

            /// The counter's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)+ }
            }

            /// What it means, and what to look at.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($meaning),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// Shorter than an Ethernet header, or than the header that its EtherType announces.
    Runt = "runt",
    /// Longer than one frame of the UMEM: raise `frame_size`, or lower the MTU.
    Giant = "giant",
    /// More than two VLAN tags.
    VlanTooDeep = "vlan_too_deep",
    /// The source MAC is a group address or all zero.
    SourceMacInvalid = "source_mac_invalid",
    /// ARP that is not Ethernet and IPv4, of a wrong size, or of an operation other than request and reply.
    ArpMalformed = "arp_malformed",
    /// Neighbour discovery with a hop limit other than 255: it may have come from another link (RFC 4861, 3.1).
    NdpHopLimit = "ndp_hop_limit",
    /// Neighbour discovery whose checksum is wrong.
    NdpChecksum = "ndp_checksum",
    /// Neighbour discovery with an option of length 0, one that goes past the message, more of them than anybody sends (32), or a MAC that is
    /// not Ethernet's.
    NdpOption = "ndp_option",
    /// Neighbour discovery in a fragment, or behind a fragment header that says there is but one: whoever looks at it on its way may be
    /// shown something else than who gets it (RFC 6980).
    NdpFragmented = "ndp_fragmented",
    /// Neighbour discovery that is cut short, has a code, asks for a group, or breaks another rule of RFC 4861, 7.1.
    NdpMalformed = "ndp_malformed",
    /// IPv4 header with a wrong version, a header length under 20 bytes or past the packet, or a length past the frame.
    Ipv4Malformed = "ipv4_malformed",
    /// IPv4 header whose checksum is wrong.
    Ipv4Checksum = "ipv4_checksum",
    /// An IPv4 header with a source route, loose or strict: its sender chooses the way, and with it past whom it goes (RFC 7126, 4.3, 4.4).
    Ipv4SourceRoute = "ipv4_source_route",
    /// IPv6 header with a wrong version, a length past the frame, or an IPv4-mapped address, or an extension header that goes past the
    /// packet.
    Ipv6Malformed = "ipv6_malformed",
    /// More IPv6 extension headers than levee walks (5), or hop-by-hop options anywhere but directly behind the IPv6 header (RFC 8200, 4.1).
    Ipv6ChainInvalid = "ipv6_chain_invalid",
    /// An IPv6 routing header of type 0, with nodes still to be visited: no longer allowed (RFC 5095).
    Ipv6SourceRoute = "ipv6_source_route",
    /// TCP, UDP, SCTP or ICMP header that does not fit into its packet, or lies about its length.
    TransportMalformed = "transport_malformed",
    /// A source address that may not stand on a wire: loopback, group, unspecified, or an address of levee's own.
    MartianSource = "martian_source",
    /// A destination that is no station's on any wire, in a frame to this one: loopback, group, reserved, unspecified, or the broadcast
    /// address of a network that a route of this node's leads to directly.
    MartianDestination = "martian_destination",
    /// Addressed to a MAC that is not ours: a copy of a flood, or another station's frame.
    OtherStation = "other_station",
    /// Arrived on a port where only owned addresses are taken, for an address that is no longer owned.
    NotOwned = "not_owned",
    /// An EtherType that pods have no business to send to the fabric.
    EthertypeUnsupported = "ethertype_unsupported",
    /// IPv6 from or to an address that means something on its link only (link-local, loopback, unspecified), or to a group without a
    /// group's MAC: never forwarded.
    Ipv6Scope = "ipv6_scope",
    /// Broadcast from a pod: it stays on the node.
    PodBroadcast = "pod_broadcast",
    /// Multicast from a pod to a group that is not in `multicast`: it stays on the node.
    PodMulticast = "pod_multicast",
    /// ARP from a pod that needs no answer from us: its target is on this node, or it is an announcement. Never leaves. Do pods ask for their
    /// gateway? Inside the node's prefix it must be named in `gateways`.
    PodArpKept = "pod_arp_kept",
    /// Neighbour discovery from a pod that needs no answer from us: its target is on this node, or it only tells something. Never leaves.
    PodNdpKept = "pod_ndp_kept",
    /// A router advertisement from a pod, who is no router: never trusted, and never leaves. Find the pod.
    PodRouterAdvertisement = "pod_router_advertisement",
    /// An ICMPv6 redirect from a pod: never trusted, and never leaves. Find the pod.
    PodRedirect = "pod_redirect",
    /// ARP on an uplink that needs no answer from us: an announcement or reply about somebody else.
    ArpIgnored = "arp_ignored",
    /// Neighbour discovery on an uplink that needs no answer from us.
    NdpIgnored = "ndp_ignored",
    /// Somebody else says that an address of ours is at their MAC: see the events for who. More than `arp.rate` of them are `arp_rate_limited`.
    ArpConflict = "arp_conflict",
    /// The same in neighbour discovery.
    NdpConflict = "ndp_conflict",
    /// A fragment of a ping to a VIP: pings are answered that come in one packet.
    VipPingFragment = "vip_ping_fragment",
    /// An ICMP message to a VIP that is neither a ping nor an error about a packet: redirects, source quench, answers.
    VipIcmp = "vip_icmp",
    /// An ICMP error with a wrong checksum, or that does not quote an IP header and 8 bytes of transport.
    IcmpMalformed = "icmp_malformed",
    /// An ICMP error about an ICMP error: nobody may send one.
    IcmpNested = "icmp_nested",
    /// An ICMP error to an address of levee's that quotes a packet which that address did not send: forged.
    IcmpSpoofed = "icmp_spoofed",
    /// An ICMP error about a packet of no flow that lives: late, or forged.
    IcmpNoFlow = "icmp_no_flow",
    /// An ICMP error that asks for packets smaller than 552 bytes (IPv4) or 1280 (IPv6), of a tunnel's packets so many with its outer
    /// headers: an attack, or a broken router.
    IcmpMtu = "icmp_mtu",
    /// More ICMP errors about one flow, or from one sender about flows unknown here, than `errors.rate` allows, or from all senders about such
    /// flows than ten times that.
    IcmpRateLimited = "icmp_rate_limited",
    /// More questions, or claims to addresses of ours, by ARP and from one source than `arp.rate` allows; or claims to one address, from all.
    ArpRateLimited = "arp_rate_limited",
    /// The same in neighbour discovery.
    NdpRateLimited = "ndp_rate_limited",
    /// A packet between pods of this node that the bridge flooded to us; the bridge delivers it itself.
    PodToPod = "pod_to_pod",
    /// No route to the destination.
    NoRoute = "no_route",
    /// The next hop's MAC did not become known in time.
    NextHopUnresolved = "next_hop_unresolved",
    /// Too many frames were waiting for next hops.
    NextHopQueueFull = "next_hop_queue_full",
    /// A frame of a kind that its class cannot have. A bug; report it.
    NotForwardable = "not_forwardable",
    /// The service's backend, or the client of its flow, is this node itself and there is no port to it (`host: false`),
    /// or is behind an interface that is not levee's: answers would not pass levee.
    HostNetwork = "host_network",
    /// The TTL, or hop limit, of an ICMP error or a later fragment ended here; other packets are answered with "time exceeded".
    TtlExceeded = "ttl_exceeded",
    /// An address inside the service ranges that no service has.
    ServiceUnallocated = "service_unallocated",
    /// A VIP's packet of a protocol that no service can have.
    VipProtocol = "vip_protocol",
    /// A client outside of the ranges that the service's address is open to (`loadBalancerSourceRanges`).
    SourceNotAllowed = "source_not_allowed",
    /// The service's policy allows only backends of this node, and there is none; other nodes have some.
    NoLocalBackend = "no_local_backend",
    /// A TCP segment in the middle of a connection that is not known here, to a service whose `mid_stream` is `drop`.
    MidStream = "mid_stream",
    /// A fragment of an SCTP packet whose port would change: its checksum spans fragments that are not here.
    ServiceFragment = "service_fragment",
    /// A fragment without data, that ends past 65,535 bytes, or that is not the last and has a length that is no multiple of 8.
    FragmentMalformed = "fragment_malformed",
    /// A fragment that came twice.
    FragmentDuplicate = "fragment_duplicate",
    /// A fragment that overlaps others of its datagram, or leaves too many holes; the datagram ends with it (RFC 5722).
    FragmentOverlap = "fragment_overlap",
    /// A fragment of a service's packet whose first fragment did not come in time.
    FragmentOrphan = "fragment_orphan",
    /// Too many fragments were waiting for their first ones.
    FragmentQueueFull = "fragment_queue_full",
    /// No SNAT address of the right family is configured: set `snat`.
    NoSnatAddress = "no_snat_address",
    /// Every SNAT port towards this backend is taken: give `snat` more addresses or ports.
    NoSnatPort = "no_snat_port",
    /// The flow table is full of flows that do not give way, and this one cannot be forwarded untracked: raise `flows.capacity`.
    FlowTableFull = "flow_table_full",
    /// A packet to a SNAT address and port for which there is no flow.
    NoSnatFlow = "no_snat_flow",
    /// An answer (RST, unreachable, echo, "too big") beyond `replies.rate`, or beyond the tenth of it that one source has.
    ReplyRateLimited = "reply_rate_limited",
    /// A RST, or an ICMP error, in answer to which nothing may be sent (RFC 9293, 3.5.2; RFC 1122, 3.2.2).
    NoReplyAllowed = "no_reply_allowed",
    /// The first packet of a flow whose source has begun more than `new_flows.per_source` allows.
    NewFlowsOfSource = "new_flows_of_source",
    /// The first packet of a flow beyond `new_flows.per_vip`, where it cannot be sent on without a flow (`nat`, `dnat`).
    NewFlowsOfVip = "new_flows_of_vip",
    /// A tunnel's packet from an address that is not among its peers: check `tunnels.peers`.
    TunnelStranger = "tunnel_stranger",
    /// A tunnel's packet with a header that is broken or of another version, with a wrong checksum, or without a packet in it.
    TunnelMalformed = "tunnel_malformed",
    /// A tunnel's packet of another virtual network than the tunnel's: check `vni` on both ends.
    TunnelNetwork = "tunnel_network",
    /// A fragment of a tunnel's packet: the way between the ends carries less than `tunnels.mtu` says.
    TunnelFragment = "tunnel_fragment",
    /// A tunnel inside of a tunnel.
    TunnelNested = "tunnel_nested",
    /// Congestion was marked on a tunnel's packet whose ends do not know of such marks (RFC 6040, 4.2).
    TunnelCongestion = "tunnel_congestion",
    /// A packet that does not fit into its tunnel and whose sender cannot be told, being an ICMP error, a later fragment, or no longer than
    /// any way must carry (552 bytes of IPv4, 1,280 of IPv6): the way between the ends is too narrow for tunnels.
    TunnelNarrow = "tunnel_narrow",
    /// A router has said that a tunnel's packet was too big for the way to its far end, and is believed: no loss but of that packet.
    TunnelMtuLearnt = "tunnel_mtu_learnt",
    /// An ICMP error about a tunnel's packet that says something else than "too big": the far end is down, or does not listen there.
    TunnelError = "tunnel_error",
    /// An ICMP error about a tunnel's packet to an address that no backend is behind: forged, or very late.
    TunnelErrorStranger = "tunnel_error_stranger",
    /// An ICMP error about a tunnel's packet that was not sent from here: of another source or port, without the mark that levee puts on it, or
    /// no longer than what would fit.
    TunnelErrorSpoofed = "tunnel_error_spoofed",
    /// What was in a tunnel's packet is for no service's address.
    TunnelNotService = "tunnel_not_service",
    /// No tunnel, or no address of this end, for a backend that is reached through one: give the dataplane `tunnels`.
    NoTunnel = "no_tunnel",
    /// The rewritten frame broke the contract of the uplink: source MAC not the node's, in Ethernet, ARP or neighbour discovery. A bug; report it.
    UplinkContract = "uplink_contract",
    /// The destination MAC of a frame to an uplink is a group address without leave, or all zero. A bug; report it.
    DestinationContract = "destination_contract",
    /// The transmit ring was full.
    TxFull = "tx_full",
    /// The queue to the worker that owns the flow was full.
    HandoverFull = "handover_full",
    /// The kernel did not take a passed frame: the TAP device was full or down.
    PassFailed = "pass_failed",
    /// The frame was waiting when the dataplane stopped.
    Shutdown = "shutdown",
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_reasons_are_numbered_in_order() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(reason.meaning().ends_with('.'), "{}", reason.name());
        }
    }
}
