//! Counters: one set for each worker, one writer, any number of readers that add up.
//!
//! A worker adds with a load and a store, not with a locked instruction: nobody else writes. `rx` is what came in;
//! `forwarded`, `hairpinned`, `passed` and the drops are the ways in which it ended, and the sums agree whenever the worker is
//! between two batches and holds no frame.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::atomic::{AtomicU64, Ordering};

use levee_api::report;

use crate::reason::Reason;

macro_rules! counters {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $name:literal,)+) => {
        /// What is counted besides drops.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Counter {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl Counter {
            /// Every counter, in order.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant),+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name,)+ }
            }

            /// What it counts.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Counter::$variant => concat!($($meaning),+).trim_ascii(),)+ }
            }
        }
    };
}

counters! {
    /// Frames received, each once, by the worker that took it from a ring.
    Rx = "rx",
    /// Frames sent on, rewritten.
    Forwarded = "forwarded",
    /// Of the forwarded frames, those that took the short way: of an established flow, or given other MACs alone, and nothing had changed about it.
    Established = "forwarded_established",
    /// Of the forwarded frames, SYNs that took the way of those: of IPv4, in `nat` or `dnat`, and nothing special about them.
    Opening = "forwarded_opening",
    /// Frames turned into their own answer.
    Hairpinned = "hairpinned",
    /// Frames given to the kernel through a TAP device.
    Passed = "passed",
    /// Frames given to another worker, which owns their flow or the way out; each ends there.
    HandedOver = "handed_over",
    /// Frames taken from another worker.
    TakenOver = "taken_over",
    /// Frames that wait for a next hop now.
    Waiting = "waiting",
    /// ARP requests answered.
    ArpAnswered = "arp_answered",
    /// Neighbour solicitations answered.
    NdpAnswered = "ndp_answered",
    /// Pings to VIPs answered.
    EchoAnswered = "echo_answered",
    /// TCP resets sent.
    ResetsSent = "resets_sent",
    /// ICMP port unreachable sent.
    UnreachablesSent = "unreachables_sent",
    /// ICMP "fragmentation needed" and ICMPv6 "packet too big" sent.
    TooBigsSent = "too_bigs_sent",
    /// ICMP and ICMPv6 "time exceeded" sent: about packets whose TTL or hop limit ended here.
    TimeExceededsSent = "time_exceededs_sent",
    /// Packets wrapped for a tunnel; among those forwarded.
    Wrapped = "wrapped",
    /// Packets unwrapped that a tunnel's peer had sent; each ends as what it carried does.
    Unwrapped = "unwrapped",
    /// Frames of levee's own sent: gratuitous ARP and unsolicited neighbour advertisements.
    Announced = "announced",
    /// Frames of levee's own that found no room on their way out. Announcements are repeated.
    NotAnnounced = "not_announced",
    /// Flows begun.
    FlowsCreated = "flows_created",
    /// Flows whose time was up.
    FlowsExpired = "flows_expired",
    /// Packets sent on by hash without a flow, because the table was full.
    Untracked = "untracked",
    /// Packets sent on by hash without a flow, because more began at their VIP than `new_flows.per_vip` allows.
    OverLimit = "untracked_over_limit",
    /// Flows begun at the backend that the QUIC connection ID of their first packet names.
    ByConnection = "by_connection_id",
    /// Bytes received.
    RxBytes = "rx_bytes",
    /// Bytes sent on.
    ForwardedBytes = "forwarded_bytes",
}

const COUNTERS: usize = Counter::ALL.len();
const REASONS: usize = Reason::ALL.len();

/// One worker's counters.
#[repr(align(128))]
pub struct Counters {
    counts: [AtomicU64; COUNTERS],
    drops: [AtomicU64; REASONS],
}

impl Default for Counters {
    fn default() -> Self {
        Counters { counts: [const { AtomicU64::new(0) }; COUNTERS], drops: [const { AtomicU64::new(0) }; REASONS] }
    }
}

fn bump(cell: Option<&AtomicU64>, count: u64) {
    if let Some(cell) = cell {
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }
}

impl Counters {
    /// Adds to a counter. Only the owning worker may call this.
    #[inline]
    pub fn add(&self, counter: Counter, count: u64) {
        bump(self.counts.get(counter as usize), count);
    }

    /// Sets a gauge. Only the owning worker may call this.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        if let Some(cell) = self.counts.get(counter as usize) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Counts a dropped frame. Only the owning worker may call this.
    #[inline]
    pub fn note_drop(&self, reason: Reason) {
        bump(self.drops.get(reason as usize), 1);
    }

    /// A counter's value.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counts.get(counter as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Frames dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops.get(reason as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Frames dropped for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        Reason::ALL.iter().map(|reason| self.dropped(*reason)).sum()
    }
}

/// Adds up the counters of all workers.
pub fn report<'a>(workers: impl IntoIterator<Item = &'a Counters>) -> report::Counters {
    let mut sum = report::Counters::default();
    for counter in Counter::ALL {
        sum.totals.insert(counter.name().into(), 0);
    }
    for reason in Reason::ALL {
        sum.drops.insert(reason.name().into(), 0);
    }
    let mut dropped = 0;
    for worker in workers {
        for counter in Counter::ALL {
            *sum.totals.entry(counter.name().into()).or_default() += worker.get(*counter);
        }
        for reason in Reason::ALL {
            *sum.drops.entry(reason.name().into()).or_default() += worker.dropped(*reason);
            dropped += worker.dropped(*reason);
        }
    }
    sum.totals.insert("dropped".into(), dropped);
    sum
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up_and_drops_are_their_sum() {
        let workers = [Counters::default(), Counters::default()];
        workers[0].add(Counter::Rx, 3);
        workers[1].add(Counter::Rx, 4);
        workers[0].note_drop(Reason::Runt);
        workers[1].note_drop(Reason::Runt);
        workers[1].note_drop(Reason::NoRoute);
        let sum = report(&workers);
        assert_eq!(sum.totals["rx"], 7);
        assert_eq!(sum.drops["runt"], 2);
        assert_eq!(sum.totals["dropped"], 3);
    }
}
