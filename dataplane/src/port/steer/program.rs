//! The program itself: which frame is levee's, decided in the driver.
//!
//! ```text
//!  take everything? ---------------------------------------------------------> take
//!  Ethernet, at most two VLAN tags
//!    |- ARP    is the target ours, or else the sender? -----------------------> take
//!    |- IPv4   take all of it? ------------------------------------------------> take
//!    |         destination  ours? --------------------------------------------> take
//!    |                      shared with the kernel? -- port among ours? ------> take
//!    |                              IP in it, and ours? ----------------------> take
//!    |                              ICMP error: quoted source port among ours, or
//!    |                                quoted destination port a far end's? ---> take
//!    |                              later fragment: was its first one taken? ---> take
//!    |- IPv6   take all of it? -- not neighbour discovery, and not to a group
//!    |                            or a link-local address? --------------------> take
//!    |         destination  ours? --------------------------------------------> take
//!    |                      neighbour discovery: is the target ours, or else
//!    |                                           the source? -----------------> take
//!    |                      shared with the kernel? -- port among ours? ------> take
//!    |                              ICMP error: as with IPv4 -----------------> take
//!    |                              later fragment: was its first one taken? ---> take
//!    `- else -----------------------------------------------------------------> pass
//!
//!  take: count, redirect to the socket of the queue; no socket there: count, pass
//!  pass: count, XDP_PASS
//! ```
//!
//! "Ours" is asked of two maps: whole addresses in a hash table (many: the VIPs), which also says "shared", and then
//! prefixes in a trie (few: the pods'). The most exact entry wins: a node's own address inside an owned prefix can be
//! shared.
//!
//! Measured in test runs (Linux 6.18, 25,000 whole addresses and 256 prefixes): 28 ns for what is passed at once, 60 to
//! 75 ns for an address, some 30 more for each further one that is looked at (a sender, a target).
//!
//! It is written without an access at a variable offset (an IPv4 header's length is one of eleven constants, each
//! with its own branch), so that it can be loaded without CAP_PERFMON. It is longer than the hundred instructions at
//! which one would usually turn to C, because a compiler on the user's machine, or an object file in ours that nobody
//! can read, would be dearer; `tests.rs` tries every path on frames.

use std::os::fd::AsFd;
use std::sync::Arc;

use af_xdp::xdp::asm::{Assembler, Code, Condition, Helper, Label, Operand, Reg, Size};
use af_xdp::xdp::{Action, Array, Counters, HashMap, LpmTrie, LruHashMap, XskMap};

use super::{Class, HOST_OWNED, HOST_SHARED, Take};

/// The maps that the program refers to. One set per interface.
#[derive(Debug)]
pub(super) struct Maps {
    /// Receive queue to socket.
    pub sockets: XskMap,
    /// 0: what is taken whatever its address, a [`Take`].
    pub config: Array<4>,
    /// Whole addresses: [`HOST_OWNED`] or [`HOST_SHARED`].
    pub hosts4: HashMap<4, 1>,
    pub hosts6: HashMap<16, 1>,
    /// Owned prefixes.
    pub prefixes4: LpmTrie<8, 1>,
    pub prefixes6: LpmTrie<20, 1>,
    /// By destination port: which protocols are levee's on shared addresses.
    pub ports: Array<1>,
    /// By source, destination, identification and, of IPv4, protocol: whether the first fragment was levee's.
    pub fragments: LruHashMap<40, 1>,
    /// By [`Class`].
    pub counters: Arc<Counters>,
}

/// Bit of a protocol in the map of ports, and its number (IANA).
pub(super) const PORT_BITS: [(u8, i32); 3] = [(1, 6), (2, 17), (4, 132)];
/// UDP's.
const UDP_BIT: i32 = 2;

/// The bit and the place in the map of ports of IP packets inside of IP packets, which have no ports; port 0 is nobody's.
pub(super) const IP_IN_IP: (u8, u16) = (8, 0);
/// The bit, in the map of ports, of UDP ports that far ends of tunnels listen on.
pub(super) const FAR_PORT: u8 = 16;
/// Their protocol numbers: IPv4 and IPv6 inside.
const INNER: [i32; 2] = [4, 41];

// `struct xdp_md`
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const RX_QUEUE_INDEX: i16 = 16;

