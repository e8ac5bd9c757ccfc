//! levee-dataplane
