//! levee-loom: holds nothing itself. `build.rs` takes what workers share with other threads as it stands, puts loom's types in
//! the place of the standard library's, and makes one more copy for each mistake that the model must find; the tests run them
//! all. So no other crate is built a second time with a flag for loom, and the models run with every other test.
//!
//! | test | source |
//! |---|---|
//! | `tests/publication.rs` | `dataplane/src/mem/publication.rs` |
//! | `tests/sleep.rs` | `dataplane/src/worker/waker.rs`, `idle.rs` |
//!
//! The queues between threads are crossbeam's, and have models of their own there.
