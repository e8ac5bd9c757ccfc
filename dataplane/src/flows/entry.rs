//! How a flow lies in memory: 48 bytes, and as many again for the addresses of IPv6.
//!
//! ```text
//!   0        8        12   16       24       28   32     36     40       44       46    48
//!   | client | ports  |    | backend| ports  |    | last | stamp| service| hops …  | …   |
//!   | frontend        |    | source          |    |
//!        what a forward         what a reply           what changes
//!        packet carries         carries
//! ```
//!
//! Of each address the last 32 bits stand here: all of an IPv4 address. A flow with an address of IPv6 takes a second entry, an
//! *extension*, which holds the 96 bits before them. So the table needs no division between the families, and IPv4, where
//! the many flows are, does not pay for addresses four times as long.

use bytemuck::{Pod, Zeroable};
use levee_api::net::Role;
use levee_api::program::Mode;

use super::flow::{Direction, Flow, Opening};
use super::hops::{self, HopId};
use super::state::State;
use crate::address::Address;
use crate::checksum::{Deltas, Shifts};
use crate::ends::{Ends, Tuple};
use crate::verdict::Endpoint;

/// A flow, without the first 96 bits of its addresses.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Entry {
    /// The client and the frontend.
    pub(super) forward: Ends,
    /// The backend, and what it sees as the sender.
    pub(super) reverse: Ends,
    pub(super) last: u32,
    pub(super) stamp: u32,
    pub(super) service_slot: u32,
    /// Of a free entry, the next free one + 1; of a flow with an extension, that + 1 (0 is none); of any other, what being translated does to
    /// the checksums of its client's packets.
    pub(super) link: u32,
    pub(super) forward_hop: HopId,
    /// 0 until the backend answers; [`hops::FORGOTTEN`] if it has, and the hop is not known any more.
    pub(super) reverse_hop: HopId,
    pub(super) via: u16,
    /// Protocol number; then flags: state (3 bits), mode (2), the client's side (2), whether it has an extension (1).
    kind: [u8; 2],
}

const _: () = assert!(size_of::<Entry>() == 48);

const STATE: u8 = 0b111;
/// The two states in which packets that begin and end nothing change nothing have these bits, and no other has both.
const STEADY: u8 = 0b110;
const ESTABLISHED: u8 = State::Established as u8;
const UDP: u8 = State::Udp as u8;
const _: () = assert!(ESTABLISHED == STEADY && UDP == STEADY | 1 && UDP == STATE);
const MODE_SHIFT: u8 = 3;
const FROM_SHIFT: u8 = 5;
const SIDE: u8 = 0b11 << FROM_SHIFT;
const EXTENDED: u8 = 1 << 7;

/// The first 96 bits of the four addresses of a flow: client, frontend, backend, source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Extension([[u32; 3]; 4]);

impl Entry {
    /// An entry of this flow; its link and next hops are the table's to set.
    pub(super) fn new(flow: &Flow) -> Self {
        let mut entry = Entry {
            forward: Ends::of(flow.client(), flow.frontend()),
            reverse: Ends::of(flow.backend, flow.source),
            kind: [flow.tuple.protocol, if flow.is_v4() { 0 } else { EXTENDED }],
            ..Entry::zeroed()
        };
        if flow.is_v4() {
            entry.link = bytemuck::must_cast(entry.forward.deltas_to(entry.reverse.turned_round()));
        }
        entry.update(flow);
        entry
    }

    /// An entry of a flow of IPv4 that a SYN opens; its next hops are the table's to set.
    #[inline(always)]
    pub(super) fn opened(opening: &Opening, now: u32) -> Self {
        let flags = State::Syn as u8 | mode_bits(opening.mode) | from_bits(opening.from);
        let deltas = opening.forward.deltas_to(opening.reverse.turned_round());
        Entry {
            link: bytemuck::must_cast(deltas),
            forward: opening.forward,
            reverse: opening.reverse,
            last: now,
            stamp: opening.stamp,
            service_slot: opening.service_slot,
            kind: [opening.protocol, flags],
            ..Entry::zeroed()
        }
    }

    /// One that is free, and leads to the next free one.
    pub(super) fn free(link: u32) -> Self {
        Entry { link, ..Entry::zeroed() }
    }

    /// Everything that may change in a flow while it lasts, but for its next hops.
    pub(super) fn update(&mut self, flow: &Flow) {
        (self.last, self.stamp) = (flow.last, flow.stamp);
        (self.service_slot, self.via) = (flow.service_slot, flow.via);
        let [protocol, flags] = self.kind;
        let flags = flags & EXTENDED | flow.state as u8 | mode_bits(flow.mode) | from_bits(flow.from);
        self.kind = [protocol, flags];
    }

    #[inline(always)]
    pub(super) fn protocol(&self) -> u8 {
        let [protocol, _] = self.kind;
        protocol
    }

    #[inline(always)]
    fn flags(&self) -> u8 {
        let [_, flags] = self.kind;
        flags
    }

