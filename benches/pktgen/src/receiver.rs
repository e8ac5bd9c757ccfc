//! What arrives, counted and timed in the kernel, and dropped.
//!
//! An XDP program on the interface where frames end. Its clock is the generator's (`CLOCK_MONOTONIC` of one machine), so the
//! time of a stamped frame is from the generator's writing it to this program's seeing it, one way, with no user space in it.
//!
//! What that can show: the way through whatever is under test, its queues and sleeps included, to 3 %.
//! What it cannot: the wire of two machines (their clocks differ: let both ends be one machine's, see
//! `docs/performance/dedicated-nics.md`); the time from a frame's writing until its batch leaves the generator, some hundred
//! nanoseconds that are in every figure; how long a frame would have waited for an application to read it. And it slows down who
//! sends to it over a veth, whose frames it has to convert: for throughput, count what an interface has received instead.

use std::os::fd::AsFd;

use af_xdp::interface;
use af_xdp::xdp::asm::{Assembler, Code, Condition, Helper, Label, Reg, Size};
use af_xdp::xdp::{Action, Attach, Counters, Link, Program};

use crate::error::Error;
use crate::frame::{FCS, STAMP, STAMP_MAGIC};
use crate::latency::{BUCKETS, LONGEST, Latency, PARTS};

/// What is counted.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
enum Total {
    Frames,
    Bytes,
    Segments,
    Syns,
    Stamps,
}

const TOTALS: u32 = 5;

/// Counts until it is dropped.
pub struct Receiver {
    totals: Counters,
    buckets: Counters,
    link: Link,
}

/// What has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// Frames, whatever they are.
    pub frames: u64,
    /// Their bytes, check sequences included.
    pub bytes: u64,
    /// TCP segments: not what stations say to each other besides.
    pub segments: u64,
    /// Those with SYN and without ACK.
    pub syns: u64,
    /// Frames with a stamp, wherever it came from.
    pub stamps: u64,
    /// Their times.
    pub latency: Latency,
}

impl Received {
    /// What was added since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Received) -> Received {
        Received {
            frames: self.frames - earlier.frames,
            bytes: self.bytes - earlier.bytes,
            segments: self.segments - earlier.segments,
            syns: self.syns - earlier.syns,
            stamps: self.stamps - earlier.stamps,
            latency: self.latency.since(&earlier.latency),
        }
    }
}

impl Receiver {
    /// Takes everything that arrives at an interface of the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// What the kernel says: no such interface, a program attached already, rights missing.
    pub fn attach(to: &str) -> Result<Receiver, Error> {
        let (totals, buckets) =
            (Counters::new("pktgen_totals", TOTALS)?, Counters::new("pktgen_latency", BUCKETS as u32)?);
        let program = Program::load("pktgen_receive", &code(&totals, &buckets)?, false)?;
        let link = program.attach(interface::index(to)?, Attach::NativeOrGeneric)?;
        Ok(Receiver { totals, buckets, link })
    }

    /// Whether it sits in the driver, or behind it, where it is slower.
    #[must_use]
    pub fn mode(&self) -> af_xdp::xdp::LinkMode {
        self.link.mode()
    }

    /// What has arrived so far.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn received(&self) -> Result<Received, Error> {
        let totals = self.totals.read()?;
        let of = |total: Total| totals.get(total as usize).copied().unwrap_or_default();
        Ok(Received {
            frames: of(Total::Frames),
            bytes: of(Total::Bytes),
            segments: of(Total::Segments),
            syns: of(Total::Syns),
            stamps: of(Total::Stamps),
            latency: Latency::new(self.buckets.read()?),
        })
    }
}

const CONTEXT: Reg = Reg::R6;
const FRAME: Reg = Reg::R7;
const END: Reg = Reg::R8;
const KEY: i16 = -4;

