//! Where objects come from.
//!
//! ```text
//!  file, directory ──read──► Reading ────┐
//!                                        ├─ Event ─► Store ──► model::validate
//!  a cluster's API server ──kind by kind─┘
//! ```
//!
//! A [`Source`] runs by itself and says what it sees as [`Event`]s; the [`Store`] turns those of all sources into "what there
//! is now". A source never sees the dataplane, and nothing here judges an object beyond its form.

pub mod cluster;
pub mod files;
mod follow;
mod keys;
mod list;
mod read;
mod schema;
mod source;
mod store;

pub use cluster::ClusterSource;
pub use follow::FileSource;
pub(crate) use follow::follow;
pub use read::{Reading, read};
pub use source::{Closed, Outlet, Source};
pub use store::{Event, SourceId, Store};
