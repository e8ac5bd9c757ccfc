//! An assembler for eBPF, as much of it as XDP programs need.
//!
//! ```
//! use af_xdp::xdp::asm::{Assembler, Condition, Reg, Size};
//!
//! // Drop frames shorter than 60 bytes, pass the others: ctx is in R1, `struct xdp_md { __u32 data; __u32 data_end; ... }`.
//! let mut asm = Assembler::new();
//! let pass = asm.label();
//! asm.load(Size::Word, Reg::R2, Reg::R1, 0);
//! asm.load(Size::Word, Reg::R3, Reg::R1, 4);
//! asm.add(Reg::R2, 60);
//! asm.mov(Reg::R0, 2); // XDP_PASS
//! asm.jump_if(Condition::LessOrEqual, Reg::R2, Reg::R3, pass);
//! asm.mov(Reg::R0, 1); // XDP_DROP
//! asm.bind(pass);
//! asm.exit();
//! assert_eq!(asm.finish()?.len(), 7);
//! # Ok::<(), af_xdp::Error>(())
//! ```
//!
//! It is safe whatever is assembled: the kernel's verifier is the judge. A mistake in the assembling itself (a label
//! that was never bound, a jump too far) is an error of [`Assembler::finish`].
//!
//! Source: RFC 9669, "BPF Instruction Set Architecture".

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::error::Error;

/// A register. R0 holds results, R1 to R5 arguments (lost in a call), R6 to R9 survive calls, R10 is the frame pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names are all there is to say")]
#[repr(u8)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// Width of a load or store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// 4 bytes.
    Word = 0x00,
    /// 2 bytes.
    Half = 0x08,
    /// 1 byte.
    Byte = 0x10,
    /// 8 bytes.
    Double = 0x18,
}

/// Comparison of a jump. All are unsigned, on 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    /// `==`
    Equal = 0x10,
    /// `>`
    Greater = 0x20,
    /// `>=`
    GreaterOrEqual = 0x30,
    /// `&`, not zero
    Set = 0x40,
    /// `!=`
    NotEqual = 0x50,
    /// `<`
    Less = 0xa0,
    /// `<=`
    LessOrEqual = 0xb0,
}

/// A register, or a number (sign-extended to 64 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// What is in a register.
    Reg(Reg),
    /// This number.
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Operand::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(number: i32) -> Self {
        Operand::Imm(number)
    }
}

/// A function of the kernel: `enum bpf_func_id`, include/uapi/linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Helper {
    /// `void *map_lookup_elem(map, key)`: the value's address in R0, or 0.
    MapLookup = 1,
    /// `long map_update_elem(map, key, value, flags)`.
    MapUpdate = 2,
    /// `long redirect(ifindex, flags)`: the action in R0.
    Redirect = 23,
    /// `long redirect_map(map, key, flags)`: the action in R0; with an empty slot the low bits of `flags`.
    RedirectMap = 51,
    /// `long xdp_adjust_head(ctx, delta)`.
    AdjustHead = 44,
    /// `u64 ktime_get_ns(void)`: `CLOCK_MONOTONIC` in nanoseconds.
    KtimeGetNs = 5,
    /// `long xdp_adjust_tail(ctx, delta)`: less than 0 cuts. 0 in R0, or why not; `data` and `data_end` are to be read anew.
    AdjustTail = 65,
}

/// A place to jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// An instruction as the kernel takes it: `struct bpf_insn`.
pub type Instruction = [u8; 8];

/// Instructions that are finished. They name maps by descriptor: those must stay open until the program is loaded,
/// which `'m` sees to.
#[derive(Debug, Clone)]
pub struct Code<'m> {
    pub(super) instructions: Vec<Instruction>,
    maps: PhantomData<BorrowedFd<'m>>,
}

impl Code<'_> {
    /// Number of instructions, those of 16 bytes counting twice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }
}

/// Collects instructions. See the [module](self).
#[derive(Debug, Default)]
pub struct Assembler<'m> {
    instructions: Vec<Instruction>,
    /// Where each label is bound.
    labels: Vec<Option<usize>>,
    /// Jumps whose distance is not known yet.
    jumps: Vec<(usize, Label)>,
    maps: PhantomData<BorrowedFd<'m>>,
}

// Classes and modes, RFC 9669 sections 3 to 5.
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_ALU: u8 = 0x04;
const CLASS_JMP: u8 = 0x05;
const CLASS_ALU64: u8 = 0x07;
const MODE_MEM: u8 = 0x60;
const MODE_ATOMIC: u8 = 0xc0;
const SOURCE_REG: u8 = 0x08;

