//! Which backend a client of a service with session affinity had last: one worker's own, fixed in size.
//!
//! Asked only when a flow begins. All flows of one client reach one worker (see `decide::owner`), so no worker needs
//! another's memory. Four ways to a set; a full set forgets the client that has been away longest, whose next
//! connection goes by Maglev on its address, which gives the same backend again unless the set of backends changed.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io;

use super::Millis;
use crate::address::Address;
use crate::hash::Key;
use crate::mem::pages::Pages;
use crate::verdict::Endpoint;

const WAYS: usize = 4;

#[derive(Clone, Copy, bytemuck::Zeroable)]
#[repr(C)]
struct Entry {
    client: Address,
    backend: Address,
    /// Identity of the service; 0 is an unused way.
    service: u32,
    last: Millis,
    backend_port: u16,
    unused: [u16; 3],
}

/// The table.
pub struct Affinities {
    sets: Pages<[Entry; WAYS]>,
    key: Key,
}

impl Affinities {
    /// Room for about `clients`.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(clients: usize, key: Key) -> io::Result<Self> {
        let sets = clients.div_ceil(WAYS).max(1).checked_next_power_of_two().ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Affinities { sets: Pages::new(sets)?, key })
    }

    fn set(&self, service: u32, client: Address) -> usize {
        self.key.address(client, u64::from(service)) as usize & (self.sets.len() - 1)
    }

    /// The backend that the client had, if its last connection began less than `timeout` ago.
    #[must_use]
    pub fn get(&self, service: u32, client: Address, timeout: u64, now: Millis) -> Option<Endpoint> {
        let entry = self.sets.get(self.set(service, client))?.iter().find(|entry| {
            entry.service == service && entry.client == client && u64::from(now.wrapping_sub(entry.last)) < timeout
        })?;
        Some(Endpoint { address: entry.backend, port: entry.backend_port })
    }

    /// Notes the beginning of a connection.
    pub fn note(&mut self, service: u32, client: Address, backend: Endpoint, now: Millis) {
        let set = self.set(service, client);
        let Some(set) = self.sets.get_mut(set) else { return };
        let same = set.iter().position(|entry| entry.service == service && entry.client == client);
        let way = same.or_else(|| {
            set.iter()
                .enumerate()
                .max_by_key(
                    |(_, entry)| if entry.service == 0 { u64::MAX } else { u64::from(now.wrapping_sub(entry.last)) },
                )
                .map(|(way, _)| way)
        });
        if let Some(entry) = way.and_then(|way| set.get_mut(way)) {
            *entry = Entry {
                client,
                backend: backend.address,
                service,
                last: now,
                backend_port: backend.port,
                unused: [0; 3],
            };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::hash::MAGLEV_KEY;

    #[test]
    fn a_client_is_remembered_until_its_timeout_and_each_connection_renews_it() {
        let mut table = Affinities::new(64, MAGLEV_KEY).unwrap();
        let client = Address::v4(7);
        let backend = Endpoint { address: Address::v4(9), port: 80 };
        table.note(1, client, backend, 1_000);
        assert_eq!(table.get(1, client, 500, 1_499), Some(backend));
        assert_eq!(table.get(1, client, 500, 1_500), None);
        assert_eq!(table.get(2, client, 500, 1_000), None, "another service");
        table.note(1, client, backend, 1_400);
        assert_eq!(table.get(1, client, 500, 1_800), Some(backend));
    }

    #[test]
    fn a_full_set_forgets_the_client_that_was_away_longest() {
        let mut table = Affinities::new(1, MAGLEV_KEY).unwrap();
        let backend = Endpoint { address: Address::v4(9), port: 80 };
        for client in 0..5 {
            table.note(1, Address::v4(client), backend, client);
        }
        assert_eq!(table.get(1, Address::v4(0), 1_000, 10), None);
        for client in 1..5 {
            assert_eq!(table.get(1, Address::v4(client), 1_000, 10), Some(backend));
        }
    }
}
