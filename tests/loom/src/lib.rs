//! levee-loom: holds nothing itself. `build.rs` takes `dataplane/src/mem/publication.rs` as it stands, puts loom's types in
//! the place of the standard library's, and makes one more copy for each mistake that the model must find;
//! `tests/publication.rs` runs them all. So no other crate is built a second time with a flag for loom, and the model runs
//! with every other test.
