//! What libFuzzer calls. See `scripts/fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| levee_fuzz::run(bytes));
