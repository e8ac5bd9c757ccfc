//! Two ends of TCP connections, in the kernel: clients that answer what comes back to the generator, and a server.
//!
//! ```text
//!   generator ──SYN──►  ┌────────┐ ──SYN────────►  Server
//!   Clients  ◄─SYN,ACK─ │ device │ ◄─────SYN,ACK─  answers each segment by itself
//!   (answer) ────ACK──► └────────┘ ──ACK────────►  counts
//! ```
//!
//! Both are XDP programs that turn a segment around and send it back out of where it came in (`XDP_TX`), with sequence numbers and
//! checksums as they have to be (RFC 9293, section 3.10.7; RFC 1624). The server remembers nothing; the clients remember of each
//! flow what has been seen of it, so that each counts once, whatever is repeated.
//!
//! On a veth the device's end needs an XDP program of its own, as levee's has. NAPI alone (`ethtool -K IF gro on`) is not enough: the
//! kernel puts what was turned around into the ring there, and wakes nobody (`veth_xdp_flush`, drivers/net/veth.c, Linux 6.18).
//!
//! No timers, no retransmission, no windows: what is lost is lost, and that is what is to be measured. On a veth both run on the
//! core of whoever sends to them, which is the device's own where that is levee: its figures are rather too low for it.

use std::net::IpAddr;
use std::os::fd::AsFd;

use af_xdp::interface;
use af_xdp::xdp::asm::{Assembler, Code, Condition, Helper, Label, Reg, Size};
use af_xdp::xdp::{Action, Array, Attach, Counters, Link, Program};

use crate::config::{FIRST_PORT, Traffic, low_32};
use crate::error::Error;
use crate::frame::SERVERS_SEQUENCE;
use crate::program::complement;

const FIN: i32 = 0x01;
const SYN: i32 = 0x02;
const RST: i32 = 0x04;
const PSH: i32 = 0x08;
const ACK: i32 = 0x10;

/// What a server has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// SYNs, which it answered.
    pub syns: u64,
    /// Segments that carry nothing: handshakes' third, and answers to FINs.
    pub acknowledgements: u64,
    /// Requests, which it answered with as many bytes.
    pub requests: u64,
    /// FINs, which it answered with its own.
    pub finishes: u64,
    /// Resets.
    pub resets: u64,
}

/// A server on every address and port.
pub struct Server {
    counters: Counters,
    _link: Link,
}

/// What clients have seen. Each flow counts once in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answered {
    /// SYNs were answered with SYN and ACK; the third segment was sent.
    pub established: u64,
    /// Requests were answered.
    pub requests: u64,
    /// FINs were answered with FIN; the last segment was sent.
    pub finished: u64,
    /// Flows were reset.
    pub resets: u64,
    /// Answers for flows that had them already.
    pub again: u64,
    /// TCP segments for nobody's flow.
    pub strangers: u64,
}

/// Clients of a generator: the flows of one traffic from number 0 on.
pub struct Clients {
    counters: Counters,
    _flows: Array<8>,
    _link: Link,
}

impl Server {
    /// Takes everything that arrives at an interface of the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(to: &str) -> Result<Server, Error> {
        let counters = Counters::new("pktgen_server", 5)?;
        let program = Program::load("pktgen_server", &server(&counters)?, false)?;
        let link = program.attach(interface::index(to)?, Attach::NativeOrGeneric)?;
        Ok(Server { counters, _link: link })
    }

    /// What it has seen so far.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn served(&self) -> Result<Served, Error> {
        let counts = self.counters.read()?;
        let of = |number: usize| counts.get(number).copied().unwrap_or_default();
        Ok(Served { syns: of(0), acknowledgements: of(1), requests: of(2), finishes: of(3), resets: of(4) })
    }
}

impl Clients {
    /// Takes everything that arrives at an interface of the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// [`Error::Invalid`] for UDP, or `flows_per_client` that are no power of two; otherwise what the kernel says.
    pub fn attach(to: &str, traffic: &Traffic, flows: u32, flows_per_client: u32) -> Result<Clients, Error> {
        if traffic.protocol != levee_api::net::Protocol::Tcp {
            return Err(Error::invalid("traffic", "only TCP has connections"));
        }
        if !flows_per_client.is_power_of_two() || flows_per_client > 32_768 {
            return Err(Error::invalid(
                "flows_per_client",
                format!("expected a power of two up to 32768, got {flows_per_client}"),
            ));
        }
        let counters = Counters::new("pktgen_clients", 6)?;
        let seen = Array::<8>::new("pktgen_flows", flows.max(1))?;
        let program = Program::load("pktgen_clients", &clients(&counters, &seen, traffic, flows_per_client)?, false)?;
        let link = program.attach(interface::index(to)?, Attach::NativeOrGeneric)?;
        Ok(Clients { counters, _flows: seen, _link: link })
    }

