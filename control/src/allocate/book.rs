//! Who has which address, while addresses are being given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use levee_api::net::Family;

use super::problem::{NotShared, Problem};
use super::space::Space;
use crate::model::{AddressPool, AddressRange, Balanced, LoadBalancer, ObjectName, PortKey, Wide};

/// A pool in force, and what of it is in use.
#[derive(Debug)]
pub(super) struct PoolBook<'a> {
    pub(super) name: &'a str,
    pub(super) pool: &'a AddressPool,
    pub(super) spaces: BTreeMap<Family, Space>,
    /// How many addresses of each family Services have.
    pub(super) assigned: BTreeMap<Family, u64>,
}

/// Those who have one address.
#[derive(Debug)]
struct Tenancy<'a> {
    pool: usize,
    /// What a further one must have, too; `None`: there will be no further one.
    share: Option<Share<'a>>,
    /// Why not.
    closed: NotShared,
    /// By port; a Service without ports holds an address by nothing else than being among `tenants`.
    ports: BTreeMap<PortKey, &'a ObjectName>,
    tenants: BTreeSet<&'a ObjectName>,
    /// Those of them that serve more than ports.
    wide: BTreeMap<&'a ObjectName, &'a Wide>,
}

/// Services share an address by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Share<'a> {
    key: &'a str,
    /// `None`: the pool lets Services of all namespaces share.
    namespace: Option<&'a str>,
}

/// Addresses that are shared by one key, and how many of them have a port already.
#[derive(Debug, Default)]
struct Commons {
    addresses: BTreeSet<IpAddr>,
    with_port: BTreeMap<PortKey, usize>,
}

/// How many shared addresses are tried for one Service. A key with more of them, which all are in its way, is no way to save
/// addresses; to try them all would make many Services cost the square of their number.
const COMMONS_TRIED: usize = 64;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Book<'a> {
    pub(super) pools: Vec<PoolBook<'a>>,
    by_name: BTreeMap<&'a str, usize>,
    /// By first address: last address and pool.
    ranges: BTreeMap<IpAddr, (IpAddr, usize)>,
    tenancies: BTreeMap<IpAddr, Tenancy<'a>>,
    commons: BTreeMap<(Share<'a>, usize, Family), Commons>,
    /// Addresses that Services have which are not ours.
    reserved: BTreeMap<IpAddr, (&'a ObjectName, &'a LoadBalancer)>,
}

impl<'a> Book<'a> {
    pub(super) fn new(balanced: &'a Balanced) -> Self {
        let mut book = Book {
            pools: Vec::new(),
            by_name: BTreeMap::new(),
            ranges: BTreeMap::new(),
            tenancies: BTreeMap::new(),
            commons: BTreeMap::new(),
            reserved: BTreeMap::new(),
        };
        let in_force = balanced.pools.iter().filter_map(|(name, pool)| Some((name, pool.in_force.as_ref()?)));
        for (index, (name, pool)) in in_force.enumerate() {
            book.by_name.insert(name, index);
            let mut by_family: BTreeMap<Family, Vec<&AddressRange>> = BTreeMap::new();
            for range in &pool.ranges {
                by_family.entry(Family::of(range.first)).or_default().push(range);
                book.ranges.insert(range.first, (range.last, index));
            }
            let mut spaces: BTreeMap<Family, Space> =
                by_family.into_iter().map(|(family, ranges)| (family, Space::of(ranges.into_iter()))).collect();
            for range in pool.withheld.keys() {
                if let Some(space) = spaces.get_mut(&Family::of(range.first)) {
                    space.withhold(range);
                }
            }
            book.pools.push(PoolBook { name, pool, spaces, assigned: BTreeMap::new() });
        }
        book
    }

    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The pool that has an address.
    pub(super) fn pool_of(&self, address: IpAddr) -> Option<(usize, &PoolBook<'a>)> {
        let (_, (last, pool)) = self.ranges.range(..=address).next_back()?;
        let pool = (address <= *last).then_some(*pool)?;
        Some((pool, self.pools.get(pool)?))
    }

