//! The program: which instructions the kernel runs for each frame.
//!
//! Kinds of frames are code, not data: each has its own stretch of stores of constants, and a tree of comparisons leads to it.
//! That is as fast as a program gets, and there is nothing that the verifier would have to believe.

use std::os::fd::AsFd;

use af_xdp::xdp::asm::{Assembler, Condition, Helper, Label, Reg, Size};
use af_xdp::xdp::{Action, Array, Program};

use crate::config::{Config, FIRST_PORT, low_32};
use crate::error::Error;
use crate::frame::{FCS, Template};
use crate::schedule::{SLOTS, schedule};

/// Bits behind the point in times of the schedule: a 1,024th of a nanosecond. 2^54 ns are 208 days of one stream.
const FRACTION: i32 = 10;
/// Looks at the clock in one run before it gives its page back: a microsecond of waiting costs less so.
const LOOKS: usize = 8;
/// An unpaced generator looks at the clock once in so many frames.
const CLOCK_EVERY: i32 = 64;

/// What the program counts and remembers: 8 bytes each, in one value of one map.
#[derive(Debug, Clone, Copy)]
#[repr(i16)]
pub(crate) enum State {
    Frames = 0,
    Bytes = 8,
    Begun = 16,
    Stamps = 24,
    /// When the first frame was sent, and the last one, by the kernel's clock.
    First = 32,
    Last = 40,
    /// When the next is due, from the first on, with [`FRACTION`].
    Due = 48,
    /// Time that was too much to catch up, with [`FRACTION`].
    Behind = 56,
    Slot = 64,
    /// Frames that could not be written: none, if the program is right.
    Broken = 72,
    /// The next flow of each traffic: established, beginning.
    Flows = 80,
}

/// Bytes of the state.
pub(crate) const STATE: usize = State::Flows as usize + Config::MOST_TRAFFIC * 2 * 8;
/// What the process tells the program: 8 bytes that say stop unless zero, 8 of how many frames are enough.
pub(crate) const CONTROL: usize = 16;

/// The maps of one generator.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) control: Array<CONTROL>,
    pub(crate) state: Array<STATE>,
    /// The kind of each slot of the schedule.
    slots: Array<4>,
}

/// A kind of frame and where its flows are counted.
struct Kind {
    template: Template,
    /// Number among the state's flows.
    flows: usize,
    range: std::ops::Range<u32>,
    servers: u32,
    first: (u32, u32),
    weight: f64,
}

/// A program with its maps, ready to be run.
pub(crate) struct Loaded {
    pub(crate) program: Program,
    pub(crate) maps: Maps,
    /// Bytes of its longest frame.
    pub(crate) longest: usize,
}

/// All kinds that a configuration asks for.
fn kinds(config: &Config) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (number, traffic) in config.traffic.iter().enumerate() {
        for begins in [false, true] {
            let segment = (!begins).then_some(config.segment);
            let share = if begins { config.syn } else { 1.0 - config.syn };
            for (bytes, weight) in config.sizes.all() {
                for stamped in [false, true] {
                    let stamps = if config.stamp_every == 0 { 0.0 } else { 1.0 / f64::from(config.stamp_every) };
                    let weight = share * f64::from(*weight) * if stamped { stamps } else { 1.0 - stamps };
                    if weight <= 0.0 {
                        continue;
                    }
                    kinds.push(Kind {
                        template: Template::new(config.macs, traffic, *bytes, segment, stamped),
                        flows: number * 2 + usize::from(begins),
                        range: if begins { config.beginning.clone() } else { config.established.clone() },
                        servers: traffic.servers,
                        first: (low_32(traffic.from.network()), low_32(traffic.to.ip())),
                        weight,
                    });
                }
            }
        }
    }
    kinds
}

