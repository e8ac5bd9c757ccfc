//! A frame: the right to read and write one chunk of a UMEM.
//!
//! ```text
//!  chunk (2048 or 4096 bytes, aligned to its size)
//!  |<--- start --->|<------ len ------>|                  |
//!  +---------------+-------------------+------------------+
//!  | room in front |  Ethernet frame   |  room behind     |
//!  +---------------+-------------------+------------------+
//!   256 bytes that the kernel leaves (XDP_PACKET_HEADROOM) plus the configured headroom
//! ```
//!
//! A [`Frame`] is a token: neither `Clone` nor `Copy`, and only a pool or a ring of this crate can make one. Whoever
//! holds it is the only one who can reach these bytes, so `&mut Frame` is as good as `&mut` on the chunk: no lock, no
//! reference count, no check at run time but "is it of this UMEM?". It is 16 bytes, moves between threads, and gives
//! up its chunk in exactly three ways: to a [`crate::FramePool`], to a socket, or by being dropped. The last one
//! loses the chunk until the UMEM is unmapped. That is safe, but it is a mistake, so it is counted:
//! [`Frame::leaked`].

//!
//! What must not compile, does not. A frame cannot be given back twice:
//!
//! ```compile_fail,E0382
//! # fn twice(pool: &mut af_xdp::FramePool, frame: af_xdp::Frame) {
//! let _ = pool.give(frame);
//! let _ = pool.give(frame);
//! # }
//! ```
//!
//! nor doubled, nor read while it is written, nor made out of nothing:
//!
//! ```compile_fail,E0599
//! # fn doubled(frame: &af_xdp::Frame) {
//! let twin: af_xdp::Frame = frame.clone();
//! # }
//! ```
//!
//! ```compile_fail,E0502
//! # fn both(umem: &af_xdp::Umem, frame: &mut af_xdp::Frame) {
//! let reader = umem.bytes(frame);
//! umem.bytes_mut(frame)[0] = 1;
//! println!("{reader:?}");
//! # }
//! ```
//!
//! ```compile_fail,E0451
//! let forged = af_xdp::Frame { umem: 1, chunk: 0, start: 0, len: 60, size: 2048 };
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

/// Frames dropped in this process instead of being given back. One number for the process: a frame does not know
/// where its UMEM lives, which is what keeps it at 16 bytes and without a reference count.
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// One chunk of a UMEM, owned. See the [module](self).
#[must_use = "a frame that is dropped is lost to its UMEM: give it to a pool or a socket"]
pub struct Frame {
    umem: u32,
    chunk: u32,
    start: u16,
    len: u16,
    /// Size of the chunk, so that a range can be checked without the UMEM at hand. At most 4096.
    size: u16,
}

/// The range asked for does not fit the chunk; the frame is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfChunk;

impl std::fmt::Display for OutOfChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the range does not fit the frame's chunk")
    }
}

impl std::error::Error for OutOfChunk {}

impl Frame {
    /// Makes the token for a chunk.
    ///
    /// The caller is a pool or a ring, which holds the only right to this chunk and gives it up hereby; and has
    /// checked that `chunk` is inside the UMEM and `start + len <= size`. Not `pub`: all soundness of this crate
    /// stands on who calls this.
    #[inline]
    pub(crate) fn mint(umem: u32, chunk: u32, start: u16, len: u16, size: u16) -> Self {
        debug_assert!(u32::from(start) + u32::from(len) <= u32::from(size));
        Frame { umem, chunk, start, len, size }
    }

    /// Ends the token without counting it as leaked; the caller now holds the right to the chunk.
    #[inline]
    pub(crate) fn surrender(self) -> u32 {
        let chunk = self.chunk;
        std::mem::forget(self);
        chunk
    }

    /// Which UMEM: [`crate::Umem::id`].
    #[inline]
    #[must_use]
    pub fn umem(&self) -> u32 {
        self.umem
    }

    /// Index of the chunk in its UMEM. For traces; nothing can be done with it.
    #[inline]
    #[must_use]
    pub fn chunk(&self) -> u32 {
        self.chunk
    }

    /// Where the data begins, in bytes from the beginning of the chunk.
    #[inline]
    #[must_use]
    pub fn start(&self) -> usize {
        usize::from(self.start)
    }

    /// Length of the data in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is no data.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Size of the chunk in bytes.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        usize::from(self.size)
    }

    /// Says where the data is: `len` bytes from `start` on. The bytes are not moved.
    ///
    /// # Errors
    /// [`OutOfChunk`] if `start + len` exceeds the chunk; then nothing has changed.
    #[inline]
    pub fn set_range(&mut self, start: usize, len: usize) -> Result<(), OutOfChunk> {
        let end = start.checked_add(len).ok_or(OutOfChunk)?;
        if end > usize::from(self.size) {
            return Err(OutOfChunk);
        }
        // Both fit: they are at most `size`, which is a u16.
        self.start = start as u16;
        self.len = len as u16;
        Ok(())
    }

    /// Frames dropped in this process since its start instead of being given back. Anything but 0 is a mistake in the
    /// program.
    #[must_use]
    pub fn leaked() -> u64 {
        LEAKED.load(Ordering::Relaxed)
    }
}

impl Drop for Frame {
    #[cold]
    fn drop(&mut self) {
        LEAKED.fetch_add(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame(umem {}, chunk {}, {}+{} of {})", self.umem, self.chunk, self.start, self.len, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_small() {
        assert_eq!(size_of::<Frame>(), 16);
    }

    #[test]
    fn range_is_checked_and_kept_on_refusal() {
        let mut frame = Frame::mint(1, 0, 256, 60, 2048);
        assert_eq!(frame.set_range(2048, 1), Err(OutOfChunk));
        assert_eq!(frame.set_range(usize::MAX, 2), Err(OutOfChunk));
        assert_eq!(frame.set_range(0, 65536 + 10), Err(OutOfChunk));
        assert_eq!((frame.start(), frame.len()), (256, 60));
        assert_eq!(frame.set_range(0, 2048), Ok(()));
        assert_eq!(frame.set_range(2048, 0), Ok(()));
        frame.surrender();
    }

    #[test]
    fn a_dropped_frame_is_counted() {
        let before = Frame::leaked();
        drop(Frame::mint(1, 0, 0, 0, 2048));
        Frame::mint(1, 0, 0, 0, 2048).surrender();
        // Other tests run in this process too, and none of them may leak.
        assert_eq!(Frame::leaked(), before + 1);
    }
}
