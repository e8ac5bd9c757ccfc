//! levee-benches
