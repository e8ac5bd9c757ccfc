//! A generator of frames inside the kernel: an XDP program that is run over and over on "live" frames
//! (`BPF_F_TEST_XDP_LIVE_FRAMES`), writes each whole, and redirects it into a veth.
//!
//! Several million frames a second on one core, which sending through a socket does not reach by far. It takes a core for
//! itself, and the kernel's receive side of the wire that it sends into runs there too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use af_xdp::interface;
use af_xdp::xdp::asm::{Assembler, Condition, Helper, Reg, Size};
use af_xdp::xdp::{Action, Array, Program, TestRun};
use levee_tests::Namespace;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Frames per system call: at 16,384 its set-up costs more than its work, and at 2^20 a stop takes a fifth of a second.
const REPEAT: u32 = 1 << 18;
/// Where the TCP header is in a frame without tags and options.
const TCP: i16 = 34;

/// A frame to be sent for many flows. The flow's number goes into the TCP source port, and is taken off the window, so
/// that the checksum is right for all of them.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As for the first flow.
    pub frame: Vec<u8>,
    /// A power of two.
    pub flows: u32,
}

/// A program that sends one pattern.
pub struct Generator {
    program: Program,
    /// Where it counts; it must live as long.
    _counter: Array<8>,
    length: usize,
}

impl Generator {
    /// Sends out of this interface of the namespace that the calling thread is in.
    ///
    /// # Errors
    /// What the kernel says.
    fn new(out: &str, pattern: &Pattern) -> Result<Self, af_xdp::Error> {
        let counter = Array::<8>::new("generator", 1)?;
        let mut asm = Assembler::new();
        let (context, data, end, count) = (Reg::R6, Reg::R7, Reg::R8, Reg::R9);
        let failed = asm.label();
        asm.mov(context, Reg::R1);
        // count = counter[0]++
        asm.store(Size::Word, Reg::R10, -4, 0);
        asm.load_map(Reg::R1, std::os::fd::AsFd::as_fd(&counter));
        asm.mov(Reg::R2, Reg::R10);
        asm.add(Reg::R2, -4);
        asm.call(Helper::MapLookup);
        asm.jump_if(Condition::Equal, Reg::R0, 0, failed);
        asm.load(Size::Double, count, Reg::R0, 0);
        asm.mov(Reg::R1, count);
        asm.add(Reg::R1, 1);
        asm.store(Size::Double, Reg::R0, 0, Reg::R1);
        // The frame, word by word: pages come back with what their receiver left in them.
        asm.load(Size::Word, data, context, 0);
        asm.load(Size::Word, end, context, 4);
        asm.mov(Reg::R1, data);
        asm.add(Reg::R1, pattern.frame.len() as i32);
        asm.jump_if(Condition::Greater, Reg::R1, end, failed);
        let (words, rest) = pattern.frame.as_chunks::<4>();
        for (word, at) in words.iter().zip((0..).step_by(4)) {
            asm.store(Size::Word, data, at, i32::from_ne_bytes(*word));
        }
        for (byte, at) in rest.iter().zip(words.len() as i16 * 4..) {
            asm.store(Size::Byte, data, at, i32::from(*byte));
        }
        // The flow's own: source port up, window down.
        asm.and(count, pattern.flows as i32 - 1);
        for (at, up) in [(TCP, true), (TCP + 14, false)] {
            asm.load(Size::Half, Reg::R1, data, at);
            asm.big_endian_16(Reg::R1);
            if up {
                asm.add(Reg::R1, count);
            } else {
                asm.sub(Reg::R1, count);
            }
            asm.big_endian_16(Reg::R1);
            asm.store(Size::Half, data, at, Reg::R1);
        }
        asm.mov(Reg::R1, interface::index(out)?.cast_signed());
        asm.mov(Reg::R2, 0);
        asm.call(Helper::Redirect);
        asm.exit();
        asm.bind(failed);
        asm.mov(Reg::R0, Action::Drop.number());
        asm.exit();
        let program = Program::load("generator", &asm.finish()?, false)?;
        Ok(Generator { program, _counter: counter, length: pattern.frame.len() })
    }

    fn send(&self, frames: u32) -> Result<(), af_xdp::Error> {
        let how = TestRun { repeat: frames, live_frames: true, ..TestRun::default() };
        self.program.test_run(&vec![0; self.length], how).map(|_| ())
    }
}

/// A generator that runs on a core of its own until it is stopped.
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// Sends `first` a few times, so that every flow has begun, and then `then` without end.
    ///
    /// # Panics
    /// On its own thread, which [`Stream::stop`] passes on: if the kernel refuses the program.
    #[must_use]
    pub fn start(namespace: &Namespace, out: &str, core: usize, first: Option<Pattern>, then: Pattern) -> Stream {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (namespace, out) = (namespace.clone(), out.to_owned());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let work = move || {
            namespace.enter(|| {
                pin(core);
                if let Some(first) = first {
                    let generator = Generator::new(&out, &first).unwrap_or_else(|error| panic!("{error}"));
                    // In small doses: none of these may be lost in a full ring.
                    for _ in 0..(4 * first.flows).div_ceil(64) {
                        generator.send(64).unwrap_or_else(|error| panic!("{error}"));
                        std::thread::sleep(std::time::Duration::from_micros(300));
                    }
                }
                let generator = Generator::new(&out, &then).unwrap_or_else(|error| panic!("{error}"));
                while !stopped.load(Ordering::Relaxed) {
                    generator.send(REPEAT).unwrap_or_else(|error| panic!("{error}"));
                    counted.fetch_add(u64::from(REPEAT), Ordering::Relaxed);
                }
            });
        };
        Stream { stop, sent, thread: Some(std::thread::spawn(work)) }
    }

    /// Frames so far, but for those of the system call that is running.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it.
    ///
    /// # Panics
    /// If it could not run.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Binds the calling thread to a core.
///
/// # Panics
/// If there is no such core.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).unwrap_or_else(|error| {
        panic!("cannot run on core {core}: {error}");
    });
}
