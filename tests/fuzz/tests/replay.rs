//! Stories that are played in every test run: those that once failed, those that together reach far, and new ones.
//!
//! Another set of new ones: `LEVEE_FUZZ_SEED=7 cargo nextest run -p levee-fuzz`; more of them: `LEVEE_FUZZ_STORIES=100000`.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

use levee_fuzz::script::Edition;

/// Lost frames are counted for the whole process, and a stage that is taken down loses its own: one story at a time, also
/// where tests are threads.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A small generator (xorshift64*, Vigna 2016): stories must be the same everywhere, and need nothing better.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 56) as u8).collect()
    }
}

fn number(variable: &str, default: u64) -> u64 {
    match env::var(variable) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{variable}: expected a number, got {value:?}")),
        Err(_) => default,
    }
}

fn stories(directory: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(directory);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut stories: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), fs::read(&path).unwrap())
        })
        .filter(|(name, _)| name.ends_with(".bin"))
        .collect();
    stories.sort();
    stories
}

fn ends_well(bytes: &[u8]) -> bool {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    std::panic::catch_unwind(|| levee_fuzz::run(bytes)).is_ok()
}

#[track_caller]
fn play(name: &str, bytes: &[u8]) {
    let outcome = ends_well(bytes);
    assert!(outcome, "{name}: `cargo run -p levee-fuzz --example story FILE` tells it step by step");
}

#[test]
fn what_once_failed_does_not_again() {
    let stories = stories("crashers");
    assert!(!stories.is_empty(), "the crashers are gone");
    for (name, bytes) in stories {
        play(&name, &bytes);
    }
}

#[test]
fn what_reaches_far_ends_well() {
    let stories = stories("corpus");
    assert!(stories.len() > 20, "the corpus is gone");
    let mut random = Random(number("LEVEE_FUZZ_SEED", 1).max(1));
    for (name, bytes) in &stories {
        play(name, bytes);
        // And each with a few bytes changed.
        for change in 0..4 {
            let mut changed = bytes.clone();
            for _ in 0..=change {
                let at = random.next() as usize % changed.len().max(1);
                if let Some(byte) = changed.get_mut(at) {
                    *byte = (random.next() >> 56) as u8;
                }
            }
            play(&format!("{name}, changed"), &changed);
        }
    }
}

#[test]
fn stories_drawn_at_random_end_well() {
    let mut random = Random(number("LEVEE_FUZZ_SEED", 1).max(1));
    for story in 0..number("LEVEE_FUZZ_STORIES", 300) {
        let length = 64 + random.next() as usize % 4000;
        let mut bytes = random.bytes(length);
        let mark = [&[], Edition::MARK, Edition::THIRD, Edition::FOURTH, Edition::FIFTH][story as usize % 5];
        bytes.splice(..0, mark.iter().copied());
        if !ends_well(&bytes) {
            let file = env::temp_dir().join(format!("levee-story-{story}.bin"));
            fs::write(&file, &bytes).unwrap();
            panic!("story {story}: `cargo run -p levee-fuzz --example story {}`", file.display());
        }
    }
}