    /// Whether it is no flow's. (Of a flow's, protocol and flags are never both 0: only TCP is reset.)
    #[inline(always)]
    pub(super) fn is_free(&self) -> bool {
        self.kind == [0; 2]
    }

    #[inline(always)]
    pub(super) fn state(&self) -> State {
        // By their own numbers, so that nothing is left of this but the mask.
        match self.flags() & STATE {
            0 => State::Reset,
            1 => State::Syn,
            2 => State::ClosedByClient,
            3 => State::ClosedByBackend,
            4 => State::Closed,
            5 => State::Dead,
            ESTABLISHED => State::Established,
            _ => State::Udp,
        }
    }

    /// The same as [`State::taken_for`] has it.
    #[inline(always)]
    pub(super) fn taken_for(&self) -> State {
        self.state().taken_for(self.replies_pass(), self.is_answered())
    }

    /// Whether a packet of its backend's has come by.
    #[inline(always)]
    pub(super) fn is_answered(&self) -> bool {
        self.reverse_hop != 0
    }

    /// Remembers that one has, where its next hop cannot say so.
    pub(super) fn note_answer(&mut self) {
        if self.reverse_hop == 0 {
            self.reverse_hop = hops::FORGOTTEN;
        }
    }

    /// Whether packets that begin and end nothing change nothing but its time: it is established, or UDP.
    #[inline(always)]
    pub(super) fn is_steady(&self) -> bool {
        self.flags() & STEADY == STEADY
    }

    /// Whether it is a steady flow of IPv4 and this protocol; and, if packets of this direction say so, one whose client is on
    /// this side, and that goes through no tunnel: all in one comparison.
    #[inline(always)]
    pub(super) fn is_steady_v4(&self, protocol: u8, from: Option<Role>) -> bool {
        let (through, of, side) = from.map_or((0, 0, 0), |from| (u8::MAX, SIDE, from_bits(from)));
        let ([a, b], [c, d]) = (self.via.to_ne_bytes(), self.kind);
        let word = u32::from_le_bytes;
        word([a, b, c, d]) & word([through, through, u8::MAX, EXTENDED | STEADY | of])
            == word([0, 0, protocol, STEADY | side])
    }

    /// The entry that is its extension.
    #[inline(always)]
    pub(super) fn extension(&self) -> Option<u32> {
        if self.is_extended() { self.link.checked_sub(1) } else { None }
    }

    /// What becomes of the ends of its client's packets, and of their checksums; of IPv6 the heads of addresses are wanting, and
    /// checksums are not told.
    #[inline(always)]
    pub(super) fn onward(&self, ends: Ends) -> (Ends, Shifts) {
        if self.replies_pass() { (self.reverse.turned_round(), self.deltas().ready()) } else { (ends, Shifts::ROUTED) }
    }

    /// The same of its backend's, where these pass.
    #[inline(always)]
    pub(super) fn back(&self) -> (Ends, Shifts) {
        (self.forward.turned_round(), self.deltas().reversed())
    }

    #[inline(always)]
    fn deltas(&self) -> Deltas {
        bytemuck::must_cast(self.link)
    }

    #[inline(always)]
    pub(super) fn is_extended(&self) -> bool {
        self.flags() & EXTENDED != 0
    }

    /// Which direction's packets have these ends, as far as it is told here.
    #[inline(always)]
    pub(super) fn direction(&self, ends: Ends) -> Option<Direction> {
        if self.forward == ends {
            Some(Direction::Forward)
        } else if self.reverse == ends && self.replies_pass() {
            Some(Direction::Reverse)
        } else {
            None
        }
    }

    /// Whether replies come by here: `nat` or `dnat`.
    #[inline(always)]
    pub(super) fn replies_pass(&self) -> bool {
        self.flags() & 1 << (MODE_SHIFT + 1) == 0
    }

    #[inline(always)]
    pub(super) fn mode(&self) -> Mode {
        match self.flags() >> MODE_SHIFT & 0b11 {
            0 => Mode::Nat,
            1 => Mode::Dnat,
            2 => Mode::Dsr,
            _ => Mode::Tunnel,
        }
    }

    #[inline(always)]
    pub(super) fn from(&self) -> Role {
        match self.flags() >> FROM_SHIFT & 0b11 {
            0 => Role::Uplink,
            1 => Role::Pods,
            2 => Role::Host,
            _ => Role::Tunnel,
        }
    }

    /// The client, the frontend, the backend, and what that sees as the sender.
    #[inline]
    pub(super) fn endpoints(&self, extension: Option<&Extension>) -> [Endpoint; 4] {
        let Extension([a, b, c, d]) = extension.copied().unwrap_or(Extension::V4);
        let ([client, frontend], [backend, source]) = (self.forward.endpoints([a, b]), self.reverse.endpoints([c, d]));
        [client, frontend, backend, source]
    }

