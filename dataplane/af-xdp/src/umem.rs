//! The memory that frames live in, shared with the kernel and among all ports of a process.
//!
//! ```text
//!   Umem (Arc, Send + Sync)
//!   +---------+---------+---------+--   --+---------+
//!   | chunk 0 | chunk 1 | chunk 2 |  ...  | chunk n |      each 2048 or 4096 bytes
//!   +---------+---------+---------+--   --+---------+
//!        ^         ^         ^
//!      Frame     in a      in a kernel ring
//!     (yours)    pool      (the kernel's)
//! ```
//!
//! Every chunk is at any time in exactly one hand: a [`Frame`], a [`FramePool`], or a ring of a socket. So that no
//! two hands can ever hold one chunk, all rights are made once, here: [`Umem::new`] gives the memory and one pool
//! with all its chunks, and never again. [`Umem::bytes`] and its sisters need the `Frame` to reach the bytes; the
//! UMEM alone shows nothing.
//!
//! It never hands out memory that the kernel may be writing, and never moves or unmaps while a socket or a pool holds
//! it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::error::Error;
use crate::frame::Frame;
use crate::pool::FramePool;

/// Bytes in front of each received frame that the kernel leaves free, whatever the headroom
/// (`XDP_PACKET_HEADROOM`, include/uapi/linux/bpf.h).
pub const KERNEL_HEADROOM: usize = 256;

/// The next UMEM's id. Ids are never used twice in a process, so a frame can only ever fit the UMEM that it came from.
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

/// Size of a chunk. The kernel wants a power of two, not above the page size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameSize {
    /// 2048 bytes: frames up to 1,792 bytes less the headroom; any interface with an MTU of 1500.
    Bytes2048,
    /// 4096 bytes: frames up to 3,840 bytes less the headroom.
    Bytes4096,
}

impl FrameSize {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << self.shift()
    }

    const fn shift(self) -> u32 {
        match self {
            FrameSize::Bytes2048 => 11,
            FrameSize::Bytes4096 => 12,
        }
    }
}

/// Whether the memory should be of 2 MiB pages, which saves TLB misses (a UMEM of 16,384 chunks of 2 KiB is 8,192 small
/// pages or 16 huge ones).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    /// Ordinary pages.
    No,
    /// Huge pages if some are reserved, else ordinary ones; [`Umem::huge_pages`] says which it became.
    Prefer,
    /// Huge pages or an error.
    Require,
}

/// What a UMEM should be.
#[derive(Debug, Clone, Copy)]
pub struct UmemConfig {
    /// Number of chunks. For each socket count its fill, rx and tx ring sizes, and add what is in the program's
    /// hands. Default 16,384.
    pub frames: u32,
    /// Size of each. Default 2048.
    pub frame_size: FrameSize,
    /// Bytes that the kernel leaves free in front of each received frame, beyond [`KERNEL_HEADROOM`]. Default 0: 256
    /// bytes hold every encapsulation that is in use.
    pub headroom: u16,
    /// Default [`HugePages::Prefer`].
    pub huge_pages: HugePages,
    /// Back it by a memfd, which another process can be handed ([`Umem::memfd`], [`Umem::adopt`]). Default false.
    pub memfd: bool,
}

impl Default for UmemConfig {
    fn default() -> Self {
        UmemConfig {
            frames: 16_384,
            frame_size: FrameSize::Bytes2048,
            headroom: 0,
            huge_pages: HugePages::Prefer,
            memfd: false,
        }
    }
}

