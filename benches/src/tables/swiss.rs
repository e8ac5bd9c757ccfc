//! What one would write without a flow table: `hashbrown::HashMap` from tuples to numbers of entries, and a vector of these.
//!
//! As good as that can be made: keys of 16 bytes that are IPv4's alone, given to the hash as two words; values say which direction it is, so that
//! no entry is read to find out; entries of as many bytes as levee's. What a map does not offer is to ask for its memory before it is needed: all
//! look-ahead that is left is to look up some packets, ask for their entries, and then read those.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;
use levee_dataplane::ends::Ends;
use levee_dataplane::flows::Millis;
use levee_dataplane::hash::Key;
use levee_dataplane::mem::prefetch;

use super::{Connection, Followed, KEY, MOST, PROTOCOL, Table};

/// No entry's.
const NONE: u32 = u32::MAX;

/// What one direction's packets carry.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tuple {
    addresses: [u32; 2],
    ports: u32,
    protocol: u8,
}

impl From<Ends> for Tuple {
    #[inline(always)]
    fn from(ends: Ends) -> Self {
        let (addresses, ports) = ends.halves();
        Tuple { addresses: [addresses as u32, (addresses >> 32) as u32], ports, protocol: PROTOCOL }
    }
}

impl Hash for Tuple {
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [source, destination] = self.addresses.map(u64::from);
        state.write_u64(source | destination << 32);
        state.write_u64(u64::from(self.ports) << 8 | u64::from(self.protocol));
    }
}

/// levee's own hash of a tuple, so that hashes are not what is compared.
#[derive(Clone, Copy)]
pub struct Keyed(Key);

/// Two words of it.
pub struct Words {
    key: Key,
    words: [u64; 2],
}

impl Default for Keyed {
    fn default() -> Self {
        Keyed(KEY)
    }
}

impl BuildHasher for Keyed {
    type Hasher = Words;

    #[inline(always)]
    fn build_hasher(&self) -> Words {
        Words { key: self.0, words: [0; 2] }
    }
}

impl Hasher for Words {
    #[inline(always)]
    fn finish(&self) -> u64 {
        let [addresses, rest] = self.words;
        self.key.ends((addresses, (rest >> 8) as u32), rest as u8)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline(always)]
    fn write_u64(&mut self, word: u64) {
        self.words = [self.words[1], word];
    }
}

/// One connection: 48 bytes, as levee's have.
#[derive(Clone, Copy)]
struct Entry {
    forward: Ends,
    reverse: Ends,
    last: Millis,
    stamp: u32,
    /// What else levee remembers of a flow: its service, state, next hops, what becomes of checksums.
    rest: [u32; 4],
}

const _: () = assert!(size_of::<(Tuple, u32)>() == 20 && size_of::<Entry>() == 48);

/// See the module.
pub struct Swiss<S> {
    /// An entry's number, and in the lowest bit which direction it is.
    places: HashMap<Tuple, u32, S>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    looks: Box<[u32; MOST]>,
}

impl<S: BuildHasher + Default> Swiss<S> {
    /// A map that grows.
    #[must_use]
    pub fn growing() -> Self {
        Swiss { places: HashMap::default(), entries: Vec::new(), free: Vec::new(), looks: Box::new([NONE; MOST]) }
    }

    /// With room for so many connections, and all of its memory touched, as levee's is.
    #[must_use]
    pub fn reserved(room: usize) -> Self {
        let mut table = Self {
            places: HashMap::with_capacity_and_hasher(room * 2, S::default()),
            entries: Vec::with_capacity(room),
            free: Vec::with_capacity(room),
            looks: Box::new([NONE; MOST]),
        };
        for number in 0..room as u32 {
            table.begin(&[Connection::number(number)], 0);
        }
        table.free.extend(0..room as u32);
        table.places.clear();
        table.entries.clear();
        table.free.clear();
        table
    }
}

impl<S: BuildHasher> Swiss<S> {
    fn begin_one(&mut self, Connection { forward, reverse }: &Connection, now: Millis) -> bool {
        let id = self.free.last().copied().unwrap_or(self.entries.len() as u32);
        match self.places.entry((*forward).into()) {
            Slot::Occupied(_) => return false,
            Slot::Vacant(slot) => slot.insert(id << 1),
        };
        let vacant = match self.places.entry((*reverse).into()) {
            Slot::Occupied(_) => false,
            Slot::Vacant(slot) => {
                slot.insert(id << 1 | 1);
                true
            }
        };
        if !vacant {
            self.places.remove(&Tuple::from(*forward));
            return false;
        }
        let entry = Entry { forward: *forward, reverse: *reverse, last: now, stamp: 1, rest: [0; 4] };
        match self.entries.get_mut(id as usize) {
            Some(place) => {
                *place = entry;
                self.free.pop();
            }
            None => self.entries.push(entry),
        }
        true
    }
}

impl<S: BuildHasher> Table for Swiss<S> {
    fn begin(&mut self, some: &[Connection], now: Millis) -> usize {
        some.iter().filter(|connection| self.begin_one(connection, now)).count()
    }

    fn establish(&mut self, _: &[Connection]) {}

    fn follow(&mut self, some: &[Ends], now: Millis) -> Followed {
        let Swiss { places, entries, looks, .. } = self;
        for (ends, look) in some.iter().zip(&mut **looks) {
            *look = places.get(&Tuple::from(*ends)).copied().unwrap_or(NONE);
            if let Some(entry) = entries.get((*look >> 1) as usize) {
                prefetch::read(entry);
                // Every second one ends in the next cache line.
                prefetch::read(&entry.rest[3]);
            }
        }
        let mut followed = Followed::default();
        for look in &looks[..some.len()] {
            let Some(entry) = entries.get_mut((*look >> 1) as usize).filter(|entry| entry.stamp == 1) else { continue };
            let ends = if look & 1 == 0 { entry.reverse } else { entry.forward };
            entry.last = now;
            followed.note(ends.turned_round().to());
        }
        followed
    }

    fn end(&mut self, some: &[Ends]) -> usize {
        let Swiss { places, entries, free, looks } = self;
        for (ends, look) in some.iter().zip(&mut **looks) {
            *look = places.remove(&Tuple::from(*ends)).unwrap_or(NONE);
            if let Some(entry) = entries.get((*look >> 1) as usize) {
                prefetch::read(entry);
            }
        }
        let mut ended = 0;
        for look in &looks[..some.len()] {
            let Some(entry) = entries.get((look >> 1) as usize) else { continue };
            places.remove(&Tuple::from(entry.reverse));
            free.push(look >> 1);
            ended += 1;
        }
        ended
    }

    fn bytes(&self) -> usize {
        self.places.allocation_size()
            + self.entries.capacity() * size_of::<Entry>()
            + self.free.capacity() * size_of::<u32>()
    }
}