    /// The flow; its next hops are the table's to fill in.
    pub(super) fn flow(&self, extension: Option<&Extension>) -> Flow {
        let [client, frontend, backend, source] = self.endpoints(extension);
        let tuple = Tuple { source: client, destination: frontend, protocol: self.protocol() };
        Flow {
            from: self.from(),
            service_slot: self.service_slot,
            stamp: self.stamp,
            via: self.via,
            answered: self.is_answered(),
            ..Flow::new(&tuple, backend, source, self.mode(), self.state(), self.last)
        }
    }
}

impl Extension {
    /// That of a flow that needs none.
    pub(super) const V4: Extension = Extension([Address::UNSPECIFIED_V4.head(); 4]);

    pub(super) fn new(flow: &Flow) -> Self {
        Extension([flow.tuple.source, flow.tuple.destination, flow.backend, flow.source].map(|end| end.address.head()))
    }

    /// Whether a packet from `source` to `destination` is the client's, as far as it is told here.
    #[inline]
    pub(super) fn is_forward(&self, source: Address, destination: Address) -> bool {
        let Extension([client, frontend, ..]) = self;
        *client == source.head() && *frontend == destination.head()
    }

    /// Of a packet on its way to the backend.
    pub(super) fn reverse_turned_round(&self) -> [[u32; 3]; 2] {
        let Extension([_, _, backend, source]) = *self;
        [source, backend]
    }

    /// Of one on its way to the client.
    pub(super) fn forward_turned_round(&self) -> [[u32; 3]; 2] {
        let Extension([client, frontend, ..]) = *self;
        [frontend, client]
    }

    /// Whether it is the backend's.
    #[inline]
    pub(super) fn is_reverse(&self, source: Address, destination: Address) -> bool {
        let Extension([.., backend, seen]) = self;
        *backend == source.head() && *seen == destination.head()
    }
}

fn mode_bits(mode: Mode) -> u8 {
    let bits = match mode {
        Mode::Nat => 0,
        Mode::Dnat => 1,
        Mode::Dsr => 2,
        Mode::Tunnel => 3,
    };
    bits << MODE_SHIFT
}

#[inline(always)]
fn from_bits(from: Role) -> u8 {
    let bits = match from {
        Role::Uplink => 0,
        Role::Pods => 1,
        Role::Host => 2,
        Role::Tunnel => 3,
    };
    bits << FROM_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::NextHop;
    use proptest::prelude::*;

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        (any::<bool>(), any::<u128>(), any::<u16>()).prop_map(|(v4, bits, port)| Endpoint {
            address: if v4 { Address::v4(bits as u32) } else { Address::v6(bits | 1 << 127) },
            port,
        })
    }

    fn flow() -> impl Strategy<Value = Flow> {
        let mode = prop_oneof![Just(Mode::Nat), Just(Mode::Dnat), Just(Mode::Dsr), Just(Mode::Tunnel)];
        let from = prop_oneof![Just(Role::Uplink), Just(Role::Pods), Just(Role::Host), Just(Role::Tunnel)];
        let state = prop_oneof![
            Just(State::Reset),
            Just(State::Syn),
            Just(State::Established),
            Just(State::ClosedByClient),
            Just(State::ClosedByBackend),
            Just(State::Closed),
            Just(State::Dead),
            Just(State::Udp)
        ];
        // Of either family each: a tunnel's far end need not be of its client's.
        ([endpoint(), endpoint(), endpoint(), endpoint()], mode, from, state, any::<(u8, u32, u32, u32, u16)>())
            .prop_map(
                |(
                    [source, destination, backend, seen],
                    mode,
                    from,
                    state,
                    (protocol, last, stamp, service_slot, via),
                )| {
                    let tuple = Tuple { source, destination, protocol };
                    Flow { from, stamp, service_slot, via, ..Flow::new(&tuple, backend, seen, mode, state, last) }
                },
            )
    }

    proptest! {
        #[test]
        fn a_flow_comes_out_as_it_went_in(flow in flow(), other in flow()) {
            let mut entry = Entry::new(&flow);
            let extension = Extension::new(&flow);
            let extension = entry.is_extended().then_some(&extension);
            prop_assert_eq!(entry.flow(extension), flow);
            // One that a SYN opens is the same however it is put together.
            if extension.is_none() && flow.replies_pass() {
                let syn = Flow { state: State::Syn, via: 0, ..flow };
                let opening = Opening {
                    forward: entry.forward,
                    reverse: entry.reverse,
                    protocol: flow.protocol(),
                    mode: flow.mode(),
                    from: flow.from,
                    service_slot: flow.service_slot,
                    stamp: flow.stamp,
                    hop: NextHop::default(),
                };
                prop_assert_eq!(Entry::opened(&opening, flow.last()).link, entry.link);
                prop_assert_eq!(Entry::opened(&opening, flow.last()).flow(None), syn);
            }
            // What may change, changes; its ends cannot.
            entry.update(&other);
            let changed = Flow { tuple: flow.tuple, backend: flow.backend, source: flow.source, ..other };
            prop_assert_eq!(entry.flow(extension), changed);
        }
    }
}