impl UmemConfig {
    fn check(&self) -> Result<(), Error> {
        if self.frames == 0 {
            return Err(Error::invalid("UMEM frames", "expected at least 1, got 0"));
        }
        // The kernel refuses headroom >= chunk - XDP_PACKET_HEADROOM (net/xdp/xdp_umem.c); and a chunk that cannot
        // hold an Ethernet frame of MTU 1500 with two VLAN tags (1522 bytes) is a trap.
        let room = self.frame_size.bytes() - KERNEL_HEADROOM;
        let limit = room - 1522;
        if usize::from(self.headroom) > limit {
            return Err(Error::invalid(
                "UMEM headroom",
                format!(
                    "expected at most {limit} bytes with chunks of {}, got {}",
                    self.frame_size.bytes(),
                    self.headroom
                ),
            ));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        // At most 2^32 * 2^12: fits a u64 and thus a usize, AF_XDP being of 64-bit machines here.
        (self.frames as usize) << self.frame_size.shift()
    }

    fn subject(&self) -> String {
        format!("UMEM of {} frames of {} bytes ({} MiB)", self.frames, self.frame_size.bytes(), self.bytes() >> 20)
    }
}

/// Memory for frames. See the [module](self).
#[derive(Debug)]
pub struct Umem {
    id: u32,
    memory: MmapRaw,
    config: UmemConfig,
    huge: bool,
    memfd: Option<OwnedFd>,
    /// Chunks that went away with a socket that was dropped: the kernel had them.
    lost: AtomicU64,
    /// Sockets that are bound with this memory, so that the next one can share the registration.
    sockets: Mutex<Vec<(Weak<OwnedFd>, PeerMode)>>,
}

impl Umem {
    /// Maps the memory, and makes the pool that holds every one of its frames.
    ///
    /// The memory is faulted in here, so that no page fault comes later. It is kept out of core dumps (it is other
    /// people's traffic) and out of forked children.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a configuration that cannot be; [`Error::System`] if there is no memory (or no huge
    /// pages, where they are required).
    ///
    /// # Examples
    /// ```
    /// use af_xdp::{HugePages, Umem, UmemConfig};
    ///
    /// let config = UmemConfig { frames: 64, huge_pages: HugePages::No, ..UmemConfig::default() };
    /// let (umem, mut pool) = Umem::new(config)?;
    /// let mut frame = pool.take().ok_or("the pool is empty")?;
    /// umem.write(&mut frame, b"sixty bytes of Ethernet")?;
    /// assert_eq!(umem.bytes(&frame), b"sixty bytes of Ethernet");
    /// assert_eq!(pool.free(), 63);
    /// pool.give(frame).map_err(|_| "of another UMEM")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(config: UmemConfig) -> Result<(Arc<Umem>, FramePool), Error> {
        config.check()?;
        let (memory, memfd, huge) = match config.huge_pages {
            HugePages::No => Self::map(&config, false)?,
            HugePages::Require => Self::map(&config, true)?,
            HugePages::Prefer => match Self::map(&config, true) {
                Ok(mapped) => mapped,
                Err(_) => Self::map(&config, false)?,
            },
        };
        let umem = Self::finish(config, memory, memfd, huge)?;
        let pool = FramePool::full(&umem);
        Ok((umem, pool))
    }