    /// Whether a Service may have an address, whoever else has it: it is in a pool, which is for it and does not withhold it.
    pub(super) fn permits(&self, address: IpAddr, name: &ObjectName, service: &LoadBalancer) -> Result<usize, Problem> {
        let Some((index, book)) = self.pool_of(address) else { return Err(Problem::InNoPool(address)) };
        let pool = book.name.to_owned();
        if let Some((_, why)) = book.pool.withheld.iter().find(|(range, _)| range.contains(address)) {
            return Err(Problem::Withheld { address, pool, why: why.clone() });
        }
        if !book.pool.permits(name, service) {
            return Err(Problem::NotPermitted { pool, address: Some(address) });
        }
        Ok(index)
    }

    /// Gives an address to a Service that [`Book::permits`] it, alone or beside others.
    pub(super) fn join(
        &mut self,
        address: IpAddr,
        name: &'a ObjectName,
        service: &'a LoadBalancer,
    ) -> Result<(), Problem> {
        let pool = self.permits(address, name, service)?;
        if let Some(problem) = self.refuses(address, name, service) {
            return Err(problem);
        }
        self.enter(address, pool, self.share(pool, name, service), NotShared::Key, name, service);
        Ok(())
    }

    /// Who is in the way of a Service at an address that it may have.
    pub(super) fn refuses(&self, address: IpAddr, name: &ObjectName, service: &LoadBalancer) -> Option<Problem> {
        let tenancy = self.tenancies.get(&address)?;
        let share = self.share(tenancy.pool, name, service);
        let (why, holder) = tenancy.admits(share, service).err()?;
        Some(Problem::InUse { address, holder: holder.clone(), why })
    }

    /// Notes that somebody else's Service has an address of ours: nobody who does not have it already gets it.
    pub(super) fn reserve(&mut self, address: IpAddr, name: &'a ObjectName, service: &'a LoadBalancer) {
        let Some((pool, _)) = self.pool_of(address) else { return };
        let is_withheld = |book: &PoolBook<'_>| book.pool.withheld.keys().any(|range| range.contains(address));
        self.reserved.insert(address, (name, service));
        if !self.tenancies.contains_key(&address) && !self.pools.get(pool).is_some_and(is_withheld) {
            self.enter(address, pool, None, NotShared::Foreign, name, service);
        }
    }

    fn enter(
        &mut self,
        address: IpAddr,
        pool: usize,
        share: Option<Share<'a>>,
        closed: NotShared,
        name: &'a ObjectName,
        service: &'a LoadBalancer,
    ) {
        let family = Family::of(address);
        let is_first = !self.tenancies.contains_key(&address);
        let tenancy = self.tenancies.entry(address).or_insert_with(|| Tenancy {
            pool,
            share,
            closed,
            ports: BTreeMap::new(),
            tenants: BTreeSet::new(),
            wide: BTreeMap::new(),
        });
        tenancy.ports.extend(service.ports.iter().map(|port| (*port, name)));
        tenancy.tenants.insert(name);
        if service.wide.is_something() {
            tenancy.wide.insert(name, &service.wide);
        }
        if is_first && let Some(book) = self.pools.get_mut(pool) {
            *book.assigned.entry(family).or_default() += 1;
            if let Some(space) = book.spaces.get_mut(&family)
                && let Some(place) = space.place(address)
            {
                space.take(place);
            }
        }
        if let Some(share) = share {
            let commons = self.commons.entry((share, pool, family)).or_default();
            commons.addresses.insert(address);
            for port in &service.ports {
                *commons.with_port.entry(*port).or_default() += 1;
            }
        }
    }

