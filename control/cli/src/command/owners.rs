//! `levee vip owners`: the election of who announces which address, as one balancer sees it.

use std::io::Write;

use levee_control::daemon::Status;
use levee_control::election::{AddressStatus, ElectionStatus, MemberStatus};

use crate::arguments::{Format, Watch};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Column, Row, column, list, or_dash, value};
use crate::repeat::repeat;

pub(super) fn show(control: &Client, format: Format, watch: Watch) -> Result<(), Failure> {
    repeat(watch.watch, |out| {
        let status: Status = control.get("/v1/status")?;
        if !format.is_for_people() {
            return value(out, format, &status.election);
        }
        let Some(election) = status.election else {
            writeln!(
                out,
                "nothing is elected here: this is no balancer of a cluster, or `announce` says `elect: false`"
            )?;
            return Ok(());
        };
        writeln!(out, "{}", line(&election))?;
        writeln!(out)?;
        list(out, format, &election.members)?;
        writeln!(out)?;
        list(out, format, &election.addresses)
    })
}

/// The election in a line: for `levee status`, too.
pub(super) fn line(election: &ElectionStatus) -> String {
    let ours = election.addresses.iter().filter(|address| address.ours).count();
    let of = election.addresses.len();
    let term = match election.term_left_ms {
        Some(left) if election.outlasting => {
            format!("for {left} ms more, by the promises of the others: the API server is gone")
        }
        Some(left) => format!("for {left} ms more if nothing is confirmed any more"),
        None => "NO TERM: the API server confirms nothing, or another process has this balancer's Lease".to_owned(),
    };
    let fit = election.not_ready.as_ref().map(|why| format!("; takes nothing: {why}")).unwrap_or_default();
    format!("announces {ours} of {of} addresses, {term}{fit}")
}

impl Row for MemberStatus {
    const COLUMNS: &'static [Column<Self>] = &[
        column("BALANCER", |member| member.node.clone()),
        column("ALIVE", |member| if member.alive { "yes" } else { "NO" }.to_owned()),
        column("TAKES NONE BECAUSE", |member| or_dash(member.not_ready.as_ref())),
    ];
}

impl Row for AddressStatus {
    const COLUMNS: &'static [Column<Self>] = &[
        column("ADDRESS", |address| address.address.to_string()),
        column("OWNER", |address| or_dash(address.owner.as_ref())),
        column("HERE", |address| if address.ours { "yes" } else { "no" }.to_owned()),
        column("WHY", |address| address.why.clone()),
    ];
}