    /// Maps a UMEM that another process made with [`UmemConfig::memfd`], and a pool that is empty.
    ///
    /// The chunks belong to whoever held them: the sockets, taken over by [`crate::Socket::adopt`], bring theirs as
    /// they receive and complete. What the former process held in its own hands is lost to this one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the memfd is not sealed against shrinking, or smaller than `config` says.
    ///
    /// # Safety
    /// Nobody else may touch the memory from now on: neither another process (its maker is dead, or has stopped) nor
    /// another `Umem` of this one. Otherwise bytes would change under a `&[u8]`.
    pub unsafe fn adopt(memfd: OwnedFd, config: UmemConfig) -> Result<(Arc<Umem>, FramePool), Error> {
        config.check()?;
        let file = File::from(memfd);
        let found = file.metadata().map_err(|source| Error::from_io("fstat(memfd)", config.subject(), source))?;
        let memfd = OwnedFd::from(file);
        let len = config.bytes() as u64;
        // Without the seal another process could shrink it, and our next access would be SIGBUS.
        // SAFETY: F_GET_SEALS reads no memory.
        let seals = unsafe { libc::fcntl(memfd.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 || seals & libc::F_SEAL_SHRINK == 0 {
            let why = "expected a memfd made by `Umem::new`, which is sealed against shrinking";
            return Err(Error::invalid("UMEM memfd", why));
        }
        if found.len() < len {
            return Err(Error::invalid("UMEM memfd", format!("expected at least {len} bytes, got {}", found.len())));
        }
        // A memfd's block size is the size of its pages.
        let huge = found.blksize() > 4096;
        let memory = MmapOptions::new().len(round(config.bytes(), huge)).map_raw(&memfd);
        let memory = memory.map_err(|source| Error::from_io("mmap(memfd)", config.subject(), source))?;
        let umem = Self::finish(config, memory, Some(memfd), huge)?;
        let pool = FramePool::empty(&umem);
        Ok((umem, pool))
    }

    fn map(config: &UmemConfig, huge: bool) -> Result<(MmapRaw, Option<OwnedFd>, bool), Error> {
        let len = round(config.bytes(), huge);
        if config.memfd {
            let memfd = make_memfd(len, huge, config)?;
            let memory = MmapOptions::new().len(len).map_raw(&memfd);
            let memory = memory.map_err(|source| Error::from_io("mmap(memfd)", config.subject(), source))?;
            // Here a huge page that is not there shows itself as an error instead of as a SIGBUS later.
            let populated = memory.advise(Advice::PopulateWrite);
            populated.map_err(|source| Error::from_io("madvise(MADV_POPULATE_WRITE)", config.subject(), source))?;
            return Ok((memory, Some(memfd), huge));
        }
        let mut options = MmapOptions::new();
        options.len(len);
        if huge {
            // 2^21 bytes = 2 MiB.
            options.huge(Some(21));
        }
        let call = if huge { "mmap(MAP_HUGETLB)" } else { "mmap" };
        let memory = options.map_anon().map_err(|source| Error::from_io(call, config.subject(), source))?;
        let memory = MmapRaw::from(memory);
        if !huge && config.huge_pages == HugePages::Prefer {
            // Transparent huge pages are the second best, where the kernel has any; no promise, so no error.
            let _ = memory.advise(Advice::HugePage);
        }
        let populated = memory.advise(Advice::PopulateWrite);
        populated.map_err(|source| Error::from_io("madvise(MADV_POPULATE_WRITE)", config.subject(), source))?;
        Ok((memory, None, huge))
    }

    fn finish(config: UmemConfig, memory: MmapRaw, memfd: Option<OwnedFd>, huge: bool) -> Result<Arc<Umem>, Error> {
        // Both are courtesies: a kernel that knows neither still forwards.
        let _ = memory.advise(Advice::DontDump);
        let _ = memory.advise(Advice::DontFork);
        let id = NEXT_ID.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1));
        let id = id.map_err(|_| Error::invalid("UMEM", "2^32 of them have been made in this process"))?;
        let (lost, sockets) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        Ok(Arc::new(Umem { id, memory, config, huge, memfd, lost, sockets }))
    }