    /// What they have seen so far.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn answered(&self) -> Result<Answered, Error> {
        let counts = self.counters.read()?;
        let of = |number: usize| counts.get(number).copied().unwrap_or_default();
        Ok(Answered {
            established: of(0),
            requests: of(1),
            finished: of(2),
            resets: of(3),
            again: of(4),
            strangers: of(5),
        })
    }
}

const CONTEXT: Reg = Reg::R6;
const FRAME: Reg = Reg::R7;
const END: Reg = Reg::R8;
/// The segment's flags.
const FLAGS: Reg = Reg::R9;
const KEY: i16 = -4;

/// Where things are in a frame of one family, without options and extensions.
#[derive(Debug, Clone, Copy)]
struct Family {
    /// EtherType.
    number: i32,
    /// Next header, or protocol.
    protocol: i16,
    /// The length behind IPv6's header, or that with IPv4's, and what of it is not payload.
    length: (i16, i32),
    source: i16,
    destination: i16,
    /// Bytes of an address.
    address: i16,
    tcp: i16,
}

const FOUR: Family =
    Family { number: 0x0800, protocol: 23, length: (16, 40), source: 26, destination: 30, address: 4, tcp: 34 };
const SIX: Family =
    Family { number: 0x86dd, protocol: 20, length: (18, 20), source: 22, destination: 38, address: 16, tcp: 54 };

fn server(counters: &Counters) -> Result<Code<'_>, af_xdp::Error> {
    let mut writer = Writer::new(counters);
    writer.each_family(|writer, family| {
        let (syn, request, finish) = (writer.asm.label(), writer.asm.label(), writer.asm.label());
        let reset = writer.asm.label();
        writer.asm.jump_if(Condition::Set, FLAGS, RST, reset);
        writer.asm.jump_if(Condition::Set, FLAGS, SYN, syn);
        writer.asm.jump_if(Condition::Set, FLAGS, FIN, finish);
        writer.asm.jump_if(Condition::Set, FLAGS, PSH, request);
        writer.count(1);
        writer.drop();
        writer.asm.bind(reset);
        writer.count(4);
        writer.drop();
        writer.asm.bind(syn);
        writer.count(0);
        writer.numbers(family);
        writer.asm.add(THEIRS, 1);
        writer.asm.mov(OURS, SERVERS_SEQUENCE.cast_signed());
        writer.turn_around(family, SYN | ACK);
        writer.asm.bind(request);
        writer.count(2);
        writer.numbers(family);
        writer.asm.load(Size::Half, Reg::R1, FRAME, family.length.0);
        writer.asm.big_endian_16(Reg::R1);
        writer.asm.sub(Reg::R1, family.length.1);
        writer.asm.add(THEIRS, Reg::R1);
        writer.turn_around(family, PSH | ACK);
        writer.asm.bind(finish);
        writer.count(3);
        writer.numbers(family);
        writer.asm.add(THEIRS, 1);
        writer.turn_around(family, FIN | ACK);
    });
    writer.finish()
}

