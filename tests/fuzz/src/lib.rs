//! levee-fuzz: the whole packet's way over memory, driven by arbitrary bytes and judged after every step.
//!
//! ```text
//!   bytes ─► script (scene, then steps) ─► stage (the real workers over memory ports) ─► judge
//!              frames from named parts        turn, table changes, time                    panics, with the story
//!              answers to what was sent
//! ```
//!
//! [`run`] is a pure function of its bytes: what it finds once it finds always. Three ways lead to it:
//! - `scripts/fuzz SECONDS`: libFuzzer follows coverage into new behaviour (the `pipeline` binary);
//! - `tests/replay.rs`, in every test run: all of `tests/fixtures/crashers` and `tests/fixtures/corpus`, and bytes drawn
//!   from a fixed seed;
//! - `cargo run -p levee-fuzz --example story FILE`: tells what one input does, step by step.
//!
//! What holds after every step is written in [`judge`]. A crasher that was mended is kept under a name that says what it
//! was.

pub mod cast;
pub mod connection;
pub mod frames;
pub mod judge;
pub mod oracle;
pub mod script;
pub mod sctp;
pub mod stage;

use arbitrary::Unstructured;

use crate::script::{Edition, Scene};
use crate::stage::Stage;

/// Steps in one story. What a longer one could show, a shorter one shows too: every table here is tiny.
const STEPS: usize = 200;

/// Plays what the bytes say.
///
/// # Panics
/// When something is not as [`judge`] says it always is.
pub fn run(bytes: &[u8]) {
    play(bytes, |_| ());
}

/// The same, telling each step to somebody before it is taken.
///
/// # Panics
/// As [`run`].
pub fn play(bytes: &[u8], mut tell: impl FnMut(&str)) {
    let (edition, bytes) = Edition::of(bytes);
    let mut source = Unstructured::new(bytes);
    let Ok(scene) = Scene::draw(&mut source, edition) else { return };
    tell(&format!("{scene:?}"));
    let mut stage = Stage::new(&scene);
    for _ in 0..STEPS {
        if source.is_empty() {
            break;
        }
        let Ok(step) = script::Step::draw(&mut source, &stage, edition) else { break };
        tell(&format!("{step:?}"));
        stage.take(step);
    }
    stage.end();
}