    /// Takes an address back from a Service that has it.
    pub(super) fn leave(&mut self, address: IpAddr, name: &'a ObjectName, service: &'a LoadBalancer) {
        let Some(tenancy) = self.tenancies.get_mut(&address).filter(|tenancy| tenancy.tenants.contains(name)) else {
            return;
        };
        let (family, pool, share) = (Family::of(address), tenancy.pool, tenancy.share);
        tenancy.tenants.remove(name);
        tenancy.wide.remove(name);
        tenancy.ports.retain(|_, holder| *holder != name);
        let is_last = tenancy.tenants.is_empty();
        if let Some(commons) = share.and_then(|share| self.commons.get_mut(&(share, pool, family))) {
            for port in &service.ports {
                if let Some(count) = commons.with_port.get_mut(port) {
                    *count -= 1;
                }
            }
            if is_last {
                commons.addresses.remove(&address);
            }
        }
        if is_last {
            self.tenancies.remove(&address);
            if let Some(book) = self.pools.get_mut(pool) {
                if let Some(assigned) = book.assigned.get_mut(&family) {
                    *assigned -= 1;
                }
                if let Some(space) = book.spaces.get_mut(&family)
                    && let Some(place) = space.place(address)
                {
                    space.free(place);
                }
            }
            if let Some((name, service)) = self.reserved.get(&address).copied() {
                self.reserve(address, name, service);
            }
        }
    }

    /// An address of a pool that a Service can have now: one that it can share, or the first that is free from where its name
    /// falls.
    pub(super) fn find(
        &self,
        pool: usize,
        family: Family,
        name: &'a ObjectName,
        service: &'a LoadBalancer,
    ) -> Option<IpAddr> {
        let book = self.pools.get(pool)?;
        if let Some(share) = self.share(pool, name, service)
            && let Some(commons) = self.commons.get(&(share, pool, family))
            && service
                .ports
                .iter()
                .all(|port| commons.with_port.get(port).is_none_or(|count| *count < commons.addresses.len()))
        {
            let admits = |address: &&IpAddr| {
                self.tenancies.get(*address).is_some_and(|tenancy| tenancy.admits(Some(share), service).is_ok())
            };
            if let Some(address) = commons.addresses.iter().take(COMMONS_TRIED).find(admits) {
                return Some(*address);
            }
        }
        let space = book.spaces.get(&family)?;
        let start = u128::from(hash(name)).checked_rem(space.size())?;
        space.address(space.next_free(start)?)
    }

    /// By what a Service shares addresses of a pool.
    fn share<'b>(&self, pool: usize, name: &'b ObjectName, service: &'b LoadBalancer) -> Option<Share<'b>> {
        let across = self.pools.get(pool)?.pool.shares_across_namespaces;
        Some(Share { key: service.share_key.as_deref()?, namespace: (!across).then_some(name.namespace.as_str()) })
    }
}

impl<'a> Tenancy<'a> {
    /// Whether one more may have the address; if not, why, and because of whom.
    fn admits(&self, share: Option<Share<'_>>, service: &LoadBalancer) -> Result<(), (NotShared, &'a ObjectName)> {
        let Some(first) = self.tenants.first() else { return Ok(()) };
        match (self.share, share) {
            (Some(ours), Some(theirs)) if ours == theirs => {}
            (Some(ours), Some(theirs)) if ours.key == theirs.key => return Err((NotShared::Namespace, first)),
            (None, _) => return Err((self.closed, first)),
            _ => return Err((NotShared::Key, first)),
        }
        if let Some((port, holder)) = service.ports.iter().find_map(|port| Some((port, self.ports.get(port)?))) {
            return Err((NotShared::Port(*port), holder));
        }
        let overlap = |(holder, wide): (&&'a ObjectName, &&Wide)| Some((wide.overlap(&service.wide)?, *holder));
        match self.wide.iter().find_map(overlap) {
            Some((what, holder)) => Err((NotShared::Wide(what), holder)),
            None => Ok(()),
        }
    }
}

/// FNV-1a with 64 bits (draft-eastlake-fnv), and a last mixing for its weak low bits (splitmix64's). It must never change:
/// addresses of Services in files, which have no status, follow from it.
fn hash(name: &ObjectName) -> u64 {
    let bytes = name.namespace.bytes().chain([b'/']).chain(name.name.bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fall_where_they_always_fell() {
        let name = |namespace: &str, name: &str| ObjectName { namespace: namespace.into(), name: name.into() };
        let hashes = [hash(&name("default", "web")), hash(&name("kube-system", "dns"))];
        assert_eq!(hashes, [2_348_150_740_500_140_582, 3_568_950_299_201_887_106]);
    }
}
