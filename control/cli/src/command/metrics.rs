//! `levee metrics`: what Prometheus would read, for people who have none, and for scripts.

use std::io::Write as _;

use levee_api::metrics::parse;

use crate::arguments::{Format, Watch};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::value;
use crate::repeat::repeat;

pub(super) fn show(client: &Client, format: Format, watch: Watch) -> Result<(), Failure> {
    repeat(watch.watch, |out| {
        let page = client.text("/metrics")?;
        // Also where it is only printed: what is cut off, or no page of metrics, must not look like one.
        let samples = parse(&page).map_err(|error| client.unexpected(&error))?;
        if format.is_for_people() {
            out.write_all(page.as_bytes())?;
            return Ok(());
        }
        value(out, format, &samples)
    })
}
