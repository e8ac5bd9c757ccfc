//! Maps: tables that the program in the kernel reads and the process writes.
//!
//! Keys and values are arrays of bytes, whose lengths are part of the type: the kernel reads and writes exactly as
//! many, so a map taken over from elsewhere ([`Array::from_fd`] and its sisters) is first asked for its own sizes.
//! Numbers in them are in the machine's order, addresses in the network's, as the program expects them.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::syscall::{self, Command, Element, MapCreate, ObjectInfo};
use crate::error::Error;
use crate::socket::Socket;

/// `enum bpf_map_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Hash = 1,
    Array = 2,
    PerCpuArray = 6,
    LruHash = 9,
    LpmTrie = 11,
    XskMap = 17,
}

/// `BPF_F_NO_PREALLOC`, without which an LPM trie is refused.
const NO_PREALLOC: u32 = 1;

/// A map of any kind, its sizes being known to be K and V.
#[derive(Debug)]
struct Map<const K: usize, const V: usize> {
    fd: OwnedFd,
    name: String,
}

impl<const K: usize, const V: usize> Map<K, V> {
    fn create(kind: Kind, name: &str, entries: u32, flags: u32) -> Result<Self, Error> {
        let mut attr = MapCreate {
            map_type: kind as u32,
            key_size: K as u32,
            value_size: V as u32,
            max_entries: entries,
            map_flags: flags,
            map_name: syscall::object_name(name),
            ..MapCreate::default()
        };
        // SAFETY: the command's own structure, without addresses; it makes a descriptor.
        let made = unsafe { syscall::call_fd(Command::MapCreate, &mut attr) };
        let fd = made.map_err(|source| {
            let subject = format!("map {name} ({kind:?}, {entries} entries)");
            Error::from_io("bpf(BPF_MAP_CREATE)", subject, source)
        })?;
        Ok(Map { fd, name: name.to_owned() })
    }

    fn from_fd(kind: Kind, fd: OwnedFd) -> Result<Self, Error> {
        // `struct bpf_map_info`: type, id, key size, value size.
        let mut info = [0u32; 4];
        let mut attr = ObjectInfo {
            bpf_fd: fd.as_raw_fd() as u32,
            info_len: size_of_val(&info) as u32,
            info: info.as_mut_ptr() as u64,
        };
        let name = format!("fd {}", fd.as_raw_fd());
        // SAFETY: the command's own structure; `info` leads to `info_len` bytes of ours, which the kernel writes.
        unsafe { syscall::call(Command::ObjectInfo, &mut attr) }
            .map_err(|source| Error::from_io("bpf(BPF_OBJ_GET_INFO_BY_FD)", name.clone(), source))?;
        let [found, _, key, value] = info;
        if (found, key, value) != (kind as u32, K as u32, V as u32) {
            let why = format!(
                "expected {kind:?} with keys of {K} and values of {V} bytes, got type {found} with {key} and {value}"
            );
            return Err(Error::invalid("map", why));
        }
        Ok(Map { fd, name })
    }

    /// # Safety
    /// `value` leads to what the command reads or writes there: a value for lookup (times the CPUs, if per CPU) and
    /// update, a key for next key.
    unsafe fn call(&self, command: Command, key: Option<&[u8; K]>, value: u64, flags: u64) -> io::Result<()> {
        let key = key.map_or(0, |key| key.as_ptr() as u64);
        let mut attr = Element { map_fd: self.fd.as_raw_fd() as u32, pad: 0, key, value, flags };
        // SAFETY: the command's own structure; the map's keys are of K bytes, by `create` or `from_fd`; the value is
        // the caller's promise.
        unsafe { syscall::call(command, &mut attr) }.map(drop)
    }

    fn failed(&self, call: &'static str, source: io::Error) -> Error {
        Error::from_io(call, format!("map {}", self.name), source)
    }

    fn get(&self, key: &[u8; K]) -> Result<Option<[u8; V]>, Error> {
        let mut value = [0; V];
        // SAFETY: the map's values are of V bytes, by `create` or `from_fd`, and it is not a per-CPU map, whose
        // lookup is its own.
        match unsafe { self.call(Command::MapLookup, Some(key), value.as_mut_ptr() as u64, 0) } {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(self.failed("bpf(BPF_MAP_LOOKUP_ELEM)", error)),
        }
    }

