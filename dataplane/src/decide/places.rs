//! What the tables say of addresses that flows begin towards, kept for as long as the tables are the same.
//!
//! A flow that begins asks three things about its backend: whether it is this host itself, whether it is a pod here, and by which next
//! hop it is reached. The answers are five lookups, and the same for each of the thousands of flows that begin there until a table
//! changes. So they are kept, in the place that an address's hash names, 32 bytes each; what comes to the same place later
//! replaces what was there. Like the worker's memory of where plain packets went, it is a cache and nothing else: exact, and forgotten
//! with every change.

use crate::address::Address;
use crate::tables::map::Key;
use crate::tables::{Hop, Tables};
use crate::verdict::NextHop;

/// 64 KiB: more backends than most nodes send to, in a part of the second-level cache.
const PLACES: usize = 2048;

/// Where an address is, as packets to it see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// It is this host's kernel's.
    pub kernel: bool,
    /// It is a pod of this node.
    pub local: bool,
    /// The next hop towards it, if packets can be sent there now; else [`Tables::hop`] knows why not.
    pub hop: Option<NextHop>,
}

#[derive(Clone, Copy)]
#[repr(align(32))]
struct Kept {
    address: Address,
    hop: NextHop,
    /// Of the tables; 0 is never.
    stamp: u32,
    reached: bool,
    kernel: bool,
    local: bool,
}

const _: () = assert!(size_of::<Kept>() == 32);

/// See the module's documentation.
pub struct Places {
    kept: Box<[Kept]>,
}

impl Default for Places {
    fn default() -> Self {
        let address = Address::UNSPECIFIED_V6;
        let nothing = Kept { address, hop: NextHop::default(), stamp: 0, reached: false, kernel: false, local: false };
        Places { kept: vec![nothing; PLACES].into() }
    }
}

impl Places {
    /// Where an address is, by these tables.
    #[inline(always)]
    pub fn get(&mut self, address: Address, tables: &Tables) -> Place {
        self.get_as_of(tables.stamp(), address, tables)
    }

    /// The same where the tables' stamp has been asked for.
    #[inline(always)]
    pub(super) fn get_as_of(&mut self, stamp: u32, address: Address, tables: &Tables) -> Place {
        let index = address.hash() as usize % PLACES;
        match self.kept.get(index) {
            Some(kept) if kept.address == address && kept.stamp == stamp => {
                Place { kernel: kept.kernel, local: kept.local, hop: kept.reached.then_some(kept.hop) }
            }
            _ => self.look(index, address, tables),
        }
    }

    #[inline(never)]
    fn look(&mut self, index: usize, address: Address, tables: &Tables) -> Place {
        let owner = tables.owner(address);
        let hop = match tables.hop(address) {
            Hop::To(port, mac) => Some(NextHop::new(port, mac)),
            Hop::Unresolved(_) | Hop::Kernel | Hop::Broadcast | Hop::NoRoute => None,
        };
        let (kernel, local) = (owner.kernel, tables.is_local_pod(address, owner));
        if let Some(kept) = self.kept.get_mut(index) {
            let (stamp, reached) = (tables.stamp(), hop.is_some());
            *kept = Kept { address, hop: hop.unwrap_or_default(), stamp, reached, kernel, local };
        }
        Place { kernel, local, hop }
    }
}
