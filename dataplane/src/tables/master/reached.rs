//! Whom a service has packets sent to, and what of that a change of it changes: mostly one backend of many.

use std::net::IpAddr;

use levee_api::program::{self, Mode};

use crate::address::Address;
use crate::tables::service::{BackendKey, Service};

/// What a service has in tables that it shares with others: each element may be several services'.
pub(super) struct Reached {
    /// In order; more than once, where an address is there for several ports.
    pub(super) backends: Vec<BackendKey>,
    /// Far ends of tunnels, in order.
    pub(super) vias: Vec<Address>,
}

impl Reached {
    /// What packets of a service's backends are recognised by: their endpoints; and where replies are translated on their way
    /// to the client's own address, their addresses too, for fragments, which have no ports. Where clients choose the port, addresses alone.
    pub(super) fn by(program: &program::Service, service: &Service) -> Reached {
        let protocol = program.protocol.number();
        let kept = program.frontends.iter().any(|frontend| frontend.mode == Mode::Dnat);
        let keys = service.backends.iter().flat_map(|backend| {
            if service.keeps_port {
                return std::iter::once(BackendKey::any(backend.endpoint.address)).chain(None);
            }
            let any_port = kept.then(|| BackendKey::fragments(backend.endpoint.address, protocol));
            std::iter::once(BackendKey { endpoint: backend.endpoint, protocol }).chain(any_port)
        });
        let (mut backends, mut vias): (Vec<BackendKey>, Vec<Address>) = (keys.collect(), service.vias().collect());
        backends.sort_unstable_by_key(order);
        vias.sort_unstable();
        Reached { backends, vias }
    }

    /// Addresses of backends that are known by those alone.
    pub(super) fn answering(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let all = self.backends.iter().filter(|key| **key == BackendKey::any(key.endpoint.address));
        all.map(|key| key.endpoint.address.into())
    }

    /// What this one has and the other has not.
    pub(super) fn beyond(&self, other: &Reached) -> Reached {
        Reached {
            backends: beyond(&self.backends, &other.backends, order),
            vias: beyond(&self.vias, &other.vias, |via| *via),
        }
    }
}

fn order(key: &BackendKey) -> (Address, u16, u8) {
    (key.endpoint.address, key.endpoint.port, key.protocol)
}

/// What is in the one and not in the other, as often as it is there more often. Both are in order.
fn beyond<T: Copy, K: Ord>(one: &[T], other: &[T], order: impl Fn(&T) -> K) -> Vec<T> {
    let mut other = other.iter().map(&order).peekable();
    let missing = one.iter().filter(|element| {
        let key = order(element);
        while other.next_if(|next| *next < key).is_some() {}
        other.next_if_eq(&key).is_none()
    });
    missing.copied().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_one_has_beyond_the_other_is_counted_element_by_element(
            mut one in proptest::collection::vec(0..8u8, 0..12),
            mut other in proptest::collection::vec(0..8u8, 0..12),
        ) {
            one.sort_unstable();
            other.sort_unstable();
            let mut expected = one.clone();
            for element in &other {
                if let Some(index) = expected.iter().position(|mine| mine == element) {
                    expected.remove(index);
                }
            }
            prop_assert_eq!(beyond(&one, &other, |element| *element), expected);
        }
    }
}