    fn set(&self, key: &[u8; K], value: &[u8; V]) -> Result<(), Error> {
        // SAFETY: V bytes, as in `get`; the kernel reads them.
        unsafe { self.call(Command::MapUpdate, Some(key), value.as_ptr() as u64, 0) }
            .map_err(|error| self.failed("bpf(BPF_MAP_UPDATE_ELEM)", error))
    }

    /// Whether it was there.
    fn delete(&self, key: &[u8; K]) -> Result<bool, Error> {
        // SAFETY: a deletion has no value.
        match unsafe { self.call(Command::MapDelete, Some(key), 0, 0) } {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(self.failed("bpf(BPF_MAP_DELETE_ELEM)", error)),
        }
    }

    fn keys(&self) -> Result<Vec<[u8; K]>, Error> {
        let mut keys: Vec<[u8; K]> = Vec::new();
        loop {
            let mut next = [0; K];
            // SAFETY: `next` is a key, which the kernel writes.
            match unsafe { self.call(Command::MapNextKey, keys.last(), next.as_mut_ptr() as u64, 0) } {
                Ok(()) => keys.push(next),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(error) => return Err(self.failed("bpf(BPF_MAP_GET_NEXT_KEY)", error)),
            }
        }
    }
}

/// From a receive queue to the socket that its frames go to.
#[derive(Debug)]
pub struct XskMap {
    map: Map<4, 4>,
}

impl AsFd for XskMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd.as_fd()
    }
}

impl XskMap {
    /// A map for queues 0 to `queues - 1`.
    ///
    /// # Errors
    /// [`Error::System`] with what is missing.
    pub fn new(name: &str, queues: u32) -> Result<Self, Error> {
        Ok(XskMap { map: Map::create(Kind::XskMap, name, queues, 0)? })
    }

    /// Takes over a map that is open already.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is another kind of map.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        Ok(XskMap { map: Map::from_fd(Kind::XskMap, fd)? })
    }

    /// From now on redirects to this queue number go to the socket. When the socket is closed, the kernel takes it out.
    ///
    /// # Errors
    /// [`Error::System`]: EINVAL or EBADF if the socket is bound to nothing, E2BIG if the map has no such queue.
    pub fn insert(&self, queue: u32, socket: &Socket) -> Result<(), Error> {
        let value = socket.as_fd().as_raw_fd() as u32;
        self.map.set(&queue.to_ne_bytes(), &value.to_ne_bytes())
    }

    /// Redirects to this queue number go to the kernel again. No harm if there was no socket.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn remove(&self, queue: u32) -> Result<(), Error> {
        self.map.delete(&queue.to_ne_bytes()).map(drop)
    }
}

/// Values by number. All are there from the beginning, zero.
#[derive(Debug)]
pub struct Array<const V: usize> {
    map: Map<4, V>,
}

impl<const V: usize> AsFd for Array<V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd.as_fd()
    }
}

impl<const V: usize> Array<V> {
    /// An array of zeros.
    ///
    /// # Errors
    /// [`Error::System`] with what is missing.
    pub fn new(name: &str, entries: u32) -> Result<Self, Error> {
        Ok(Array { map: Map::create(Kind::Array, name, entries, 0)? })
    }

    /// Takes over a map that is open already.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is another kind of map, or its values are of another size.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        Ok(Array { map: Map::from_fd(Kind::Array, fd)? })
    }

    /// A value, or `None` beyond the end.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn get(&self, index: u32) -> Result<Option<[u8; V]>, Error> {
        self.map.get(&index.to_ne_bytes())
    }

    /// Sets a value.
    ///
    /// # Errors
    /// [`Error::System`]: E2BIG beyond the end.
    pub fn set(&self, index: u32, value: &[u8; V]) -> Result<(), Error> {
        self.map.set(&index.to_ne_bytes(), value)
    }
}