    /// Which UMEM of this process: never used twice.
    #[inline]
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Number of frames.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.config.frames
    }

    /// Size of each frame's chunk, in bytes.
    #[inline]
    #[must_use]
    pub fn frame_size(&self) -> usize {
        self.config.frame_size.bytes()
    }

    /// Where the kernel puts the first byte of a received frame, and where [`Umem::write`] puts it: bytes from the
    /// beginning of the chunk.
    #[inline]
    #[must_use]
    pub fn data_start(&self) -> usize {
        KERNEL_HEADROOM + usize::from(self.config.headroom)
    }

    /// The longest frame that can be received, in bytes.
    #[must_use]
    pub fn max_frame_len(&self) -> usize {
        self.frame_size() - self.data_start()
    }

    /// What it was made with.
    #[must_use]
    pub fn config(&self) -> &UmemConfig {
        &self.config
    }

    /// Whether it is of reserved 2 MiB pages.
    #[must_use]
    pub fn huge_pages(&self) -> bool {
        self.huge
    }

    /// The memory's descriptor, if it has one, to be handed to another process.
    #[must_use]
    pub fn memfd(&self) -> Option<BorrowedFd<'_>> {
        self.memfd.as_ref().map(AsFd::as_fd)
    }

    /// Frames that were in the kernel's hands when their socket was dropped. They cannot be used again.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The data of a frame; nothing if the frame is of another UMEM.
    #[inline]
    #[must_use]
    pub fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        if frame.umem() != self.id {
            return &[];
        }
        let data = self.pointer(frame, frame.start());
        // SAFETY: `pointer` gives the frame's data inside the mapping, `start + len <= size` holds for every frame,
        // the mapping lives as long as `self`, and nobody writes: the kernel does not have the chunk (a `Frame`
        // exists), and every other way to it needs `&mut Frame`.
        unsafe { std::slice::from_raw_parts(data, frame.len()) }
    }

    /// The data of a frame, to be changed in place; nothing if the frame is of another UMEM.
    #[inline]
    #[must_use]
    pub fn bytes_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        if frame.umem() != self.id {
            return &mut [];
        }
        let data = self.pointer(frame, frame.start());
        // SAFETY: as in `bytes`; and the frame is borrowed mutably, so this is the only reference into its chunk.
        unsafe { std::slice::from_raw_parts_mut(data, frame.len()) }
    }

    /// The whole chunk of a frame, so that a header may grow in front or a trailer behind; the data is at
    /// `frame.start() .. frame.start() + frame.len()`. Afterwards say where it is now: [`Frame::set_range`]. Nothing if
    /// the frame is of another UMEM.
    #[inline]
    #[must_use]
    pub fn chunk_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        if frame.umem() != self.id {
            return &mut [];
        }
        let chunk = self.pointer(frame, 0);
        // SAFETY: a frame's chunk lies wholly in the mapping; uniqueness as in `bytes_mut`.
        unsafe { std::slice::from_raw_parts_mut(chunk, frame.size()) }
    }

    /// Copies `data` into a frame, beginning where the kernel would, and sets its range.
    ///
    /// # Errors
    /// [`crate::OutOfChunk`] if it is longer than [`Umem::max_frame_len`], or the frame is of another UMEM; then
    /// nothing has changed.
    pub fn write(&self, frame: &mut Frame, data: &[u8]) -> Result<(), crate::OutOfChunk> {
        let start = self.data_start();
        let room = self.chunk_mut(frame).get_mut(start..).and_then(|room| room.get_mut(..data.len()));
        room.ok_or(crate::OutOfChunk)?.copy_from_slice(data);
        frame.set_range(start, data.len())
    }

    /// Address of a byte of a frame's chunk, `offset <= size`, the frame being of this UMEM.
    #[inline]
    fn pointer(&self, frame: &Frame, offset: usize) -> *mut u8 {
        let address = frame.chunk() as usize * frame.size() + offset;
        // SAFETY: frames are minted with a chunk below `frames` and the chunks' size, the mapping holds `frames * size` bytes, and
        // `offset` is at most the chunk's size, so the result is inside the mapping or one past its end.
        unsafe { self.memory.as_mut_ptr().add(address) }
    }

    /// The frame that a descriptor of the kernel speaks of, if it lies inside the UMEM.
    ///
    /// The caller is a ring that has just taken this descriptor from the kernel: with it came the right to the chunk.
    #[inline]
    pub(crate) fn mint(&self, address: u64, len: u32) -> Option<Frame> {
        let (chunk, start) = self.locate(address)?;
        let size = self.frame_size();
        if start + len as usize > size {
            return None;
        }
        // Both are at most `size`, which is at most 4096.
        Some(Frame::mint(self.id, chunk, start as u16, len as u16, size as u16))
    }

    /// The empty frame of a chunk that the calling pool or ring holds.
    #[inline]
    pub(crate) fn mint_empty(&self, chunk: u32) -> Frame {
        self.minter()(chunk)
    }

    /// What makes empty frames of many chunks, each held by the calling pool or ring.
    #[inline]
    pub(crate) fn minter(&self) -> impl Fn(u32) -> Frame + use<> {
        let (id, start, size) = (self.id, self.data_start() as u16, self.frame_size() as u16);
        move |chunk| Frame::mint(id, chunk, start, 0, size)
    }

    /// Chunk and offset of a kernel's address, if it is inside.
    #[inline]
    pub(crate) fn locate(&self, address: u64) -> Option<(u32, usize)> {
        let chunk = address >> self.config.frame_size.shift();
        let offset = address as usize & (self.frame_size() - 1);
        (chunk < u64::from(self.config.frames)).then_some((chunk as u32, offset))
    }

    /// The kernel's address of the beginning of a chunk.
    #[inline]
    pub(crate) fn address(&self, chunk: u32) -> u64 {
        u64::from(chunk) << self.config.frame_size.shift()
    }

    pub(crate) fn base(&self) -> u64 {
        self.memory.as_mut_ptr() as u64
    }

    pub(crate) fn subject(&self) -> String {
        self.config.subject()
    }

    pub(crate) fn add_lost(&self, frames: u64) {
        self.lost.fetch_add(frames, Ordering::Relaxed);
    }

    /// Runs `open` with the sockets that have this memory registered and are still open, and remembers the one it
    /// makes.
    pub(crate) fn with_peers<T>(
        &self,
        open: impl FnOnce(&[Peer]) -> Result<(T, Arc<OwnedFd>, PeerMode), Error>,
    ) -> Result<T, Error> {
        // Held while binding, so that of two threads only one registers. Nothing in it can be left half done by a
        // panic.
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|(socket, _)| socket.strong_count() > 0);
        let peers: Vec<Peer> =
            sockets.iter().filter_map(|(fd, mode)| fd.upgrade().map(|fd| Peer { fd, mode: *mode })).collect();
        let (made, fd, mode) = open(&peers)?;
        sockets.push((Arc::downgrade(&fd), mode));
        Ok(made)
    }
}

