//! `levee addresses`: pools of load-balancer addresses, and which Service has which.
//!
//! The control process answers from the cluster that it watches; offline, files are the cluster, and the same code finds who gets what.

use std::io::Write as _;
use std::path::PathBuf;

use levee_control::allocate::{AddressEntry, Addresses, PoolEntry};
use levee_control::offline;

use crate::arguments::{Format, Watch};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Column, Row, column, list, or_dash, value};
use crate::repeat::repeat;

pub(super) fn show(
    control: impl FnOnce() -> Result<Client, Failure>,
    format: Format,
    cluster: &[PathBuf],
    class_required: bool,
    watch: Watch,
) -> Result<(), Failure> {
    let control = if cluster.is_empty() { Some(control()?) } else { None };
    repeat(watch.watch, |out| {
        let addresses: Addresses = match &control {
            Some(control) => control.get("/v1/addresses")?,
            None => {
                let cluster = offline::load(cluster).map_err(Failure::Input)?;
                Addresses::of(cluster.balanced(), class_required)
            }
        };
        if !format.is_for_people() {
            return value(out, format, &addresses);
        }
        list(out, format, &addresses.pools)?;
        writeln!(out)?;
        list(out, format, &addresses.services)
    })
}

impl Row for PoolEntry {
    const COLUMNS: &'static [Column<Self>] = &[
        column("POOL", |entry| entry.pool.clone()),
        column("FAMILY", |entry| or_dash(entry.family.as_ref())),
        column("TOTAL", |entry| entry.total.to_string()),
        column("ASSIGNED", |entry| entry.assigned.to_string()),
        column("FREE", |entry| entry.free.to_string()),
        column("AUTO-ASSIGN", |entry| if entry.auto_assign { "yes" } else { "no" }.to_owned()),
        column("REFUSED", |entry| or_dash(entry.refused.as_ref())),
    ];
}

impl Row for AddressEntry {
    const COLUMNS: &'static [Column<Self>] = &[
        column("SERVICE", |entry| entry.service.clone()),
        column("ADDRESS", |entry| or_dash(entry.address.as_ref())),
        column("POOL", |entry| or_dash(entry.pool.as_ref())),
        column("IN STATUS", |entry| if entry.in_status { "yes" } else { "no" }.to_owned()),
        column("PROBLEM", |entry| or_dash(entry.problem.as_ref())),
    ];
}