/// Assembles it and has the kernel verify it; the interface's index is that of the namespace that it will be run in.
pub(crate) fn load(config: &Config, interface: u32) -> Result<Loaded, Error> {
    config.check()?;
    let kinds = kinds(config);
    let maps = maps(config, &kinds)?;
    let longest = kinds.iter().map(|kind| kind.template.bytes.len()).max().unwrap_or_default();
    let code = {
        let mut writer = Writer::new(&maps, longest);
        writer.begin();
        if config.rate.is_some() {
            writer.wait_for_turn(config);
        } else {
            writer.look_now_and_then();
        }
        let labels: Vec<Label> = kinds.iter().map(|_| writer.asm.label()).collect();
        if kinds.len() > 1 {
            writer.next_slot();
            writer.dispatch(0, &labels);
        }
        for (kind, label) in kinds.iter().zip(&labels) {
            writer.asm.bind(*label);
            writer.frame(kind, config.flows_per_client);
        }
        writer.end(interface);
        writer.asm.finish()?
    };
    let program = Program::load("pktgen", &code, false)?;
    Ok(Loaded { program, maps, longest })
}

fn maps(config: &Config, kinds: &[Kind]) -> Result<Maps, Error> {
    let slots = if kinds.len() > 1 { SLOTS } else { 1 };
    let maps = Maps {
        control: Array::new("pktgen_control", 1)?,
        state: Array::new("pktgen_state", 1)?,
        slots: Array::new("pktgen_slots", slots as u32)?,
    };
    let weights: Vec<f64> = kinds.iter().map(|kind| kind.weight).collect();
    for (slot, kind) in (0..).zip(schedule(&weights, slots)) {
        maps.slots.set(slot, &(kind as u32).to_ne_bytes())?;
    }
    let mut state = [0; STATE];
    for kind in kinds {
        let at = State::Flows as usize + kind.flows * 8;
        state[at..at + 8].copy_from_slice(&u64::from(kind.range.start).to_ne_bytes());
    }
    maps.state.set(0, &state)?;
    let mut control = [0; CONTROL];
    control[8..].copy_from_slice(&config.frames.unwrap_or(u64::MAX).to_ne_bytes());
    maps.control.set(0, &control)?;
    Ok(maps)
}

// Who lives where: R6 the context, R7 the frame, R8 the state, R9 the time, then the flow.
const CONTEXT: Reg = Reg::R6;
const FRAME: Reg = Reg::R7;
const STATE_AT: Reg = Reg::R8;
const NOW: Reg = Reg::R9;
const FLOW: Reg = Reg::R9;
/// The stack: a map's key, and the number of frames that is enough.
const KEY: i16 = -4;
const ENOUGH: i16 = -16;

struct Writer<'m> {
    asm: Assembler<'m>,
    maps: &'m Maps,
    longest: usize,
    /// Gives the page back: there is nothing to send now.
    idle: Label,
    /// The same, and counts that something is wrong.
    broken: Label,
    send: Label,
}

impl<'m> Writer<'m> {
    fn new(maps: &'m Maps, longest: usize) -> Self {
        let mut asm = Assembler::new();
        let (idle, broken, send) = (asm.label(), asm.label(), asm.label());
        Writer { asm, maps, longest, idle, broken, send }
    }

    /// Any number of 64 bits: there is no instruction for more than 32 that is not a map's.
    fn number(&mut self, to: Reg, number: u64) {
        self.asm.mov(to, (number >> 48) as i32);
        for part in [(number >> 32) & 0xffff, (number >> 16) & 0xffff, number & 0xffff] {
            self.asm.shift_left(to, 16);
            self.asm.add(to, part as i32);
        }
    }

    fn state(&mut self, to: Reg, field: State) {
        self.asm.load(Size::Double, to, STATE_AT, field as i16);
    }

    fn set_state(&mut self, field: State, from: Reg) {
        self.asm.store(Size::Double, STATE_AT, field as i16, from);
    }

    /// Nobody else counts: one generator, one thread, so nothing needs to be atomic.
    fn count(&mut self, field: State, more: i32) {
        self.state(Reg::R1, field);
        self.asm.add(Reg::R1, more);
        self.set_state(field, Reg::R1);
    }

    fn lookup(&mut self, map: std::os::fd::BorrowedFd<'m>, missing: Label) {
        self.asm.load_map(Reg::R1, map);
        self.asm.mov(Reg::R2, Reg::R10);
        self.asm.add(Reg::R2, i32::from(KEY));
        self.asm.call(Helper::MapLookup);
        self.asm.jump_if(Condition::Equal, Reg::R0, 0, missing);
    }