/// Values by key.
#[derive(Debug)]
pub struct HashMap<const K: usize, const V: usize> {
    map: Map<K, V>,
}

impl<const K: usize, const V: usize> AsFd for HashMap<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd.as_fd()
    }
}

impl<const K: usize, const V: usize> HashMap<K, V> {
    /// An empty map. The kernel allocates nothing before there are entries.
    ///
    /// # Errors
    /// [`Error::System`] with what is missing.
    pub fn new(name: &str, entries: u32) -> Result<Self, Error> {
        Ok(HashMap { map: Map::create(Kind::Hash, name, entries, NO_PREALLOC)? })
    }

    /// Takes over a map that is open already.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is another kind of map, or its sizes are others.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        Ok(HashMap { map: Map::from_fd(Kind::Hash, fd)? })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn get(&self, key: &[u8; K]) -> Result<Option<[u8; V]>, Error> {
        self.map.get(key)
    }

    /// Puts a value in, over a former one.
    ///
    /// # Errors
    /// [`Error::System`]: E2BIG if the map is full.
    pub fn insert(&self, key: &[u8; K], value: &[u8; V]) -> Result<(), Error> {
        self.map.set(key, value)
    }

    /// Takes a value out, and says whether it was there.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn remove(&self, key: &[u8; K]) -> Result<bool, Error> {
        self.map.delete(key)
    }

    /// All keys, in no order. Those that come or go meanwhile may be missing or there.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn keys(&self) -> Result<Vec<[u8; K]>, Error> {
        self.map.keys()
    }
}

/// Values by key, the ones used last: where it is full, an older one makes place. Programs write to it.
#[derive(Debug)]
pub struct LruHashMap<const K: usize, const V: usize> {
    map: Map<K, V>,
}

impl<const K: usize, const V: usize> AsFd for LruHashMap<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd.as_fd()
    }
}

impl<const K: usize, const V: usize> LruHashMap<K, V> {
    /// An empty map, its memory taken.
    ///
    /// # Errors
    /// [`Error::System`] with what is missing.
    pub fn new(name: &str, entries: u32) -> Result<Self, Error> {
        Ok(LruHashMap { map: Map::create(Kind::LruHash, name, entries, 0)? })
    }
}

/// Values by IP prefix; a lookup finds the longest that contains the address.
///
/// `K` is 4 more than the address's length: 8 for IPv4, 20 for IPv6 (`struct bpf_lpm_trie_key_u8`: the prefix length
/// in the machine's order, then the address in the network's).
#[derive(Debug)]
pub struct LpmTrie<const K: usize, const V: usize> {
    map: Map<K, V>,
}

impl<const K: usize, const V: usize> AsFd for LpmTrie<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd.as_fd()
    }
}

impl<const K: usize, const V: usize> LpmTrie<K, V> {
    /// An empty trie.
    ///
    /// # Errors
    /// [`Error::System`] with what is missing.
    pub fn new(name: &str, entries: u32) -> Result<Self, Error> {
        Ok(LpmTrie { map: Map::create(Kind::LpmTrie, name, entries, NO_PREALLOC)? })
    }

    /// Takes over a map that is open already.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is another kind of map, or its sizes are others.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        Ok(LpmTrie { map: Map::from_fd(Kind::LpmTrie, fd)? })
    }

    fn key(address: IpAddr, prefix: u8) -> Result<[u8; K], Error> {
        let (v4, v6);
        let octets: &[u8] = match address {
            IpAddr::V4(address) => {
                v4 = address.octets();
                &v4
            }
            IpAddr::V6(address) => {
                v6 = address.octets();
                &v6
            }
        };
        let mut key = [0; K];
        if octets.len() + 4 != K || usize::from(prefix) > octets.len() * 8 {
            let bits = (K - 4) * 8;
            return Err(Error::invalid(
                "prefix",
                format!("expected one of at most {bits} bits, got {address}/{prefix}"),
            ));
        }
        let (length, rest) = key.split_at_mut(4);
        length.copy_from_slice(&u32::from(prefix).to_ne_bytes());
        rest.copy_from_slice(octets);
        Ok(key)
    }

    /// The value of the longest prefix that contains the address.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the address is of another family.
    pub fn find(&self, address: IpAddr) -> Result<Option<[u8; V]>, Error> {
        self.map.get(&Self::key(address, ((K - 4) * 8) as u8)?)
    }

    /// Puts a prefix in, over a former one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is of another family or too long; [`Error::System`]: ENOSPC if the trie is full.
    pub fn insert(&self, address: IpAddr, prefix: u8, value: &[u8; V]) -> Result<(), Error> {
        self.map.set(&Self::key(address, prefix)?, value)
    }

    /// Takes exactly this prefix out, and says whether it was there.
    ///
    /// # Errors
    /// As [`LpmTrie::insert`].
    pub fn remove(&self, address: IpAddr, prefix: u8) -> Result<bool, Error> {
        self.map.delete(&Self::key(address, prefix)?)
    }
}

