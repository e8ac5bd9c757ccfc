//! Frames that nobody uses at the moment.
//!
//! One owner, no lock: each worker has its own pool ([`FramePool::split`]), from which it tops up its sockets' fill
//! rings, and into which completed and dropped frames go. Frames may come back to another pool than they were taken
//! from (a frame received by one worker and sent by another); each pool has room for all frames of the UMEM, so
//! nothing is ever allocated after construction.
//!
//! Last in, first out: the frame given back last is the one most likely still in the cache.

use std::sync::Arc;

use crate::frame::Frame;
use crate::umem::Umem;

/// Free frames of one UMEM. See the [module](self).
///
/// Dropping a pool drops its frames with it: nobody can have them again.
#[derive(Debug)]
pub struct FramePool {
    umem: Arc<Umem>,
    /// Chunk numbers; the pool holds the only right to each.
    free: Vec<u32>,
}

impl FramePool {
    /// The one pool that has every chunk; called once for a UMEM, before anybody else can know it.
    pub(crate) fn full(umem: &Arc<Umem>) -> Self {
        let mut pool = Self::empty(umem);
        // Backwards, so that frames are taken in the order of their addresses at first.
        pool.free.extend((0..umem.frames()).rev());
        pool
    }

    /// A pool without frames, for a worker that is given some later.
    #[must_use]
    pub fn empty(umem: &Arc<Umem>) -> Self {
        FramePool { umem: Arc::clone(umem), free: Vec::with_capacity(umem.frames() as usize) }
    }

    /// The UMEM that these frames are of.
    #[inline]
    #[must_use]
    pub fn umem(&self) -> &Arc<Umem> {
        &self.umem
    }

    /// Number of frames in the pool.
    #[inline]
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a frame: empty, its data beginning at [`Umem::data_start`]. `None` if there is none left. Its bytes are
    /// those of whoever had it last.
    #[inline]
    pub fn take(&mut self) -> Option<Frame> {
        self.free.pop().map(|chunk| self.umem.mint_empty(chunk))
    }

    /// Takes up to `max` frames into `into`, and says how many. Allocates only if `into` has no room for them.
    pub fn take_many(&mut self, into: &mut Vec<Frame>, max: usize) -> usize {
        let count = max.min(self.free.len());
        let mint = self.umem.minter();
        into.extend(self.free.drain(self.free.len() - count..).rev().map(mint));
        count
    }

    /// Takes a frame back.
    ///
    /// # Errors
    /// The frame itself, if it is of another UMEM.
    #[inline]
    pub fn give(&mut self, frame: Frame) -> Result<(), Frame> {
        if frame.umem() != self.umem.id() {
            return Err(frame);
        }
        self.free.push(frame.surrender());
        Ok(())
    }

    /// Takes all frames back, leaving those of another UMEM, and says how many it took.
    pub fn give_all(&mut self, from: &mut Vec<Frame>) -> usize {
        let (before, mine) = (from.len(), self.umem.id());
        // All are looked at, whatever they are: a circle without a way out is taken several at a time.
        let strangers = from.iter().fold(0, |strangers, frame| strangers | frame.umem() ^ mine);
        // There never are any; those there were would go to the beginning.
        let foreign = if strangers == 0 { 0 } else { partition(from, |frame| frame.umem() != mine) };
        self.free.extend(from.drain(foreign..).map(Frame::surrender));
        before - foreign
    }

    /// Takes `count` frames out into a pool of their own, or all if there are fewer.
    #[must_use]
    pub fn split(&mut self, count: usize) -> FramePool {
        let mut other = Self::empty(&self.umem);
        let keep = self.free.len().saturating_sub(count);
        other.free.extend(self.free.drain(keep..));
        other
    }

    /// Takes all frames of another pool of the same UMEM.
    ///
    /// # Errors
    /// The other pool, if it is of another UMEM.
    pub fn merge(&mut self, mut other: FramePool) -> Result<(), FramePool> {
        if other.umem.id() != self.umem.id() {
            return Err(other);
        }
        self.free.append(&mut other.free);
        Ok(())
    }

    /// A chunk's number for a ring that will own it.
    #[inline]
    pub(crate) fn take_chunk(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// A chunk that a ring of this UMEM owned.
    #[inline]
    pub(crate) fn give_chunk(&mut self, chunk: u32) {
        self.free.push(chunk);
    }
}

/// Puts those that are `first` before the others, in place, and says how many they are.
#[cold]
fn partition(frames: &mut [Frame], first: impl Fn(&Frame) -> bool) -> usize {
    let mut count = 0;
    for index in 0..frames.len() {
        if frames.get(index).is_some_and(&first) {
            frames.swap(count, index);
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::umem::{HugePages, UmemConfig};
    use proptest::prelude::*;

    fn pool(frames: u32) -> FramePool {
        Umem::new(UmemConfig { frames, huge_pages: HugePages::No, ..UmemConfig::default() }).unwrap().1
    }

    #[test]
    fn splits_and_merges() {
        let mut all = pool(10);
        let mut some = all.split(4);
        assert_eq!((all.free(), some.free()), (6, 4));
        assert_eq!(all.split(99).free(), 6);
        assert_eq!(some.take_many(&mut Vec::new(), 0), 0);
        let other = pool(1);
        assert!(some.merge(other).is_err());
        let more = pool(3);
        assert!(more.umem().id() != some.umem().id());
    }

    #[test]
    fn foreign_frames_stay() {
        let (mut mine, mut theirs) = (pool(4), pool(4));
        let mut frames = Vec::new();
        mine.take_many(&mut frames, 2);
        theirs.take_many(&mut frames, 2);
        mine.take_many(&mut frames, 2);
        assert_eq!(mine.give_all(&mut frames), 4);
        assert_eq!((frames.len(), mine.free()), (2, 4));
        assert!(frames.iter().all(|frame| frame.umem() == theirs.umem().id()));
        assert_eq!(theirs.give_all(&mut frames), 2);
        assert_eq!(theirs.free(), 4);
    }

    proptest! {
        /// Whatever is taken and given among two pools and two hands, each chunk is in one place.
        #[test]
        fn conserves_frames(operations in prop::collection::vec((0u8..6, 0usize..9), 0..200)) {
            let mut pools = vec![pool(16)];
            let second = pools[0].split(5);
            pools.push(second);
            let mut hands = Vec::with_capacity(16);
            for (operation, count) in operations {
                let which = usize::from(operation & 1);
                match operation / 2 {
                    0 => { pools[which].take_many(&mut hands, count); }
                    1 => {
                        let keep = hands.len().saturating_sub(count);
                        let mut some = hands.split_off(keep);
                        pools[which].give_all(&mut some);
                    }
                    _ => hands.extend(pools[which].take()),
                }
                prop_assert_eq!(pools[0].free() + pools[1].free() + hands.len(), 16);
                let mut chunks: Vec<u32> = hands.iter().map(Frame::chunk).collect();
                chunks.extend(pools.iter().flat_map(|pool| &pool.free));
                chunks.sort_unstable();
                prop_assert_eq!(chunks, (0..16).collect::<Vec<u32>>());
                prop_assert!(pools.iter().all(|pool| pool.free.capacity() == 16), "a pool has grown");
            }
            pools[0].give_all(&mut hands);
        }
    }
}