fn code<'m>(totals: &'m Counters, buckets: &'m Counters) -> Result<Code<'m>, af_xdp::Error> {
    let mut asm = Assembler::new();
    let (four, six, done) = (asm.label(), asm.label(), asm.label());
    asm.mov(CONTEXT, Reg::R1);
    asm.load(Size::Word, FRAME, CONTEXT, 0);
    asm.load(Size::Word, END, CONTEXT, 4);
    let mut writer = Writer { asm, totals, done };
    writer.count(Total::Frames, |asm| asm.mov(Reg::R1, 1));
    writer.count(Total::Bytes, |asm| {
        asm.mov(Reg::R1, END);
        asm.sub(Reg::R1, FRAME);
        asm.add(Reg::R1, FCS as i32);
    });
    writer.needs(14);
    writer.asm.load(Size::Half, Reg::R1, FRAME, 12);
    writer.asm.big_endian_16(Reg::R1);
    writer.asm.jump_if(Condition::Equal, Reg::R1, 0x0800, four);
    writer.asm.jump_if(Condition::Equal, Reg::R1, 0x86dd, six);
    writer.asm.jump(done);
    // Headers without options and extensions, as the generator writes them.
    for (family, protocol_at, transport) in [(four, 23, 34), (six, 20, 54)] {
        let (tcp, udp) = (writer.asm.label(), writer.asm.label());
        writer.asm.bind(family);
        writer.needs(transport);
        writer.asm.load(Size::Byte, Reg::R1, FRAME, protocol_at);
        writer.asm.jump_if(Condition::Equal, Reg::R1, 6, tcp);
        writer.asm.jump_if(Condition::Equal, Reg::R1, 17, udp);
        writer.asm.jump(done);
        writer.asm.bind(tcp);
        writer.needs(transport + 20);
        writer.count(Total::Segments, |asm| asm.mov(Reg::R1, 1));
        writer.asm.load(Size::Byte, Reg::R1, FRAME, transport + 13);
        writer.asm.and(Reg::R1, 0x12);
        let other = writer.asm.label();
        writer.asm.jump_if(Condition::NotEqual, Reg::R1, 0x02, other);
        writer.count(Total::Syns, |asm| asm.mov(Reg::R1, 1));
        writer.asm.bind(other);
        writer.stamp(transport + 20, buckets);
        writer.asm.bind(udp);
        writer.stamp(transport + 8, buckets);
    }
    let Writer { mut asm, .. } = writer;
    asm.bind(done);
    asm.mov(Reg::R0, Action::Drop.number());
    asm.exit();
    asm.finish()
}

struct Writer<'m> {
    asm: Assembler<'m>,
    totals: &'m Counters,
    done: Label,
}

impl<'m> Writer<'m> {
    /// Ends here unless the frame has so many bytes.
    fn needs(&mut self, bytes: i16) {
        self.asm.mov(Reg::R1, FRAME);
        self.asm.add(Reg::R1, i32::from(bytes));
        self.asm.jump_if(Condition::Greater, Reg::R1, END, self.done);
    }

