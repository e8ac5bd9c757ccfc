//! Ranges of ports and whole addresses: whether they can be served beside each other, and how they get into the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use levee_api::net::{PortRange, Protocol, Role};
use levee_api::program::{self, Delta};

use super::{Master, frontend_key};
use crate::tables::Tables;
use crate::tables::ranges::RangesKey;
use crate::tables::service::{Frontend, roles};

/// What has been claimed of one address, side and protocol: by first port, the last one and who has it. A whole address is the range
/// from 0 to 0 of the protocol `any`.
type Claimed<'a> = BTreeMap<u16, (u16, &'a str)>;

impl Master {
    /// What is wrong with the ranges of a change. `replaced` are the slots of services that it removes or replaces.
    pub(super) fn validate_ranges(&self, delta: &Delta, replaced: &BTreeSet<u32>, wrong: &mut Vec<String>) {
        let removed: BTreeSet<IpAddr> = delta.remove_vips.iter().copied().collect();
        let added: BTreeSet<IpAddr> = delta.upsert_vips.iter().map(|vip| vip.address).collect();
        for address in removed.difference(&added) {
            for (_, frontend) in self.ranges_at(*address).filter(|(_, frontend)| !replaced.contains(&frontend.service))
            {
                let name = self.tables.services.get(frontend.service).map_or("?", |service| &service.name);
                wrong.push(format!("VIP {address} cannot go: service `{name}` has ranges of it, or all of it"));
            }
        }
        let mut claimed: BTreeMap<(IpAddr, Role, u8), Claimed<'_>> = BTreeMap::new();
        for service in delta.upsert_services.iter().filter(|service| service.is_wide()) {
            for frontend in service.frontends.iter().filter(|frontend| frontend.is_wide()) {
                let address = frontend.address;
                let is_vip =
                    self.vips.contains_key(&address) && !removed.contains(&address) || added.contains(&address);
                if !is_vip {
                    wrong.push(format!(
                        "service `{}` wants {} of {address}, which is no VIP: only what is levee's alone is served so",
                        service.name,
                        words(service.protocol, frontend)
                    ));
                }
                let (first, last) = span(frontend);
                for from in roles(frontend.from) {
                    let protocol = service.protocol.number();
                    let claimed = claimed
                        .entry((address, *from, protocol))
                        .or_insert_with(|| self.claimed(address, *from, protocol, replaced));
                    let before = claimed.range(..=last).next_back().filter(|(_, (end, _))| *end >= first);
                    if let Some((_, (_, other))) = before {
                        wrong.push(format!(
                            "services `{other}` and `{}` both want {} of {address} from {from}",
                            service.name,
                            words(service.protocol, frontend)
                        ));
                        continue;
                    }
                    claimed.insert(first, (last, &service.name));
                }
            }
        }
    }

    /// Whose what an address has is, as one side sees it, but for who is replaced.
    fn claimed(&self, address: IpAddr, from: Role, protocol: u8, replaced: &BTreeSet<u32>) -> Claimed<'_> {
        let there = self.tables.ranges.get(&RangesKey { address: address.into(), from });
        let there = there.into_iter().flat_map(|ranges| ranges.frontends());
        let any = Protocol::Any.number();
        there
            .filter(|(at, frontend)| at.map_or(any, |(of, _)| of) == protocol && !replaced.contains(&frontend.service))
            .filter_map(|(at, frontend)| {
                let name = &*self.tables.services.get(frontend.service)?.name;
                Some(at.map_or((0, (0, name)), |(_, ports)| (ports.first, (ports.last, name))))
            })
            .collect()
    }

    /// What has ranges of an address, or all of it, from any side.
    fn ranges_at(&self, address: IpAddr) -> impl Iterator<Item = (Option<(u8, PortRange)>, &Frontend)> {
        let at = move |from: &Role| self.tables.ranges.get(&RangesKey { address: address.into(), from: *from });
        SIDES.iter().filter_map(at).flat_map(|ranges| ranges.frontends())
    }

    /// Whether an address has ranges, or is served whole.
    pub(super) fn is_wide(&self, address: IpAddr) -> bool {
        self.ranges_at(address).next().is_some()
    }
}

const SIDES: [Role; 3] = [Role::Uplink, Role::Pods, Role::Tunnel];

fn span(frontend: &program::Frontend) -> (u16, u16) {
    frontend.ports().map_or((0, 0), |ports| (ports.first, ports.last))
}

fn words(protocol: Protocol, frontend: &program::Frontend) -> String {
    frontend.ports().map_or_else(|| "all".to_owned(), |ports| format!("{protocol} ports {ports}"))
}

/// Puts a frontend into the tables, or takes it out of them: a single port where those are, anything else where the address's ranges are.
pub(super) fn set(
    tables: &mut Tables,
    frontend: &program::Frontend,
    protocol: Protocol,
    from: Role,
    value: Option<Frontend>,
) {
    let key = frontend_key(frontend, protocol, from);
    if !frontend.is_wide() {
        match value {
            Some(value) => tables.frontends.insert(key, value),
            None => tables.frontends.remove(&key),
        };
        return;
    }
    let at = frontend.ports().map(|ports| (protocol.number(), ports));
    let mut ranges = tables.ranges.get(&key.ranges()).cloned().unwrap_or_default();
    let changed = std::sync::Arc::make_mut(&mut ranges);
    match value {
        Some(value) => changed.insert(at, value),
        None => changed.remove(at),
    }
    if ranges.is_empty() {
        tables.ranges.remove(&key.ranges());
    } else {
        tables.ranges.insert(key.ranges(), ranges);
    }
}
