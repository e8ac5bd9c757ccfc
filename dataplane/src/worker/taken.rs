//! What other workers have given to this one, a batch at a time.
//!
//! A frame that is handed over lies in the cache of the core that has read it, and comes from there at its first use, which takes
//! as long as from memory. So all frames of a batch are asked for before the first of them is looked at.

use af_xdp::Frame;

use super::handle::Message;
use super::{BATCH, Bench};
use crate::counters::Counter;
use crate::mem::prefetch;

impl Message {
    /// Its frame.
    pub(super) fn frame(&self) -> &Frame {
        match self {
            Message::Process(_, frame)
            | Message::Seek(_, frame, _)
            | Message::Fragment(_, frame)
            | Message::Transmit(_, frame, _)
            | Message::Pass(_, frame) => frame,
        }
    }
}

impl Bench {
    /// Takes what is in the inbox, a batch at most. `taken` is empty.
    #[inline]
    pub(super) fn take(&self, taken: &mut Vec<Message>) {
        let Some(inbox) = self.shared.inboxes.get(self.worker).filter(|inbox| !inbox.is_empty()) else { return };
        while taken.len() < BATCH
            && let Some(message) = inbox.pop()
        {
            if let Some(first) = self.umem.bytes(message.frame()).first() {
                prefetch::read(first);
            }
            taken.push(message);
        }
        self.counters.add(Counter::TakenOver, taken.len() as u64);
    }
}
