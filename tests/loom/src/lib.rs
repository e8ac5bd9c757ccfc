//! levee-loom: how far models are explored, and no model itself. `build.rs` takes what workers share with other threads as it stands, puts loom's types in
//! the place of the standard library's, and makes one more copy for each mistake that the model must find; the tests run them
//! all. So no other crate is built a second time with a flag for loom, and the models run with every other test.
//!
//! | test | source |
//! |---|---|
//! | `tests/publication.rs` | `dataplane/src/mem/publication.rs` |
//! | `tests/sleep.rs` | `dataplane/src/worker/waker.rs`, `idle.rs` |
//!
//! The queues between threads are crossbeam's, and the rings between workers rtrb's; both are tried as such there.

use std::panic::{UnwindSafe, catch_unwind};

/// Every interleaving with up to three pre-emptions: more than that finds nothing new in two readers (Musuvathi and
/// Qadeer, PLDI 2007), and takes hours.
///
/// # Panics
/// If the story does not hold in one of them.
pub fn explore(story: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(story);
}

/// Explores a story with a mistake in it, which must be found, and by what it `says`.
///
/// # Panics
/// If it is not found, or something else is.
pub fn must_find(says: &str, story: impl Fn() + Sync + Send + UnwindSafe + 'static) {
    let found = catch_unwind(|| explore(story));
    let found = found.expect_err("the mistake was not found: the model has become blind");
    let said = found.downcast_ref::<&str>().copied().or(found.downcast_ref::<String>().map(String::as_str));
    assert!(said.is_some_and(|said| said.contains(says)), "{said:?}");
}