fn clients<'m>(
    counters: &'m Counters,
    seen: &'m Array<8>,
    traffic: &Traffic,
    flows_per_client: u32,
) -> Result<Code<'m>, af_xdp::Error> {
    let mut writer = Writer::new(counters);
    let mine = |family: Family| (family.number == FOUR.number) == matches!(traffic.to.ip(), IpAddr::V4(_));
    writer.each_family(|writer, family| {
        if !mine(family) {
            writer.drop();
            return;
        }
        let (stranger, again) = (writer.asm.label(), writer.asm.label());
        let (reset, syn, finish, request) =
            (writer.asm.label(), writer.asm.label(), writer.asm.label(), writer.asm.label());
        // The flow's number, from the address and the port that this is for.
        writer.asm.load(Size::Word, Reg::R1, FRAME, family.destination + family.address - 4);
        writer.asm.big_endian_32(Reg::R1);
        writer.asm.mov(Reg::R2, low_32(traffic.from.network()).cast_signed());
        writer.asm.shift_left(Reg::R2, 32);
        writer.asm.shift_right(Reg::R2, 32);
        writer.asm.jump_if(Condition::Less, Reg::R1, Reg::R2, stranger);
        writer.asm.sub(Reg::R1, Reg::R2);
        writer.asm.shift_left(Reg::R1, flows_per_client.trailing_zeros() as i32);
        writer.asm.load(Size::Half, Reg::R2, FRAME, family.tcp + 2);
        writer.asm.big_endian_16(Reg::R2);
        writer.asm.jump_if(Condition::Less, Reg::R2, i32::from(FIRST_PORT), stranger);
        writer.asm.sub(Reg::R2, i32::from(FIRST_PORT));
        writer.asm.jump_if(Condition::GreaterOrEqual, Reg::R2, flows_per_client as i32, stranger);
        writer.asm.add(Reg::R1, Reg::R2);
        // More than the map's index can hold is nobody's as well.
        writer.asm.mov(Reg::R2, Reg::R1);
        writer.asm.shift_right(Reg::R2, 32);
        writer.asm.jump_if(Condition::NotEqual, Reg::R2, 0, stranger);
        writer.asm.store(Size::Word, Reg::R10, KEY, Reg::R1);
        writer.lookup(seen.as_fd(), stranger);
        writer.asm.jump_if(Condition::Set, FLAGS, RST, reset);
        writer.asm.jump_if(Condition::Set, FLAGS, SYN, syn);
        writer.asm.jump_if(Condition::Set, FLAGS, FIN, finish);
        writer.asm.jump_if(Condition::Set, FLAGS, PSH, request);
        writer.drop();
        for (label, number, answer) in [(syn, 0, true), (request, 1, false), (finish, 2, true), (reset, 3, false)] {
            writer.asm.bind(label);
            // One bit for each kind of answer.
            writer.asm.load(Size::Double, Reg::R1, Reg::R0, 0);
            writer.asm.jump_if(Condition::Set, Reg::R1, 1 << number, again);
            writer.asm.or(Reg::R1, 1 << number);
            writer.asm.store(Size::Double, Reg::R0, 0, Reg::R1);
            writer.count(number);
            if answer {
                writer.numbers(family);
                writer.asm.add(THEIRS, 1);
                writer.turn_around(family, ACK);
            } else {
                writer.drop();
            }
        }
        writer.asm.bind(again);
        writer.count(4);
        writer.drop();
        writer.asm.bind(stranger);
        writer.count(5);
        writer.drop();
    });
    writer.finish()
}

/// The sequence number that the answer has: what the segment acknowledges.
const OURS: Reg = Reg::R4;
/// What the answer acknowledges: the segment's sequence number, and more.
const THEIRS: Reg = Reg::R5;

struct Writer<'m> {
    asm: Assembler<'m>,
    counters: &'m Counters,
    end: Label,
}

impl<'m> Writer<'m> {
    fn new(counters: &'m Counters) -> Self {
        let mut asm = Assembler::new();
        let end = asm.label();
        Writer { asm, counters, end }
    }

    /// For TCP of each family, its flags in `FLAGS`. Everything else is dropped.
    fn each_family(&mut self, mut then: impl FnMut(&mut Self, Family)) {
        let (four, six) = (self.asm.label(), self.asm.label());
        self.asm.mov(CONTEXT, Reg::R1);
        self.asm.load(Size::Word, FRAME, CONTEXT, 0);
        self.asm.load(Size::Word, END, CONTEXT, 4);
        self.needs(14);
        self.asm.load(Size::Half, Reg::R1, FRAME, 12);
        self.asm.big_endian_16(Reg::R1);
        self.asm.jump_if(Condition::Equal, Reg::R1, FOUR.number, four);
        self.asm.jump_if(Condition::Equal, Reg::R1, SIX.number, six);
        self.drop();
        for (label, family) in [(four, FOUR), (six, SIX)] {
            self.asm.bind(label);
            self.needs(family.tcp + 20);
            self.asm.load(Size::Byte, Reg::R1, FRAME, family.protocol);
            self.asm.jump_if(Condition::NotEqual, Reg::R1, 6, self.end);
            self.asm.load(Size::Byte, FLAGS, FRAME, family.tcp + 13);
            then(self, family);
        }
    }