/// How a socket of this UMEM is bound: a later one that shares its registration gets the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerMode {
    pub interface: u32,
    pub queue: u32,
    pub zero_copy: bool,
    pub need_wakeup: bool,
    pub multi_buffer: bool,
}

/// A socket that has this memory registered.
#[derive(Debug)]
pub(crate) struct Peer {
    pub fd: Arc<OwnedFd>,
    pub mode: PeerMode,
}

/// Huge mappings come in whole huge pages.
fn round(len: usize, huge: bool) -> usize {
    let page = if huge { 2 << 20 } else { 4096 };
    len.next_multiple_of(page)
}

fn make_memfd(len: usize, huge: bool, config: &UmemConfig) -> Result<OwnedFd, Error> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | if huge { libc::MFD_HUGETLB } else { 0 };
    // SAFETY: the name is a C string literal.
    let fd = unsafe { libc::memfd_create(c"af-xdp-umem".as_ptr(), flags) };
    if fd < 0 {
        return Err(Error::last("memfd_create", config.subject()));
    }
    // SAFETY: the call above made it, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: changes the size of a file; no memory of ours is involved.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) } != 0 {
        return Err(Error::last("ftruncate(memfd)", config.subject()));
    }
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: F_ADD_SEALS takes an integer.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(Error::last("fcntl(F_ADD_SEALS)", config.subject()));
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> UmemConfig {
        UmemConfig { frames: 16, huge_pages: HugePages::No, ..UmemConfig::default() }
    }

    #[test]
    fn everything_moves_between_threads_and_memory_is_shared() {
        fn moves<T: Send>() {}
        fn is_shared<T: Sync>() {}
        moves::<Frame>();
        moves::<FramePool>();
        moves::<crate::Socket>();
        moves::<Arc<Umem>>();
        is_shared::<Umem>();
    }

    #[test]
    fn every_chunk_is_its_own() {
        for frame_size in [FrameSize::Bytes2048, FrameSize::Bytes4096] {
            let (umem, mut pool) = Umem::new(UmemConfig { frame_size, ..small() }).unwrap();
            let mut frames: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
            assert_eq!(frames.len(), 16);
            for (tag, frame) in frames.iter_mut().enumerate() {
                umem.chunk_mut(frame).fill(tag as u8);
            }
            for (tag, frame) in frames.iter_mut().enumerate() {
                frame.set_range(0, frame_size.bytes()).unwrap();
                assert!(umem.bytes(frame).iter().all(|&byte| byte == tag as u8), "chunk {tag}");
            }
            pool.give_all(&mut frames);
            assert_eq!((frames.len(), pool.free()), (0, 16));
        }
    }

    #[test]
    fn a_frame_shows_nothing_in_another_umem() {
        let (one, mut pool) = Umem::new(small()).unwrap();
        let (two, mut other) = Umem::new(small()).unwrap();
        let mut frame = pool.take().unwrap();
        one.write(&mut frame, &[7; 60]).unwrap();
        assert!(two.bytes(&frame).is_empty() && two.bytes_mut(&mut frame).is_empty());
        assert!(two.chunk_mut(&mut frame).is_empty());
        assert_eq!(two.write(&mut frame, &[1]), Err(crate::OutOfChunk));
        let frame = other.give(frame).expect_err("taken by the wrong pool");
        assert_eq!(one.bytes(&frame), [7; 60]);
        pool.give(frame).unwrap();
    }

    #[test]
    fn grows_at_both_ends() {
        let (umem, mut pool) = Umem::new(UmemConfig { headroom: 64, ..small() }).unwrap();
        let mut frame = pool.take().unwrap();
        umem.write(&mut frame, b"middle").unwrap();
        assert_eq!(frame.start(), 320);
        let (start, len) = (frame.start(), frame.len());
        let chunk = umem.chunk_mut(&mut frame);
        chunk[start - 6..start].copy_from_slice(b"front ");
        chunk[start + len..start + len + 5].copy_from_slice(b" back");
        frame.set_range(start - 6, len + 11).unwrap();
        assert_eq!(umem.bytes(&frame), b"front middle back");
        pool.give(frame).unwrap();
    }

    #[test]
    fn too_long_is_refused() {
        let (umem, mut pool) = Umem::new(small()).unwrap();
        let mut frame = pool.take().unwrap();
        let most = umem.max_frame_len();
        assert_eq!(umem.write(&mut frame, &vec![0; most + 1]), Err(crate::OutOfChunk));
        assert_eq!(umem.write(&mut frame, &vec![0; most]), Ok(()));
        pool.give(frame).unwrap();
    }

    #[test]
    fn descriptors_outside_are_not_minted() {
        let (umem, _pool) = Umem::new(small()).unwrap();
        for (address, len) in [(16 * 2048, 0), (u64::MAX, 0), (u64::MAX, u32::MAX), (0, 2049), (256, 1793), (2047, 2)] {
            assert!(umem.mint(address, len).is_none(), "{address} + {len}");
        }
        let frame = umem.mint(15 * 2048 + 256, 1792).unwrap();
        assert_eq!((frame.chunk(), frame.start(), frame.len()), (15, 256, 1792));
        frame.surrender();
    }

    #[test]
    fn nonsense_is_refused_with_the_limit() {
        for (config, part) in [
            (UmemConfig { frames: 0, ..small() }, "at least 1"),
            (UmemConfig { headroom: 271, ..small() }, "at most 270"),
        ] {
            let text = Umem::new(config).expect_err("accepted").to_string();
            assert!(text.contains(part), "{text}");
        }
        assert!(Umem::new(UmemConfig { headroom: 270, ..small() }).is_ok());
    }

    #[test]
    fn huge_pages_are_what_was_asked_for_or_said_not_to_be() {
        for memfd in [false, true] {
            let config = UmemConfig { frames: 1500, memfd, ..small() };
            let (umem, mut pool) = Umem::new(UmemConfig { huge_pages: HugePages::Prefer, ..config }).unwrap();
            let mut frame = pool.take().unwrap();
            umem.write(&mut frame, b"works either way").unwrap();
            pool.give(frame).unwrap();
            let reserved = umem.huge_pages();
            drop((umem, pool));
            match Umem::new(UmemConfig { huge_pages: HugePages::Require, ..config }) {
                Ok((umem, _)) => assert!(umem.huge_pages()),
                Err(error) => {
                    assert!(!reserved, "there were some a moment ago: {error}");
                    assert!(error.to_string().contains("vm.nr_hugepages"), "{error}");
                }
            }
            assert!(!Umem::new(config).unwrap().0.huge_pages());
        }
    }

    #[test]
    fn a_successor_sees_the_same_bytes() {
        let config = UmemConfig { memfd: true, ..small() };
        let (umem, mut pool) = Umem::new(config).unwrap();
        let mut frame = pool.take().unwrap();
        umem.write(&mut frame, b"survives").unwrap();
        let chunk = frame.chunk();
        pool.give(frame).unwrap();
        let fd = umem.memfd().unwrap().try_clone_to_owned().unwrap();
        drop((umem, pool));

        // SAFETY: the first user has just been dropped.
        let (umem, pool) = unsafe { Umem::adopt(fd, config) }.unwrap();
        assert_eq!(pool.free(), 0);
        let frame = umem.mint(umem.address(chunk) + 256, 8).unwrap();
        assert_eq!(umem.bytes(&frame), b"survives");
        frame.surrender();
    }

    #[test]
    fn a_wrong_memfd_is_refused() {
        let file = File::open("/proc/self/exe").unwrap();
        // SAFETY: nothing comes of it.
        let refused = unsafe { Umem::adopt(file.into(), small()) };
        assert!(matches!(refused, Err(Error::Invalid { .. })));
        let (umem, _pool) = Umem::new(UmemConfig { memfd: true, ..small() }).unwrap();
        let fd = umem.memfd().unwrap().try_clone_to_owned().unwrap();
        // SAFETY: nothing comes of it.
        let refused = unsafe { Umem::adopt(fd, UmemConfig { frames: 17, ..small() }) };
        let text = refused.expect_err("accepted").to_string();
        assert!(text.contains("expected at least 34816 bytes, got 32768"), "{text}");
    }
}