    /// Ends here if it is to stop, or has sent enough.
    fn begin(&mut self) {
        let maps = self.maps;
        self.asm.mov(CONTEXT, Reg::R1);
        self.asm.store(Size::Word, Reg::R10, KEY, 0);
        self.lookup(maps.control.as_fd(), self.idle);
        self.asm.load(Size::Double, Reg::R1, Reg::R0, 0);
        self.asm.jump_if(Condition::NotEqual, Reg::R1, 0, self.idle);
        self.asm.load(Size::Double, Reg::R1, Reg::R0, 8);
        self.asm.store(Size::Double, Reg::R10, ENOUGH, Reg::R1);
        self.lookup(maps.state.as_fd(), self.idle);
        self.asm.mov(STATE_AT, Reg::R0);
        self.state(Reg::R1, State::Frames);
        self.asm.load(Size::Double, Reg::R2, Reg::R10, ENOUGH);
        self.asm.jump_if(Condition::GreaterOrEqual, Reg::R1, Reg::R2, self.idle);
    }

    /// The time into `NOW`; the first time is remembered.
    fn clock(&mut self) {
        let known = self.asm.label();
        self.asm.call(Helper::KtimeGetNs);
        self.asm.mov(NOW, Reg::R0);
        self.state(Reg::R1, State::First);
        self.asm.jump_if(Condition::NotEqual, Reg::R1, 0, known);
        self.set_state(State::First, NOW);
        self.asm.bind(known);
    }

    /// Goes on when a frame is due, and says when the next will be.
    fn wait_for_turn(&mut self, config: &Config) {
        let (due, on_time) = (self.asm.label(), self.asm.label());
        for _ in 0..LOOKS {
            self.clock();
            // R2 = time since the first, R1 = when it is due.
            self.asm.mov(Reg::R2, NOW);
            self.state(Reg::R1, State::First);
            self.asm.sub(Reg::R2, Reg::R1);
            self.asm.shift_left(Reg::R2, FRACTION);
            self.state(Reg::R1, State::Due);
            self.asm.jump_if(Condition::GreaterOrEqual, Reg::R2, Reg::R1, due);
        }
        self.asm.jump(self.idle);
        self.asm.bind(due);
        self.set_state(State::Last, NOW);
        // Later than can be caught up: the schedule moves, and by how much is counted.
        self.asm.mov(Reg::R3, Reg::R2);
        self.asm.sub(Reg::R3, Reg::R1);
        self.number(Reg::R4, (config.catch_up.as_nanos() as u64) << FRACTION);
        self.asm.jump_if(Condition::LessOrEqual, Reg::R3, Reg::R4, on_time);
        self.asm.sub(Reg::R3, Reg::R4);
        self.asm.add(Reg::R1, Reg::R3);
        self.state(Reg::R5, State::Behind);
        self.asm.add(Reg::R5, Reg::R3);
        self.set_state(State::Behind, Reg::R5);
        self.asm.bind(on_time);
        self.number(Reg::R3, interval(config.rate.unwrap_or(1.0)));
        self.asm.add(Reg::R1, Reg::R3);
        self.set_state(State::Due, Reg::R1);
    }

    fn look_now_and_then(&mut self) {
        let go = self.asm.label();
        self.state(Reg::R1, State::Frames);
        self.asm.and(Reg::R1, CLOCK_EVERY - 1);
        self.asm.jump_if(Condition::NotEqual, Reg::R1, 0, go);
        self.clock();
        self.set_state(State::Last, NOW);
        self.asm.bind(go);
    }

    /// The next kind's number into R1.
    fn next_slot(&mut self) {
        let maps = self.maps;
        let on = self.asm.label();
        self.state(Reg::R1, State::Slot);
        self.asm.store(Size::Word, Reg::R10, KEY, Reg::R1);
        self.asm.add(Reg::R1, 1);
        self.asm.jump_if(Condition::Less, Reg::R1, SLOTS as i32, on);
        self.asm.mov(Reg::R1, 0);
        self.asm.bind(on);
        self.set_state(State::Slot, Reg::R1);
        self.lookup(maps.slots.as_fd(), self.broken);
        self.asm.load(Size::Word, Reg::R1, Reg::R0, 0);
    }

