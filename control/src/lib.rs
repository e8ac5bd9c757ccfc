//! levee-control
