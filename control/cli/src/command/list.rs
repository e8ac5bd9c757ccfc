//! `levee vip list`, `backend list`, `tunnel list`, `neigh list`, `port list`: what the dataplane has, as tables.

use levee_api::report::{BackendEntry, Drain, Neighbour, Port, Rings, TunnelEntry, VipEntry};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::{Format, Watch};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Column, Row, column, duration, list, or_dash, wide};
use crate::repeat::repeat;

pub(super) fn vips(client: &Client, format: Format, watch: Watch) -> Result<(), Failure> {
    show::<VipEntry>(client, format, watch, "/v1/vips", |_| true)
}

pub(super) fn backends(client: &Client, format: Format, service: Option<String>, watch: Watch) -> Result<(), Failure> {
    show::<BackendEntry>(client, format, watch, "/v1/backends", |backend| {
        service.as_ref().is_none_or(|service| backend.service.name == *service)
    })
}

pub(super) fn drains(client: &Client, format: Format, watch: Watch) -> Result<(), Failure> {
    show::<Drain>(client, format, watch, "/v1/drains", |_| true)
}

pub(super) fn tunnels(client: &Client, format: Format, watch: Watch) -> Result<(), Failure> {
    show::<TunnelEntry>(client, format, watch, "/v1/tunnels", |_| true)
}

pub(super) fn neighbours(client: &Client, format: Format, watch: Watch) -> Result<(), Failure> {
    show::<Neighbour>(client, format, watch, "/v1/neighbours", |_| true)
}

/// Programs get ports as the dataplane has them; people a row a queue.
pub(super) fn ports(client: &Client, format: Format, watch: Watch) -> Result<(), Failure> {
    repeat(watch.watch, |out| {
        let ports: Vec<Port> = client.get("/v1/ports")?;
        if !format.is_for_people() {
            return crate::output::value(out, format, &ports);
        }
        let rows: Vec<PortQueue> = ports.iter().flat_map(PortQueue::of).collect();
        list(out, format, &rows)
    })
}

fn show<T: Row + DeserializeOwned>(
    client: &Client,
    format: Format,
    watch: Watch,
    path: &str,
    wanted: impl Fn(&T) -> bool,
) -> Result<(), Failure> {
    repeat(watch.watch, |out| {
        let mut rows: Vec<T> = client.get(path)?;
        rows.retain(&wanted);
        list(out, format, &rows)
    })
}

impl Row for VipEntry {
    const COLUMNS: &'static [Column<Self>] = &[
        column("ADDRESS", |vip| vip.address.to_string()),
        column("PORT", VipEntry::ports),
        column("PROTOCOL", |vip| vip.protocol.to_string()),
        column("FROM", |vip| word(&vip.from)),
        column("SERVICE", |vip| vip.service.clone()),
        column("MODE", |vip| vip.mode.to_string()),
        column("ANNOUNCED", |vip| yes_or_no(vip.announced)),
        column("CANDIDATES", |vip| vip.candidates.to_string()),
        wide("DRAINING", |vip| vip.draining.to_string()),
    ];
}

impl Row for BackendEntry {
    const COLUMNS: &'static [Column<Self>] = &[
        column("SERVICE", |backend| backend.service.name.clone()),
        column("PROTOCOL", |backend| backend.service.protocol.to_string()),
        column("BACKEND", |backend| backend.address.to_string()),
        column("STATE", |backend| backend.state.clone()),
        column("POOLS", |backend| backend.pools.iter().map(word).collect::<Vec<_>>().join(",")),
        wide("FAMILY", |backend| backend.service.family.to_string()),
        wide("NEXT HOP", |backend| or_dash(backend.next_hop.as_ref())),
    ];
}

impl Row for Drain {
    const COLUMNS: &'static [Column<Self>] = &[
        column("SERVICE", |drain| drain.service.name.clone()),
        column("PROTOCOL", |drain| drain.service.protocol.to_string()),
        column("BACKEND", |drain| drain.address.to_string()),
        column("FLOWS", |drain| drain.flows.to_string()),
        column("DRAINS FOR", |drain| duration(drain.draining_seconds)),
        column("LEFT", |drain| or_dash(drain.left_seconds.map(duration).as_ref())),
        wide("FAMILY", |drain| drain.service.family.to_string()),
    ];
}