// What R6 to R9 are for; they survive calls.
const CONTEXT: Reg = Reg::R6;
/// Begin of the header at hand.
const AT: Reg = Reg::R7;
const END: Reg = Reg::R8;
/// EtherType, then the protocol's bit, then the class.
const SCRATCH: Reg = Reg::R9;

// Keys on the stack, offsets from R10. A trie's key is the prefix length and then the address, so a hash table's key
// is the end of it.
const TRIE4: i16 = -8;
const HOST4: i16 = -4;
const TRIE6: i16 = -32;
const HOST6: i16 = -28;
const NUMBER: i16 = -36;
/// What is taken whatever its address.
const TAKE: i16 = -40;
/// Source (16 bytes, of IPv4 the first four), destination (likewise), identification, protocol (of IPv6 0).
const DATAGRAM: i16 = -80;
const DATAGRAM_LEN: i16 = 40;
/// Whether it is a first fragment, and the value that is noted for it.
const FIRST: i16 = -84;
const NOTE: i16 = -88;

// IANA, "IEEE 802 Numbers".
const IPV4: i32 = 0x0800;
const ARP: i32 = 0x0806;
const IPV6: i32 = 0x86dd;
const VLAN: i32 = 0x8100;
const SERVICE_VLAN: i32 = 0x88a8;
// IANA, "Protocol Numbers".
const ICMP: i32 = 1;
const ICMPV6: i32 = 58;
/// The fragment header of IPv6.
const FRAGMENT: i32 = 44;

struct Builder<'m> {
    asm: Assembler<'m>,
    maps: &'m Maps,
    take: Label,
    pass: Label,
    /// Looks up the place in R1 of the map of ports.
    place: Label,
}

/// Assembles the program over its maps.
pub(super) fn assemble(maps: &Maps) -> Result<Code<'_>, af_xdp::Error> {
    let mut asm = Assembler::new();
    let (take, pass, place) = (asm.label(), asm.label(), asm.label());
    let mut builder = Builder { asm, maps, take, pass, place };
    builder.prologue();
    let (arp, ipv4, ipv6) = builder.ethernet();
    builder.arp(arp);
    let ports = builder.asm.label();
    builder.ipv4(ipv4, ports);
    builder.ipv6(ipv6, ports);
    builder.ports(ports);
    builder.endings();
    builder.asm.finish()
}