impl<'m> Assembler<'m> {
    /// No instructions yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn emit(&mut self, opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) {
        let registers = if cfg!(target_endian = "little") { src << 4 | dst } else { dst << 4 | src };
        let [o0, o1] = offset.to_ne_bytes();
        let [i0, i1, i2, i3] = imm.to_ne_bytes();
        self.instructions.push([opcode, registers, o0, o1, i0, i1, i2, i3]);
    }

    fn alu(&mut self, operation: u8, dst: Reg, source: Operand) {
        match source {
            Operand::Reg(src) => self.emit(CLASS_ALU64 | operation | SOURCE_REG, dst as u8, src as u8, 0, 0),
            Operand::Imm(imm) => self.emit(CLASS_ALU64 | operation, dst as u8, 0, 0, imm),
        }
    }

    /// `dst = source`
    pub fn mov(&mut self, dst: Reg, source: impl Into<Operand>) {
        self.alu(0xb0, dst, source.into());
    }

    /// `dst += source`
    pub fn add(&mut self, dst: Reg, source: impl Into<Operand>) {
        self.alu(0x00, dst, source.into());
    }

    /// `dst -= source`
    pub fn sub(&mut self, dst: Reg, source: impl Into<Operand>) {
        self.alu(0x10, dst, source.into());
    }

    /// `dst %= source`, unsigned; by 0, `dst` stays.
    pub fn modulo(&mut self, dst: Reg, source: impl Into<Operand>) {
        self.alu(0x90, dst, source.into());
    }

    /// `dst |= source`
    pub fn or(&mut self, dst: Reg, source: impl Into<Operand>) {
        self.alu(0x40, dst, source.into());
    }

    /// `dst &= source`
    pub fn and(&mut self, dst: Reg, source: impl Into<Operand>) {
        self.alu(0x50, dst, source.into());
    }

    /// `dst <<= source`
    pub fn shift_left(&mut self, dst: Reg, source: impl Into<Operand>) {
        self.alu(0x60, dst, source.into());
    }

    /// `dst >>= source`, zeros coming in
    pub fn shift_right(&mut self, dst: Reg, source: impl Into<Operand>) {
        self.alu(0x70, dst, source.into());
    }

    /// The 16 bits of `dst` from network order into the machine's, or back; the other bits become 0.
    pub fn big_endian_16(&mut self, dst: Reg) {
        self.emit(CLASS_ALU | 0xd0 | SOURCE_REG, dst as u8, 0, 0, 16);
    }

    /// The 32 bits of `dst` from network order into the machine's, or back; the other bits become 0.
    pub fn big_endian_32(&mut self, dst: Reg) {
        self.emit(CLASS_ALU | 0xd0 | SOURCE_REG, dst as u8, 0, 0, 32);
    }

    /// `dst = *(base + offset)`
    pub fn load(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) {
        self.emit(CLASS_LDX | MODE_MEM | size as u8, dst as u8, base as u8, offset, 0);
    }

    /// `*(base + offset) = source`
    pub fn store(&mut self, size: Size, base: Reg, offset: i16, source: impl Into<Operand>) {
        match source.into() {
            Operand::Reg(src) => self.emit(CLASS_STX | MODE_MEM | size as u8, base as u8, src as u8, offset, 0),
            Operand::Imm(imm) => self.emit(CLASS_ST | MODE_MEM | size as u8, base as u8, 0, offset, imm),
        }
    }

    /// `*(base + offset) += src`, atomically, on 8 bytes.
    pub fn atomic_add(&mut self, base: Reg, offset: i16, src: Reg) {
        self.emit(CLASS_STX | MODE_ATOMIC | Size::Double as u8, base as u8, src as u8, offset, 0);
    }

    /// `dst =` a map, as the first argument of a helper.
    pub fn load_map(&mut self, dst: Reg, map: BorrowedFd<'m>) {
        // A 64-bit immediate in two instructions, whose source register says that it is a map's descriptor
        // (BPF_PSEUDO_MAP_FD).
        self.emit(0x18, dst as u8, 1, 0, map.as_raw_fd());
        self.emit(0, 0, 0, 0, 0);
    }

    /// Calls a function of the kernel. R1 to R5 are its arguments and lost, R0 its result.
    pub fn call(&mut self, helper: Helper) {
        self.emit(CLASS_JMP | 0x80, 0, 0, 0, helper as i32);
    }

    /// Ends the program with what is in R0.
    pub fn exit(&mut self) {
        self.emit(CLASS_JMP | 0x90, 0, 0, 0, 0);
    }

    /// A label, to be bound later.
    #[must_use]
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Binds a label to the next instruction.
    pub fn bind(&mut self, label: Label) {
        let here = self.instructions.len();
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(here);
        }
    }

    /// Goes to a label.
    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.emit(CLASS_JMP, 0, 0, 0, 0);
    }

    /// Goes to a label if the comparison holds.
    pub fn jump_if(&mut self, condition: Condition, left: Reg, right: impl Into<Operand>, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        let opcode = CLASS_JMP | condition as u8;
        match right.into() {
            Operand::Reg(right) => self.emit(opcode | SOURCE_REG, left as u8, right as u8, 0, 0),
            Operand::Imm(right) => self.emit(opcode, left as u8, 0, 0, right),
        }
    }

    /// Puts the distances into the jumps.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a label is bound nowhere, or a jump goes further than 32,767 instructions.
    pub fn finish(mut self) -> Result<Code<'m>, Error> {
        for (at, label) in &self.jumps {
            let bound = self.labels.get(label.0).copied().flatten();
            let to = bound.ok_or_else(|| Error::invalid("label", format!("number {} is bound nowhere", label.0)))?;
            // Counted from the instruction behind the jump.
            let distance = to as i64 - *at as i64 - 1;
            let distance = i16::try_from(distance)
                .map_err(|_| Error::invalid("jump", format!("{distance} instructions are too far for 16 bits")))?;
            if let Some([_, _, low, high, ..]) = self.instructions.get_mut(*at) {
                [*low, *high] = distance.to_ne_bytes();
            }
        }
        Ok(Code { instructions: self.instructions, maps: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `llvm-objdump` and the kernel's own disassembler show for the same instructions.
    #[test]
    #[cfg(target_endian = "little")]
    fn known_encodings() {
        let mut asm = Assembler::new();
        asm.mov(Reg::R0, 2);
        asm.mov(Reg::R6, Reg::R1);
        asm.load(Size::Word, Reg::R2, Reg::R1, 4);
        asm.load(Size::Half, Reg::R3, Reg::R7, -2);
        asm.store(Size::Word, Reg::R10, -4, Reg::R2);
        asm.store(Size::Double, Reg::R10, -8, 1);
        asm.add(Reg::R2, -4);
        asm.modulo(Reg::R2, 7);
        asm.big_endian_16(Reg::R3);
        asm.atomic_add(Reg::R0, 0, Reg::R1);
        asm.call(Helper::RedirectMap);
        asm.exit();
        let expected: [Instruction; 12] = [
            [0xb7, 0x00, 0, 0, 2, 0, 0, 0],
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0x61, 0x12, 4, 0, 0, 0, 0, 0],
            [0x69, 0x73, 0xfe, 0xff, 0, 0, 0, 0],
            [0x63, 0x2a, 0xfc, 0xff, 0, 0, 0, 0],
            [0x7a, 0x0a, 0xf8, 0xff, 1, 0, 0, 0],
            [0x07, 0x02, 0, 0, 0xfc, 0xff, 0xff, 0xff],
            [0x97, 0x02, 0, 0, 7, 0, 0, 0],
            [0xdc, 0x03, 0, 0, 16, 0, 0, 0],
            [0xdb, 0x10, 0, 0, 0, 0, 0, 0],
            [0x85, 0x00, 0, 0, 51, 0, 0, 0],
            [0x95, 0x00, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(asm.finish().unwrap().instructions, expected);
    }

    #[test]
    fn jumps_both_ways() {
        let mut asm = Assembler::new();
        let (top, end) = (asm.label(), asm.label());
        asm.bind(top);
        asm.jump_if(Condition::Equal, Reg::R1, 0, end);
        asm.sub(Reg::R1, 1);
        asm.jump(top);
        asm.bind(end);
        asm.exit();
        let code = asm.finish().unwrap();
        let offsets: Vec<i16> = code.instructions.iter().map(|code| i16::from_ne_bytes([code[2], code[3]])).collect();
        assert_eq!(offsets, [2, 0, -3, 0]);
    }

    #[test]
    fn an_unbound_label_and_a_jump_too_far_are_errors() {
        let mut asm = Assembler::new();
        let nowhere = asm.label();
        asm.jump(nowhere);
        assert!(asm.finish().expect_err("assembled").to_string().contains("bound nowhere"));

        let mut asm = Assembler::new();
        let far = asm.label();
        asm.jump(far);
        for _ in 0..40_000 {
            asm.exit();
        }
        asm.bind(far);
        assert!(asm.finish().expect_err("assembled").to_string().contains("too far"));
    }
}
