//! levee, the command line.
fn main() {}