impl Row for TunnelEntry {
    const COLUMNS: &'static [Column<Self>] = &[
        column("FAR END", |tunnel| tunnel.far_end.to_string()),
        column("KIND", |tunnel| tunnel.kind.to_string()),
        column("PORT", |tunnel| or_dash(tunnel.port.as_ref())),
        column("INTERFACE", |tunnel| or_dash(tunnel.interface.as_ref())),
        column("BACKENDS", |tunnel| tunnel.backends.to_string()),
        column("MTU", |tunnel| or_dash(tunnel.mtu.as_ref())),
        column("LEARNT", |tunnel| or_dash(tunnel.learnt.map(|learnt| learnt.mtu).as_ref())),
        column("FOR", |tunnel| or_dash(tunnel.learnt.map(|learnt| duration(learnt.left_seconds)).as_ref())),
        wide("SOURCE", |tunnel| or_dash(tunnel.source.as_ref())),
        wide("OVERHEAD", |tunnel| tunnel.overhead.to_string()),
    ];
}

impl Row for Neighbour {
    const COLUMNS: &'static [Column<Self>] = &[
        column("ADDRESS", |neighbour| neighbour.address.to_string()),
        column("MAC", |neighbour| or_dash(neighbour.mac.as_ref())),
        column("PORT", |neighbour| neighbour.port.clone()),
        column("STATE", |neighbour| neighbour.state.clone()),
    ];
}

/// A queue of a port, or a port that has none.
#[derive(Serialize)]
struct PortQueue {
    port: Port,
    queue: Option<levee_api::report::Queue>,
}

impl PortQueue {
    fn of(port: &Port) -> Vec<Self> {
        let row = |queue| PortQueue { port: Port { queues: Vec::new(), ..port.clone() }, queue };
        if port.queues.is_empty() {
            return vec![row(None)];
        }
        port.queues.iter().map(|queue| row(Some(queue.clone()))).collect()
    }

    fn of_rings(&self, ring: impl Fn(&Rings) -> u32) -> String {
        or_dash(self.port.rings.as_ref().map(ring).as_ref())
    }

    fn of_queue<T: ToString>(&self, value: impl Fn(&levee_api::report::Queue) -> T) -> String {
        or_dash(self.queue.as_ref().map(value).as_ref())
    }
}

impl Row for PortQueue {
    const COLUMNS: &'static [Column<Self>] = &[
        column("INTERFACE", |row| row.port.interface.clone()),
        column("ROLE", |row| row.port.role.to_string()),
        column("MAC", |row| row.port.mac.to_string()),
        column("LINK", |row| if row.port.up { "up" } else { "down" }.to_owned()),
        column("TAKE", |row| row.port.take.clone()),
        column("MODE", |row| row.port.mode.clone()),
        column("ATTACHED", |row| row.port.attached.clone()),
        column("QUEUE", |row| row.of_queue(|queue| queue.queue)),
        column("WORKER", |row| row.of_queue(|queue| queue.worker)),
        column("RX", |row| row.of_queue(|queue| queue.rx_frames)),
        column("TX", |row| row.of_queue(|queue| queue.tx_frames)),
        column("MISSED", |row| {
            row.of_queue(|queue| {
                queue.rx_dropped.saturating_add(queue.rx_ring_full).saturating_add(queue.fill_ring_empty)
            })
        }),
        column("RX RING", |row| row.of_rings(|rings| rings.receive)),
        column("TX RING", |row| row.of_rings(|rings| rings.transmit)),
        wide("FILL RING", |row| row.of_rings(|rings| rings.fill)),
        wide("COMPLETION RING", |row| row.of_rings(|rings| rings.completion)),
        wide("IFINDEX", |row| row.port.ifindex.to_string()),
        wide("RX DROPPED", |row| row.of_queue(|queue| queue.rx_dropped)),
        wide("RX RING FULL", |row| row.of_queue(|queue| queue.rx_ring_full)),
        wide("FILL RING EMPTY", |row| row.of_queue(|queue| queue.fill_ring_empty)),
        wide("INVALID", |row| row.of_queue(|queue| queue.invalid_descriptors)),
    ];
}

/// The word that a value is written as for programs: people should see the same.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => "?".to_owned(),
    }
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}
