//! `levee counters` and `levee drops`: what became of all frames.

use std::io::Write as _;

use levee_api::report::{Counters, Drop};

use crate::arguments::{Format, Watch};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Column, Row, column, list, table, value};
use crate::repeat::repeat;

pub(super) fn counters(client: &Client, format: Format, watch: Watch) -> Result<(), Failure> {
    repeat(watch.watch, |out| {
        let counters: Counters = client.get("/v1/counters")?;
        if !format.is_for_people() {
            return value(out, format, &counters);
        }
        let row = |(name, frames): (&String, &u64)| vec![name.clone(), frames.to_string()];
        table(out, ["COUNTER", "FRAMES"], counters.totals.iter().map(row))?;
        let drops: Vec<_> = counters.drops.iter().filter(|(_, frames)| **frames > 0).map(row).collect();
        if !drops.is_empty() {
            writeln!(out)?;
            table(out, ["DROPPED AS", "FRAMES"], drops)?;
        }
        Ok(())
    })
}

pub(super) fn drops(client: &Client, format: Format, all: bool, watch: Watch) -> Result<(), Failure> {
    repeat(watch.watch, |out| {
        let mut drops: Vec<Drop> = client.get("/v1/drops")?;
        if format.is_for_people() && !all {
            let reasons = drops.len();
            drops.retain(|drop| drop.frames > 0);
            if drops.is_empty() {
                writeln!(out, "no frame was dropped ({reasons} reasons; --all lists them)")?;
                return Ok(());
            }
        }
        list(out, format, &drops)
    })
}

impl Row for Drop {
    const COLUMNS: &'static [Column<Self>] = &[
        column("REASON", |drop| drop.reason.clone()),
        column("FRAMES", |drop| drop.frames.to_string()),
        column("MEANING", |drop| drop.meaning.clone()),
    ];
}