/// Counters that each CPU has for itself, so that counting costs no atomic operation; read as their sum.
#[derive(Debug)]
pub struct Counters {
    map: Map<4, 8>,
    entries: u32,
    cpus: usize,
}

impl AsFd for Counters {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd.as_fd()
    }
}

impl Counters {
    /// Zeros.
    ///
    /// # Errors
    /// [`Error::System`] with what is missing.
    pub fn new(name: &str, entries: u32) -> Result<Self, Error> {
        let cpus = possible_cpus()?;
        Ok(Counters { map: Map::create(Kind::PerCpuArray, name, entries, 0)?, entries, cpus })
    }

    /// All counters, summed over the CPUs. Those that are counting meanwhile may be a little behind.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn read(&self) -> Result<Vec<u64>, Error> {
        // The kernel writes 8 bytes for each *possible* CPU, whether it is there or not.
        let mut values = vec![0u64; self.cpus];
        (0..self.entries)
            .map(|index| {
                let into = values.as_mut_ptr() as u64;
                // SAFETY: 8 bytes for each possible CPU, which is what the kernel writes.
                unsafe { self.map.call(Command::MapLookup, Some(&index.to_ne_bytes()), into, 0) }
                    .map_err(|error| self.map.failed("bpf(BPF_MAP_LOOKUP_ELEM)", error))?;
                Ok(values.iter().copied().fold(0, u64::wrapping_add))
            })
            .collect()
    }
}

/// Number of CPUs that the kernel might ever have: one more than the highest in a list such as `0-3,8-11`.
fn possible_cpus() -> Result<usize, Error> {
    const PATH: &str = "/sys/devices/system/cpu/possible";
    let text = std::fs::read_to_string(PATH).map_err(|source| Error::from_io("read", PATH, source))?;
    parse_possible(&text)
        .ok_or_else(|| Error::invalid(PATH, format!("expected a list such as `0-3`, got `{}`", text.trim())))
}

fn parse_possible(text: &str) -> Option<usize> {
    let last = text.trim().rsplit([',', '-']).next()?;
    last.parse::<usize>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn possible_cpus_of_usual_lists() {
        for (text, cpus) in [("0\n", 1), ("0-1\n", 2), ("0-127\n", 128), ("0-3,8-11\n", 12), ("0,2\n", 3)] {
            assert_eq!(parse_possible(text), Some(cpus), "{text}");
        }
        assert_eq!(parse_possible(""), None);
        assert_eq!(parse_possible("x\n"), None);
    }

    #[test]
    fn lpm_keys_are_of_one_family() {
        let key = LpmTrie::<8, 4>::key("10.1.2.0".parse().unwrap(), 24).unwrap();
        assert_eq!(key[4..], [10, 1, 2, 0]);
        assert_eq!(u32::from_ne_bytes(key[..4].try_into().unwrap()), 24);
        assert!(LpmTrie::<8, 4>::key("10.1.2.0".parse().unwrap(), 33).is_err());
        assert!(LpmTrie::<8, 4>::key("::1".parse().unwrap(), 24).is_err());
        assert!(LpmTrie::<20, 4>::key("::1".parse().unwrap(), 128).is_ok());
    }
}
