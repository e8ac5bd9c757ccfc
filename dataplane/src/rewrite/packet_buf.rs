//! A frame inside its chunk, so that an answer may be longer or shorter than what it answers, and a packet wrapped
//! or unwrapped where it lies.

use crate::reason::Reason;

/// ```text
///  room   | headroom |            frame             | tailroom |
///         0          start              start + len
/// ```
#[derive(Debug)]
pub struct PacketBuf<'a> {
    room: &'a mut [u8],
    start: usize,
    len: usize,
}

impl<'a> PacketBuf<'a> {
    /// The `len` bytes from byte `start` of a chunk, if they lie inside it.
    #[inline]
    #[must_use]
    pub fn new(room: &'a mut [u8], start: usize, len: usize) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= room.len()).then_some(PacketBuf { room, start, len })
    }

    /// Where the frame starts in its chunk, in bytes.
    #[inline]
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Length of the frame in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the frame has no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The frame.
    #[inline]
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        // `new` and `resize` keep it inside the room, so the default is never taken.
        self.room.get(self.start..self.start + self.len).unwrap_or_default()
    }

    /// The frame, to be written.
    #[inline]
    #[must_use]
    pub fn frame_mut(&mut self) -> &mut [u8] {
        self.room.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Lets the frame grow by `more` bytes in front, into the headroom. They hold whatever was there.
    ///
    /// # Errors
    ///
    /// [`Giant`](Reason::Giant) if there is less headroom.
    pub fn grow_front(&mut self, more: usize) -> Result<(), Reason> {
        self.start = self.start.checked_sub(more).ok_or(Reason::Giant)?;
        self.len += more;
        Ok(())
    }

    /// Cuts `less` bytes off the frame's front.
    ///
    /// # Errors
    ///
    /// [`Runt`](Reason::Runt) if it has not so many.
    pub fn cut_front(&mut self, less: usize) -> Result<(), Reason> {
        self.len = self.len.checked_sub(less).ok_or(Reason::Runt)?;
        self.start += less;
        Ok(())
    }

    /// Cuts the frame's end off, or lets it grow into the tailroom by zeros.
    ///
    /// # Errors
    ///
    /// [`Giant`](Reason::Giant) if the chunk has no room for `len` bytes from the frame's start.
    pub fn resize(&mut self, len: usize) -> Result<(), Reason> {
        let room = self.room.get_mut(self.start..).unwrap_or_default();
        if len > room.len() {
            return Err(Reason::Giant);
        }
        if let Some(grown) = room.get_mut(self.len..len) {
            grown.fill(0);
        }
        self.len = len;
        Ok(())
    }
}