    /// Goes to the label of the number in R1, which is among these from `first` on.
    fn dispatch(&mut self, first: usize, labels: &[Label]) {
        match labels {
            [] => {}
            [only] => self.asm.jump(*only),
            _ => {
                let (low, high) = labels.split_at(labels.len() / 2);
                let upper = self.asm.label();
                let middle = first + low.len();
                self.asm.jump_if(Condition::GreaterOrEqual, Reg::R1, middle as i32, upper);
                self.dispatch(first, low);
                self.asm.bind(upper);
                self.dispatch(middle, high);
            }
        }
    }

    /// One whole frame, counted.
    fn frame(&mut self, kind: &Kind, flows_per_client: u32) {
        let template = &kind.template;
        let cut = template.bytes.len() as i32 - self.longest as i32;
        if cut != 0 {
            self.asm.mov(Reg::R1, CONTEXT);
            self.asm.mov(Reg::R2, cut);
            self.asm.call(Helper::AdjustTail);
            self.asm.jump_if(Condition::NotEqual, Reg::R0, 0, self.broken);
        }
        self.asm.load(Size::Word, FRAME, CONTEXT, 0);
        self.asm.load(Size::Word, Reg::R1, CONTEXT, 4);
        self.asm.mov(Reg::R2, FRAME);
        self.asm.add(Reg::R2, template.written() as i32);
        self.asm.jump_if(Condition::Greater, Reg::R2, Reg::R1, self.broken);
        self.constants(template);
        if template.stamp.is_some() {
            // Now, for calls take R1 to R5; it stays in R0.
            self.asm.call(Helper::KtimeGetNs);
        }
        self.next_flow(kind);
        let sum = Reg::R2;
        self.asm.mov(Reg::R1, FLOW);
        self.asm.shift_right(Reg::R1, flows_per_client.trailing_zeros() as i32);
        self.varying_address(kind.first.0, template.client);
        self.asm.mov(sum, Reg::R1);
        if let Some(at) = template.server {
            self.asm.mov(Reg::R1, FLOW);
            self.asm.modulo(Reg::R1, kind.servers.cast_signed());
            self.varying_address(kind.first.1, at);
            self.asm.add(sum, Reg::R1);
        }
        if let Some((at, constant)) = template.header_checksum {
            self.asm.mov(Reg::R3, sum);
            self.checksum(Reg::R3, constant, at, false);
        }
        self.asm.mov(Reg::R1, FLOW);
        self.asm.and(Reg::R1, flows_per_client as i32 - 1);
        self.asm.add(Reg::R1, i32::from(FIRST_PORT));
        self.asm.big_endian_16(Reg::R1);
        self.asm.store(Size::Half, FRAME, template.port as i16, Reg::R1);
        self.asm.add(sum, Reg::R1);
        if let Some(at) = template.stamp {
            self.stamp(sum, at as i16);
        }
        self.checksum(sum, template.checksum.1, template.checksum.0, template.udp);
        self.count(State::Frames, 1);
        self.count(State::Bytes, (template.bytes.len() + FCS) as i32);
        if template.begins {
            self.count(State::Begun, 1);
        }
        self.asm.jump(self.send);
    }

    /// What is the same each time. All of it: pages come back with what their receiver left in them.
    fn constants(&mut self, template: &Template) {
        let written = template.bytes.get(..template.written()).unwrap_or_default();
        let (words, rest) = written.as_chunks::<4>();
        for (word, at) in words.iter().zip((0..).step_by(4)) {
            self.asm.store(Size::Word, FRAME, at, i32::from_ne_bytes(*word));
        }
        for (byte, at) in rest.iter().zip(words.len() as i16 * 4..) {
            self.asm.store(Size::Byte, FRAME, at, i32::from(*byte));
        }
    }

    /// Whose turn it is into `FLOW`, and who is next.
    fn next_flow(&mut self, kind: &Kind) {
        let at = State::Flows as i16 + kind.flows as i16 * 8;
        let on = self.asm.label();
        self.asm.load(Size::Double, FLOW, STATE_AT, at);
        self.asm.mov(Reg::R1, FLOW);
        self.asm.add(Reg::R1, 1);
        self.number(Reg::R2, kind.range.end.into());
        self.asm.jump_if(Condition::Less, Reg::R1, Reg::R2, on);
        self.number(Reg::R1, kind.range.start.into());
        self.asm.bind(on);
        self.asm.store(Size::Double, STATE_AT, at, Reg::R1);
    }