    /// Adds what `more` leaves in R1.
    fn count(&mut self, total: Total, more: impl FnOnce(&mut Assembler<'m>)) {
        self.asm.store(Size::Word, Reg::R10, KEY, total as i32);
        let totals = self.totals;
        self.slot(totals);
        more(&mut self.asm);
        self.add();
    }

    /// Looks up the counter whose number is on the stack.
    fn slot(&mut self, counters: &'m Counters) {
        self.asm.load_map(Reg::R1, counters.as_fd());
        self.asm.mov(Reg::R2, Reg::R10);
        self.asm.add(Reg::R2, i32::from(KEY));
        self.asm.call(Helper::MapLookup);
        self.asm.jump_if(Condition::Equal, Reg::R0, 0, self.done);
    }

    /// Adds R1 to the counter that was found. It is this core's own.
    fn add(&mut self) {
        self.asm.load(Size::Double, Reg::R2, Reg::R0, 0);
        self.asm.add(Reg::R2, Reg::R1);
        self.asm.store(Size::Double, Reg::R0, 0, Reg::R2);
    }

    /// Counts and times the frame if it has a stamp here, and ends.
    fn stamp(&mut self, at: i16, buckets: &'m Counters) {
        let done = self.done;
        self.needs(at + STAMP as i16);
        self.asm.load(Size::Word, Reg::R1, FRAME, at);
        // As the word is compared: on 64 bits, without a sign.
        self.asm.mov(Reg::R2, 0);
        self.asm.add(Reg::R2, i32::from_ne_bytes(STAMP_MAGIC));
        self.asm.jump_if(Condition::NotEqual, Reg::R1, Reg::R2, done);
        self.count(Total::Stamps, |asm| asm.mov(Reg::R1, 1));
        self.asm.call(Helper::KtimeGetNs);
        self.asm.load(Size::Double, Reg::R1, FRAME, at + 8);
        self.asm.sub(Reg::R0, Reg::R1);
        bucket(&mut self.asm);
        self.asm.store(Size::Word, Reg::R10, KEY, Reg::R0);
        self.slot(buckets);
        self.asm.mov(Reg::R1, 1);
        self.add();
        self.asm.jump(done);
    }
}

/// [`crate::latency::bucket`] of R0, in R0. Uses R1 to R4.
fn bucket(asm: &mut Assembler<'_>) {
    let (fits, own) = (asm.label(), asm.label());
    let (time, power, rest) = (Reg::R0, Reg::R2, Reg::R3);
    // The longest has more than 31 bits: its complement is what is above it.
    asm.mov(Reg::R1, time);
    asm.shift_right(Reg::R1, LONGEST.count_ones() as i32);
    asm.jump_if(Condition::Equal, Reg::R1, 0, fits);
    asm.mov(time, -1);
    asm.shift_right(time, LONGEST.leading_zeros() as i32);
    asm.bind(fits);
    asm.jump_if(Condition::Less, time, 1 << PARTS, own);
    asm.mov(power, 0);
    asm.mov(rest, time);
    for step in [32, 16, 8, 4, 2, 1] {
        let less = asm.label();
        asm.mov(Reg::R1, rest);
        asm.shift_right(Reg::R1, step);
        asm.jump_if(Condition::Equal, Reg::R1, 0, less);
        asm.mov(rest, Reg::R1);
        asm.add(power, step);
        asm.bind(less);
    }
    asm.sub(power, PARTS as i32);
    asm.shift_right(time, power);
    asm.and(time, (1 << PARTS) - 1);
    asm.add(power, 1);
    asm.shift_left(power, PARTS as i32);
    asm.add(time, power);
    asm.bind(own);
}

#[cfg(test)]
mod tests {
    use af_xdp::xdp::{Array, TestRun};

    use super::*;

    /// The program's buckets are the library's. Needs root, for the kernel runs it.
    #[test]
    fn both_put_a_time_into_the_same_bucket() {
        let input = match Array::<8>::new("bucket_in", 1) {
            Ok(map) => map,
            Err(error) => {
                eprintln!("SKIPPED: no BPF map can be made here: {error}");
                return;
            }
        };
        let output = Array::<8>::new("bucket_out", 1).unwrap();
        let mut asm = Assembler::new();
        let missing = asm.label();
        let lookup = |asm: &mut Assembler<'_>, missing| {
            asm.mov(Reg::R2, Reg::R10);
            asm.add(Reg::R2, i32::from(KEY));
            asm.call(Helper::MapLookup);
            asm.jump_if(Condition::Equal, Reg::R0, 0, missing);
        };
        asm.store(Size::Word, Reg::R10, KEY, 0);
        asm.load_map(Reg::R1, input.as_fd());
        lookup(&mut asm, missing);
        asm.load(Size::Double, Reg::R0, Reg::R0, 0);
        bucket(&mut asm);
        asm.mov(Reg::R6, Reg::R0);
        asm.load_map(Reg::R1, output.as_fd());
        lookup(&mut asm, missing);
        asm.store(Size::Double, Reg::R0, 0, Reg::R6);
        asm.bind(missing);
        asm.mov(Reg::R0, Action::Drop.number());
        asm.exit();
        let program = Program::load("bucket", &asm.finish().unwrap(), false).unwrap();
        let around = (0..64).flat_map(|power| [0, 1, (1u64 << power) / 3].map(|more| (1 << power) + more));
        for time in (0..200).chain(around).chain([LONGEST - 1, LONGEST, LONGEST + 1, u64::MAX]) {
            input.set(0, &time.to_ne_bytes()).unwrap();
            program.test_run(&[0; 64], TestRun::default()).unwrap();
            let found = u64::from_ne_bytes(output.get(0).unwrap().unwrap());
            assert_eq!(found, crate::latency::bucket(time) as u64, "{time} ns");
        }
    }
}