    fn needs(&mut self, bytes: i16) {
        self.asm.mov(Reg::R1, FRAME);
        self.asm.add(Reg::R1, i32::from(bytes));
        self.asm.jump_if(Condition::Greater, Reg::R1, END, self.end);
    }

    fn drop(&mut self) {
        self.asm.jump(self.end);
    }

    /// The value of the key on the stack, into R0.
    fn lookup(&mut self, map: std::os::fd::BorrowedFd<'m>, missing: Label) {
        self.asm.load_map(Reg::R1, map);
        self.asm.mov(Reg::R2, Reg::R10);
        self.asm.add(Reg::R2, i32::from(KEY));
        self.asm.call(Helper::MapLookup);
        self.asm.jump_if(Condition::Equal, Reg::R0, 0, missing);
    }

    /// One more of this. Uses R0 to R5.
    fn count(&mut self, number: i32) {
        self.asm.store(Size::Word, Reg::R10, KEY, number);
        let (counters, end) = (self.counters, self.end);
        self.lookup(counters.as_fd(), end);
        self.asm.load(Size::Double, Reg::R1, Reg::R0, 0);
        self.asm.add(Reg::R1, 1);
        self.asm.store(Size::Double, Reg::R0, 0, Reg::R1);
    }

    /// Sequence and acknowledgement numbers into `THEIRS` and `OURS`.
    fn numbers(&mut self, family: Family) {
        for (to, at) in [(THEIRS, family.tcp + 4), (OURS, family.tcp + 8)] {
            self.asm.load(Size::Word, to, FRAME, at);
            self.asm.big_endian_32(to);
        }
    }

    /// Makes the frame an answer to itself, and sends it back. Ports and addresses change places, which no checksum notices.
    fn turn_around(&mut self, family: Family, flags: i32) {
        let sum = Reg::R0;
        let asm = &mut self.asm;
        // RFC 1624, equation 3: the complement of (the complement of the checksum, less the old words, plus the new ones).
        asm.load(Size::Half, Reg::R1, FRAME, family.tcp + 16);
        asm.mov(sum, 0xffff);
        asm.sub(sum, Reg::R1);
        for (number, at) in [(OURS, family.tcp + 4), (THEIRS, family.tcp + 8)] {
            asm.load(Size::Word, Reg::R1, FRAME, at);
            asm.mov(Reg::R2, -1);
            asm.shift_right(Reg::R2, 32);
            asm.sub(Reg::R2, Reg::R1);
            asm.add(sum, Reg::R2);
            asm.big_endian_32(number);
            asm.store(Size::Word, FRAME, at, number);
            asm.add(sum, number);
        }
        asm.load(Size::Half, Reg::R1, FRAME, family.tcp + 12);
        asm.mov(Reg::R2, 0xffff);
        asm.sub(Reg::R2, Reg::R1);
        asm.add(sum, Reg::R2);
        asm.store(Size::Byte, FRAME, family.tcp + 13, flags);
        asm.load(Size::Half, Reg::R1, FRAME, family.tcp + 12);
        asm.add(sum, Reg::R1);
        complement(asm, sum);
        asm.store(Size::Half, FRAME, family.tcp + 16, Reg::R1);
        let mut swap = |size, left: i16, right: i16| {
            asm.load(size, Reg::R1, FRAME, left);
            asm.load(size, Reg::R2, FRAME, right);
            asm.store(size, FRAME, left, Reg::R2);
            asm.store(size, FRAME, right, Reg::R1);
        };
        swap(Size::Half, family.tcp, family.tcp + 2);
        swap(Size::Word, 0, 6);
        swap(Size::Half, 4, 10);
        for word in (0..family.address).step_by(4) {
            swap(Size::Word, family.source + word, family.destination + word);
        }
        self.asm.mov(Reg::R0, Action::Transmit.number());
        self.asm.exit();
    }

    fn finish(mut self) -> Result<Code<'m>, af_xdp::Error> {
        self.asm.bind(self.end);
        self.asm.mov(Reg::R0, Action::Drop.number());
        self.asm.exit();
        self.asm.finish()
    }
}