impl Builder<'_> {
    fn prologue(&mut self) {
        self.asm.mov(CONTEXT, Reg::R1);
        self.asm.load(Size::Word, AT, CONTEXT, DATA);
        self.asm.load(Size::Word, END, CONTEXT, DATA_END);
        self.asm.store(Size::Word, Reg::R10, NUMBER, 0);
        self.asm.store(Size::Word, Reg::R10, TAKE, 0);
        self.asm.store(Size::Word, Reg::R10, FIRST, 0);
        let no = self.asm.label();
        self.asm.load_map(Reg::R1, self.maps.config.as_fd());
        self.lookup(NUMBER, no);
        self.asm.load(Size::Word, Reg::R1, Reg::R0, 0);
        self.asm.store(Size::Word, Reg::R10, TAKE, Operand::Reg(Reg::R1));
        self.asm.jump_if(Condition::NotEqual, Reg::R1, Take::All as i32, no);
        self.take(Class::All);
        self.asm.bind(no);
    }

    /// Walks Ethernet and its tags, and branches by EtherType. Source: IEEE 802.3, 3.2.6; 802.1Q, 9.6.
    fn ethernet(&mut self) -> (Label, Label, Label) {
        let short = self.asm.label();
        self.need(14, short);
        self.asm.load(Size::Half, SCRATCH, AT, 12);
        self.asm.big_endian_16(SCRATCH);
        self.asm.add(AT, 14);
        let typed = self.asm.label();
        for _tag in 0..2 {
            let tag = self.asm.label();
            self.asm.jump_if(Condition::Equal, SCRATCH, VLAN, tag);
            self.asm.jump_if(Condition::NotEqual, SCRATCH, SERVICE_VLAN, typed);
            self.asm.bind(tag);
            self.need(4, short);
            self.asm.load(Size::Half, SCRATCH, AT, 2);
            self.asm.big_endian_16(SCRATCH);
            self.asm.add(AT, 4);
        }
        self.asm.bind(typed);
        let labels = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.jump_if(Condition::Equal, SCRATCH, IPV4, labels.1);
        self.asm.jump_if(Condition::Equal, SCRATCH, IPV6, labels.2);
        self.asm.jump_if(Condition::Equal, SCRATCH, ARP, labels.0);
        self.pass(Class::OtherProtocol);
        self.asm.bind(short);
        self.pass(Class::Malformed);
        labels
    }

    /// RFC 826, for Ethernet and IPv4.
    fn arp(&mut self, here: Label) {
        self.asm.bind(here);
        let (bad, target, sender, next) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        self.need(28, bad);
        // Hardware 1, protocol 0x0800; lengths 6 and 4.
        self.expect_half(0, 0x0001, bad);
        self.expect_half(2, 0x0800, bad);
        self.expect_half(4, 0x0604, bad);
        self.key4(24);
        self.whose4(target, next);
        self.asm.bind(next);
        // A sender that claims one of our addresses is a conflict, which levee must see.
        self.key4(14);
        let not = self.asm.label();
        self.whose4(sender, not);
        self.asm.bind(not);
        self.pass(Class::ArpOther);
        self.asm.bind(target);
        self.take(Class::ArpTarget);
        self.asm.bind(sender);
        self.take(Class::ArpSender);
        self.asm.bind(bad);
        self.pass(Class::Malformed);
    }

    /// RFC 791.
    fn ipv4(&mut self, here: Label, ports: Label) {
        self.asm.bind(here);
        let some = self.asm.label();
        self.asm.load(Size::Word, Reg::R1, Reg::R10, TAKE);
        self.asm.jump_if(Condition::Equal, Reg::R1, Take::Owned as i32, some);
        self.take(Class::All);
        self.asm.bind(some);
        let (bad, owned, shared) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.need(20, bad);
        self.expect_version(4, bad);
        self.key4(16);
        self.whose4(owned, shared);
        self.pass(Class::OtherAddress);

        self.asm.bind(shared);
        self.asm.load(Size::Half, Reg::R1, AT, 6);
        self.asm.big_endian_16(Reg::R1);
        // Offset and "more fragments"; only a first one has ports.
        self.asm.and(Reg::R1, 0x3fff);
        let (whole, first, later) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.jump_if(Condition::Equal, Reg::R1, 0, whole);
        self.datagram4();
        self.asm.load(Size::Half, Reg::R1, AT, 6);
        self.asm.big_endian_16(Reg::R1);
        self.asm.and(Reg::R1, 0x1fff);
        self.asm.jump_if(Condition::NotEqual, Reg::R1, 0, later);
        self.asm.store(Size::Word, Reg::R10, FIRST, 1);
        self.asm.jump(first);

        self.asm.bind(whole);
        self.asm.load(Size::Byte, Reg::R1, AT, 9);
        let error = self.asm.label();
        self.asm.jump_if(Condition::Equal, Reg::R1, ICMP, error);
        self.asm.bind(first);
        self.asm.load(Size::Byte, Reg::R1, AT, 9);
        self.protocol_bit();
        self.behind_options(ports, bad);

        // RFC 792: the packet that it is about stands behind 8 bytes.
        self.asm.bind(error);
        let message = self.asm.label();
        self.behind_options(message, bad);
        self.asm.bind(message);
        let not_ours = self.asm.label();
        self.need(28, not_ours);
        let about = self.asm.label();
        self.asm.load(Size::Byte, Reg::R1, AT, 0);
        for kind in [3, 11, 12] {
            self.asm.jump_if(Condition::Equal, Reg::R1, kind, about);
        }
        self.asm.jump(not_ours);
        self.asm.bind(about);
        self.asm.add(AT, 8);
        self.expect_version(4, not_ours);
        self.asm.load(Size::Byte, Reg::R1, AT, 0);
        self.asm.and(Reg::R1, 0x0f);
        self.asm.jump_if(Condition::Less, Reg::R1, 5, not_ours);
        self.asm.load(Size::Byte, Reg::R1, AT, 9);
        self.protocol_bit();
        let quoted = self.asm.label();
        self.behind_options(quoted, not_ours);
        self.asm.bind(quoted);
        self.quoted_port(not_ours);
        self.asm.bind(not_ours);
        self.pass(Class::SharedOther);

        self.asm.bind(later);
        self.later();

        self.asm.bind(bad);
        self.pass(Class::Malformed);
        self.asm.bind(owned);
        self.take(Class::Address4);
    }

    /// Moves behind the IPv4 header at hand, and goes there. Its length is one of eleven constants, each with a branch of
    /// its own.
    fn behind_options(&mut self, there: Label, bad: Label) {
        self.asm.load(Size::Byte, Reg::R1, AT, 0);
        self.asm.and(Reg::R1, 0x0f);
        for words in 5..16 {
            let next = self.asm.label();
            self.asm.jump_if(Condition::NotEqual, Reg::R1, words, next);
            self.asm.add(AT, words * 4);
            self.asm.jump(there);
            self.asm.bind(next);
        }
        self.asm.jump(bad);
    }

    /// The key of the datagram that the IPv4 header at hand is of.
    fn datagram4(&mut self) {
        for offset in (0..DATAGRAM_LEN).step_by(4) {
            self.asm.store(Size::Word, Reg::R10, DATAGRAM + offset, 0);
        }
        for (at, offset) in [(12, 0), (16, 16)] {
            self.asm.load(Size::Word, Reg::R1, AT, at);
            self.asm.store(Size::Word, Reg::R10, DATAGRAM + offset, Reg::R1);
        }
        self.asm.load(Size::Half, Reg::R1, AT, 4);
        self.asm.store(Size::Word, Reg::R10, DATAGRAM + 32, Reg::R1);
        self.asm.load(Size::Byte, Reg::R1, AT, 9);
        self.asm.store(Size::Word, Reg::R10, DATAGRAM + 36, Reg::R1);
    }

    /// The same of an IPv6 header with a fragment header right behind it. The next header in there is its own and not the datagram's:
    /// only that of the first fragment counts (RFC 8200, 4.5).
    fn datagram6(&mut self) {
        for word in (0..32).step_by(4) {
            self.asm.load(Size::Word, Reg::R1, AT, 8 + word);
            self.asm.store(Size::Word, Reg::R10, DATAGRAM + word, Reg::R1);
        }
        self.asm.load(Size::Word, Reg::R1, AT, 44);
        self.asm.store(Size::Word, Reg::R10, DATAGRAM + 32, Reg::R1);
        self.asm.store(Size::Word, Reg::R10, DATAGRAM + 36, 0);
    }

    /// A fragment other than the first: levee's, if the first one was.
    fn later(&mut self) {
        let not_ours = self.asm.label();
        self.asm.load_map(Reg::R1, self.maps.fragments.as_fd());
        self.lookup(DATAGRAM, not_ours);
        self.asm.load(Size::Byte, Reg::R1, Reg::R0, 0);
        self.asm.jump_if(Condition::Equal, Reg::R1, 0, not_ours);
        self.take(Class::SharedFollower);
        self.asm.bind(not_ours);
        self.pass(Class::SharedFragment);
    }

    /// Takes an ICMP error if the source port of the transport header at hand, which it quotes, is levee's, or its destination
    /// port is that of a tunnel's far end; otherwise goes on. SCRATCH is the protocol's bit.
    fn quoted_port(&mut self, not_ours: Label) {
        let other = self.asm.label();
        self.need(4, not_ours);
        self.asm.load(Size::Half, Reg::R1, AT, 0);
        self.asm.big_endian_16(Reg::R1);
        self.is_our_port(other);
        self.take(Class::SharedError);
        self.asm.bind(other);
        self.asm.jump_if(Condition::NotEqual, SCRATCH, UDP_BIT, not_ours);
        self.asm.mov(SCRATCH, i32::from(FAR_PORT));
        self.asm.load(Size::Half, Reg::R1, AT, 2);
        self.asm.big_endian_16(Reg::R1);
        self.is_our_port(not_ours);
        self.take(Class::SharedError);
    }

    /// Goes on if the port in R1 is levee's for the protocol whose bit is in SCRATCH.
    fn is_our_port(&mut self, not_ours: Label) {
        self.asm.store(Size::Word, Reg::R10, NUMBER, Reg::R1);
        self.asm.load_map(Reg::R1, self.maps.ports.as_fd());
        self.lookup(NUMBER, not_ours);
        self.asm.load(Size::Byte, Reg::R1, Reg::R0, 0);
        self.asm.and(Reg::R1, SCRATCH);
        self.asm.jump_if(Condition::Equal, Reg::R1, 0, not_ours);
    }

    /// RFC 8200; extension headers are not walked: behind one there are no ports, but for a fragment header that stands alone.
    fn ipv6(&mut self, here: Label, ports: Label) {
        self.asm.bind(here);
        let (bad, owned, shared, discovery) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        self.need(40, bad);
        self.expect_version(6, bad);
        let some = self.asm.label();
        self.asm.load(Size::Word, Reg::R1, Reg::R10, TAKE);
        self.asm.jump_if(Condition::Equal, Reg::R1, Take::Owned as i32, some);
        self.all_of_ipv6(discovery);
        self.asm.bind(some);
        self.key6(24);
        self.whose6(owned, shared);
        self.asm.load(Size::Byte, Reg::R1, AT, 6);
        self.asm.jump_if(Condition::Equal, Reg::R1, ICMPV6, discovery);
        self.pass(Class::OtherAddress);

        self.asm.bind(shared);
        self.asm.load(Size::Byte, Reg::R1, AT, 6);
        let (message, fragment) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Condition::Equal, Reg::R1, ICMPV6, message);
        self.asm.jump_if(Condition::Equal, Reg::R1, FRAGMENT, fragment);
        self.protocol_bit();
        self.asm.add(AT, 40);
        self.asm.jump(ports);

        // RFC 8200, 4.5. Offset, two reserved bits, "more fragments".
        self.asm.bind(fragment);
        let (later, atomic) = (self.asm.label(), self.asm.label());
        self.need(48, bad);
        self.datagram6();
        self.asm.load(Size::Half, Reg::R1, AT, 42);
        self.asm.big_endian_16(Reg::R1);
        self.asm.mov(Reg::R2, Reg::R1);
        self.asm.and(Reg::R2, 0xfff8);
        self.asm.jump_if(Condition::NotEqual, Reg::R2, 0, later);
        self.asm.and(Reg::R1, 1);
        self.asm.jump_if(Condition::Equal, Reg::R1, 0, atomic);
        self.asm.store(Size::Word, Reg::R10, FIRST, 1);
        // Not levee's until its port says so: of protocols that have none nobody would say that it is not.
        self.note_first(0);
        self.asm.bind(atomic);
        self.asm.load(Size::Byte, Reg::R1, AT, 40);
        self.protocol_bit();
        self.asm.add(AT, 48);
        self.asm.jump(ports);
        self.asm.bind(later);
        self.later();

        // RFC 4443, 3: the packet that an error is about stands behind 8 bytes.
        self.asm.bind(message);
        let (about, not_about) = (self.asm.label(), self.asm.label());
        self.need(88, discovery);
        self.asm.load(Size::Byte, Reg::R1, AT, 40);
        for kind in 1..=4 {
            self.asm.jump_if(Condition::Equal, Reg::R1, kind, about);
        }
        self.asm.jump(discovery);
        self.asm.bind(about);
        self.asm.load(Size::Byte, Reg::R1, AT, 54);
        self.protocol_bit();
        self.asm.add(AT, 88);
        self.quoted_port(not_about);
        self.asm.bind(not_about);
        self.pass(Class::SharedOther);

        // Neighbour solicitation and advertisement (RFC 4861, 4.3 and 4.4): whose the target is, wherever it was sent
        // to.
        self.asm.bind(discovery);
        let (solicited, ours, not_ours) = (self.asm.label(), self.asm.label(), self.asm.label());
        let (source, claimed) = (self.asm.label(), self.asm.label());
        self.need(64, not_ours);
        self.asm.load(Size::Byte, Reg::R1, AT, 40);
        self.asm.jump_if(Condition::Equal, Reg::R1, 135, solicited);
        self.asm.jump_if(Condition::NotEqual, Reg::R1, 136, not_ours);
        self.asm.bind(solicited);
        self.key6(48);
        self.whose6(ours, source);
        self.asm.bind(source);
        // As in ARP: who asks from one of our addresses claims it.
        self.key6(8);
        self.whose6(claimed, not_ours);
        self.asm.bind(not_ours);
        self.pass(Class::OtherAddress);
        self.asm.bind(ours);
        self.take(Class::NeighbourTarget);
        self.asm.bind(claimed);
        self.take(Class::NeighbourSource);

        self.asm.bind(bad);
        self.pass(Class::Malformed);
        self.asm.bind(owned);
        self.take(Class::Address6);
    }

    /// Takes all but what only the kernel has a use for: groups, link-local addresses (RFC 4291, 2.4), and neighbour discovery
    /// about others, for which it goes on at `discovery`.
    fn all_of_ipv6(&mut self, discovery: Label) {
        let (address, kernels) = (self.asm.label(), self.asm.label());
        self.asm.load(Size::Byte, Reg::R1, AT, 6);
        self.asm.jump_if(Condition::NotEqual, Reg::R1, ICMPV6, address);
        self.need(41, address);
        self.asm.load(Size::Byte, Reg::R1, AT, 40);
        // RFC 4861, 4.
        for kind in 133..=137 {
            self.asm.jump_if(Condition::Equal, Reg::R1, kind, discovery);
        }
        self.asm.bind(address);
        self.asm.load(Size::Half, Reg::R1, AT, 24);
        self.asm.big_endian_16(Reg::R1);
        self.asm.mov(Reg::R2, Reg::R1);
        self.asm.and(Reg::R2, 0xff00);
        self.asm.jump_if(Condition::Equal, Reg::R2, 0xff00, kernels);
        self.asm.and(Reg::R1, 0xffc0);
        self.asm.jump_if(Condition::Equal, Reg::R1, 0xfe80, kernels);
        self.take(Class::All);
        self.asm.bind(kernels);
        self.pass(Class::OtherAddress);
    }

    /// TCP, UDP and SCTP have the destination port at the same place (RFC 9293, 768, 9260). SCRATCH is the protocol's
    /// bit.
    fn ports(&mut self, here: Label) {
        self.asm.bind(here);
        let (short, not_ours) = (self.asm.label(), self.asm.label());
        self.need(4, short);
        self.asm.load(Size::Half, Reg::R1, AT, 2);
        self.asm.big_endian_16(Reg::R1);
        self.asm.bind(self.place);
        self.is_our_port(not_ours);
        self.note_first(1);
        self.take(Class::SharedPort);
        self.asm.bind(not_ours);
        self.note_first(0);
        self.pass(Class::SharedOther);
        self.asm.bind(short);
        self.pass(Class::Malformed);
    }

    /// Notes whose a datagram is whose first fragment is at hand; also that it is not levee's, for identifications come again.
    fn note_first(&mut self, ours: i32) {
        let whole = self.asm.label();
        self.asm.load(Size::Word, Reg::R1, Reg::R10, FIRST);
        self.asm.jump_if(Condition::Equal, Reg::R1, 0, whole);
        self.asm.store(Size::Word, Reg::R10, NOTE, ours);
        self.asm.load_map(Reg::R1, self.maps.fragments.as_fd());
        self.asm.mov(Reg::R2, Reg::R10);
        self.asm.add(Reg::R2, i32::from(DATAGRAM));
        self.asm.mov(Reg::R3, Reg::R10);
        self.asm.add(Reg::R3, i32::from(NOTE));
        self.asm.mov(Reg::R4, 0);
        self.asm.call(Helper::MapUpdate);
        self.asm.bind(whole);
    }

    fn endings(&mut self) {
        self.asm.bind(self.take);
        self.count();
        self.asm.load_map(Reg::R1, self.maps.sockets.as_fd());
        self.asm.load(Size::Word, Reg::R2, CONTEXT, RX_QUEUE_INDEX);
        self.asm.mov(Reg::R3, Action::Pass.number());
        self.asm.call(Helper::RedirectMap);
        let nobody = self.asm.label();
        self.asm.jump_if(Condition::NotEqual, Reg::R0, Action::Redirect.number(), nobody);
        self.asm.exit();
        self.asm.bind(nobody);
        self.asm.mov(SCRATCH, Class::NoSocket as i32);
        self.asm.bind(self.pass);
        self.count();
        self.asm.mov(Reg::R0, Action::Pass.number());
        self.asm.exit();
    }

    fn take(&mut self, class: Class) {
        self.asm.mov(SCRATCH, class as i32);
        self.asm.jump(self.take);
    }

    fn pass(&mut self, class: Class) {
        self.asm.mov(SCRATCH, class as i32);
        self.asm.jump(self.pass);
    }

    /// Goes on only if there are that many bytes at [`AT`].
    fn need(&mut self, bytes: i32, otherwise: Label) {
        self.asm.mov(Reg::R2, AT);
        self.asm.add(Reg::R2, bytes);
        self.asm.jump_if(Condition::Greater, Reg::R2, END, otherwise);
    }

    fn expect_half(&mut self, offset: i16, value: i32, otherwise: Label) {
        self.asm.load(Size::Half, Reg::R1, AT, offset);
        self.asm.big_endian_16(Reg::R1);
        self.asm.jump_if(Condition::NotEqual, Reg::R1, value, otherwise);
    }

    fn expect_version(&mut self, version: i32, otherwise: Label) {
        self.asm.load(Size::Byte, Reg::R1, AT, 0);
        self.asm.shift_right(Reg::R1, 4);
        self.asm.jump_if(Condition::NotEqual, Reg::R1, version, otherwise);
    }

    /// Looks a key on the stack up in the map in R1. Its value's address is in R0, and not 0.
    fn lookup(&mut self, key: i16, missing: Label) {
        self.asm.mov(Reg::R2, Reg::R10);
        self.asm.add(Reg::R2, i32::from(key));
        self.asm.call(Helper::MapLookup);
        self.asm.jump_if(Condition::Equal, Reg::R0, 0, missing);
    }

    /// The IPv4 address at an offset, as a key.
    fn key4(&mut self, offset: i16) {
        self.asm.load(Size::Word, Reg::R1, AT, offset);
        self.asm.store(Size::Word, Reg::R10, HOST4, Reg::R1);
        self.asm.store(Size::Word, Reg::R10, TRIE4, 32);
    }

    /// The IPv6 address at an offset, as a key.
    fn key6(&mut self, offset: i16) {
        for word in [0, 4, 8, 12] {
            self.asm.load(Size::Word, Reg::R1, AT, offset + word);
            self.asm.store(Size::Word, Reg::R10, HOST6 + word, Reg::R1);
        }
        self.asm.store(Size::Word, Reg::R10, TRIE6, 128);
    }

    /// Branches by whose the address in the IPv4 key is; goes on if it is nobody's here.
    fn whose4(&mut self, owned: Label, shared: Label) {
        self.asm.load_map(Reg::R1, self.maps.hosts4.as_fd());
        let prefix = self.host(HOST4, owned, shared);
        self.asm.bind(prefix);
        self.asm.load_map(Reg::R1, self.maps.prefixes4.as_fd());
        self.prefix(TRIE4, owned);
    }

    /// As [`Builder::whose4`].
    fn whose6(&mut self, owned: Label, shared: Label) {
        self.asm.load_map(Reg::R1, self.maps.hosts6.as_fd());
        let prefix = self.host(HOST6, owned, shared);
        self.asm.bind(prefix);
        self.asm.load_map(Reg::R1, self.maps.prefixes6.as_fd());
        self.prefix(TRIE6, owned);
    }

    fn host(&mut self, key: i16, owned: Label, shared: Label) -> Label {
        let missing = self.asm.label();
        self.lookup(key, missing);
        self.asm.load(Size::Byte, Reg::R1, Reg::R0, 0);
        self.asm.jump_if(Condition::Equal, Reg::R1, i32::from(HOST_OWNED), owned);
        self.asm.jump_if(Condition::Equal, Reg::R1, i32::from(HOST_SHARED), shared);
        missing
    }

    fn prefix(&mut self, key: i16, owned: Label) {
        let missing = self.asm.label();
        self.lookup(key, missing);
        self.asm.jump(owned);
        self.asm.bind(missing);
    }

    /// SCRATCH becomes the bit of the protocol whose number is in R1, and nothing else goes on. What has no ports goes on at
    /// its place.
    fn protocol_bit(&mut self) {
        let known = self.asm.label();
        for (bit, number) in PORT_BITS {
            self.asm.mov(SCRATCH, i32::from(bit));
            self.asm.jump_if(Condition::Equal, Reg::R1, number, known);
        }
        let inner = self.asm.label();
        self.asm.mov(SCRATCH, i32::from(IP_IN_IP.0));
        for number in INNER {
            self.asm.jump_if(Condition::Equal, Reg::R1, number, inner);
        }
        self.pass(Class::SharedOther);
        self.asm.bind(inner);
        self.asm.mov(Reg::R1, i32::from(IP_IN_IP.1));
        self.asm.jump(self.place);
        self.asm.bind(known);
    }

    /// Counts the class in SCRATCH.
    fn count(&mut self) {
        let never = self.asm.label();
        self.asm.store(Size::Word, Reg::R10, NUMBER, Operand::Reg(SCRATCH));
        self.asm.load_map(Reg::R1, self.maps.counters.as_fd());
        self.lookup(NUMBER, never);
        self.asm.load(Size::Double, Reg::R1, Reg::R0, 0);
        self.asm.add(Reg::R1, 1);
        self.asm.store(Size::Double, Reg::R0, 0, Reg::R1);
        self.asm.bind(never);
    }
}
