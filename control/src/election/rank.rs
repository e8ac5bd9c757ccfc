//! Who should own an address: rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit
//! rates", 1998). Each balancer's weight for an address depends on nothing but the two, so that all come to the same order
//! without speaking, addresses are spread, and when one goes, only its addresses move.

use std::net::IpAddr;

/// FNV-1a, 64 bits (draft-eastlake-fnv), finished by MurmurHash3's mix: names differ in few bits, and the order must not follow them.
fn weight(address: IpAddr, name: &str) -> u64 {
    let octets: Vec<u8> = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in octets.iter().chain(name.as_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The candidate that should own the address; none if there is none.
#[must_use]
pub fn preferred<'a>(address: IpAddr, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates.max_by_key(|name| (weight(address, name), *name))
}

/// How many of the candidates come before this one.
#[must_use]
pub fn rank<'a>(address: IpAddr, name: &str, candidates: impl Iterator<Item = &'a str>) -> u32 {
    let own = (weight(address, name), name);
    let before = candidates.filter(|other| (weight(address, other), *other) > own).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn addresses_are_spread_and_only_those_of_who_goes_move() {
        let addresses: Vec<IpAddr> = (0..300).map(|host| Ipv4Addr::from(0xc000_0200 + host).into()).collect();
        let all = ["lb-1", "lb-2", "lb-3"];
        let mut owned = BTreeMap::new();
        for address in &addresses {
            let owner = preferred(*address, all.into_iter()).unwrap();
            *owned.entry(owner).or_insert(0) += 1;
            assert_eq!(rank(*address, owner, all.into_iter()), 0);
            let without = preferred(*address, all.into_iter().filter(|name| *name != "lb-2"));
            assert!(owner == "lb-2" || without == Some(owner), "{address} moved from {owner}");
        }
        // 100 each are expected; a deviation of 30 has a probability under 10⁻³, and the hash is fixed.
        assert!(owned.len() == 3 && owned.values().all(|count| (70..=130).contains(count)), "{owned:?}");
        assert_eq!(preferred(addresses[0], std::iter::empty()), None);
    }
}