    /// Writes an address's last 32 bits, so many after the first; they are left in R1 as they lie in memory.
    fn varying_address(&mut self, first: u32, at: usize) {
        self.asm.add(Reg::R1, first.cast_signed());
        self.asm.big_endian_32(Reg::R1);
        self.asm.store(Size::Word, FRAME, at as i16, Reg::R1);
    }

    /// The stamp's number and time, the latter from R0, behind its magic.
    fn stamp(&mut self, sum: Reg, at: i16) {
        self.state(Reg::R1, State::Stamps);
        self.asm.mov(Reg::R3, Reg::R1);
        self.asm.add(Reg::R3, 1);
        self.set_state(State::Stamps, Reg::R3);
        self.asm.big_endian_32(Reg::R1);
        self.asm.store(Size::Word, FRAME, at + 4, Reg::R1);
        self.asm.add(sum, Reg::R1);
        self.asm.store(Size::Double, FRAME, at + 8, Reg::R0);
        self.asm.mov(Reg::R1, Reg::R0);
        self.asm.shift_right(Reg::R1, 32);
        self.asm.add(sum, Reg::R1);
        self.asm.shift_left(Reg::R0, 32);
        self.asm.shift_right(Reg::R0, 32);
        self.asm.add(sum, Reg::R0);
    }

    /// Adds what is the same each time, folds, writes. Uses R1.
    fn checksum(&mut self, sum: Reg, constant: u64, at: usize, udp: bool) {
        // 1,500 bytes make less than 2^26.
        self.asm.add(sum, constant as i32);
        complement(&mut self.asm, sum);
        if udp {
            let done = self.asm.label();
            self.asm.jump_if(Condition::NotEqual, Reg::R1, 0, done);
            self.asm.mov(Reg::R1, 0xffff);
            self.asm.bind(done);
        }
        self.asm.store(Size::Half, FRAME, at as i16, Reg::R1);
    }

    fn end(&mut self, interface: u32) {
        self.asm.bind(self.broken);
        self.count(State::Broken, 1);
        self.asm.bind(self.idle);
        self.asm.mov(Reg::R0, Action::Drop.number());
        self.asm.exit();
        self.asm.bind(self.send);
        self.asm.mov(Reg::R1, interface.cast_signed());
        self.asm.mov(Reg::R2, 0);
        self.asm.call(Helper::Redirect);
        self.asm.exit();
    }
}

/// The one's complement of a sum of words of 16 or 32 bits, as a checksum has it, in R1 (RFC 1071, section 4.1).
pub(crate) fn complement(asm: &mut Assembler<'_>, sum: Reg) {
    asm.mov(Reg::R1, sum);
    asm.shift_right(Reg::R1, 32);
    asm.shift_left(sum, 32);
    asm.shift_right(sum, 32);
    asm.add(sum, Reg::R1);
    for _ in 0..3 {
        asm.mov(Reg::R1, sum);
        asm.shift_right(Reg::R1, 16);
        asm.and(sum, 0xffff);
        asm.add(sum, Reg::R1);
    }
    asm.mov(Reg::R1, 0xffff);
    asm.sub(Reg::R1, sum);
}

/// Time between frames, with [`FRACTION`].
pub(crate) fn interval(rate: f64) -> u64 {
    (1e9 * f64::from(1 << FRACTION) / rate).round() as u64
}

/// A time of the state's, in nanoseconds.
pub(crate) fn nanoseconds(time: u64) -> u64 {
    time >> FRACTION
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Rounding an interval to a 1,024th of a nanosecond costs less than the tester's own clock is wrong by.
        #[test]
        fn intervals_are_exact_enough(rate in 1.0f64..2e7) {
            let back = 1e9 * f64::from(1 << FRACTION) / interval(rate) as f64;
            prop_assert!((back / rate - 1.0).abs() < 2e-5, "{rate} became {back}");
        }
    }
}
