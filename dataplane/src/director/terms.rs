//! Terms, as the director keeps them: what was granted, and when it is over by this machine's clock.
//!
//! ```text
//!   PUT /v1/term ─► accept ─► tables name the addresses ─► every worker has them ─► in_force: the deadline moves
//!                                                          nobody comes ─► lapse: tables name none
//! ```
//!
//! The deadline moves only when every worker runs the tables that belong to it. So a worker that still has older ones, which
//! name an address that is another's by now, does not get more time for it; and one that is stuck gets none.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use levee_api::term::Term;
use rustix::time::{ClockId, clock_gettime};

use crate::tables::deadline::Deadline;

/// No term is longer: one that seems to be was measured by another clock.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What others may read of it.
#[derive(Debug, Clone, Default)]
pub struct TermFacts {
    /// Who gave the term that runs.
    pub holder: Option<String>,
    /// When it ends, in milliseconds of `CLOCK_BOOTTIME`.
    pub until: u64,
    /// See [`TermStatus`](levee_api::term::TermStatus).
    pub lapses: u64,
    /// Likewise.
    pub gained: u64,
    /// Likewise.
    pub lost: u64,
}

/// Milliseconds of this machine's `CLOCK_BOOTTIME`.
#[must_use]
pub fn boot_millis() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// See the module's documentation.
pub(super) struct Terms {
    /// The one that runs.
    current: Option<Term>,
    /// The last number, also of one that is over.
    last: Option<(String, u64)>,
    /// What was granted and is not in force in every worker yet.
    pending: bool,
    deadline: Deadline,
    /// Zero of the workers' clock.
    epoch: Instant,
    pub(super) facts: TermFacts,
}

impl Terms {
    pub(super) fn new(deadline: Deadline, epoch: Instant) -> Self {
        Terms { current: None, last: None, pending: false, deadline, epoch, facts: TermFacts::default() }
    }

    /// Takes a term in place of the one before.
    pub(super) fn accept(&mut self, term: Term, now: u64) -> Result<(), String> {
        if let Some((_, last)) =
            self.last.as_ref().filter(|(holder, last)| *holder == term.holder && term.number <= *last)
        {
            return Err(format!("term {} of {} came after its term {last}", term.number, term.holder));
        }
        if term.until.saturating_sub(now) > LONGEST.as_millis() as u64 {
            return Err(format!(
                "a term until {} ms is no term: it is {now} ms of CLOCK_BOOTTIME here; are both in one time namespace of one machine?",
                term.until
            ));
        }
        self.last = Some((term.holder.clone(), term.number));
        let nobody = BTreeSet::new();
        let before = self.addresses().unwrap_or(&nobody);
        let runs = term.until > now;
        let after = if runs { &term.addresses } else { &nobody };
        let (gained, lost) = (after.difference(before).count(), before.difference(after).count());
        self.facts.gained += gained as u64;
        self.facts.lost += lost as u64;
        self.facts.holder = runs.then(|| term.holder.clone());
        self.facts.until = term.until;
        self.current = Some(term).filter(|_| runs);
        self.pending = true;
        Ok(())
    }

    /// What is named now.
    pub(super) fn addresses(&self) -> Option<&BTreeSet<IpAddr>> {
        self.current.as_ref().map(|term| &term.addresses)
    }

    /// Every worker runs the tables that name what was granted last.
    pub(super) fn in_force(&mut self, now: u64) {
        if !std::mem::take(&mut self.pending) {
            return;
        }
        let until = self.current.as_ref().and_then(|term| {
            let left = Duration::from_millis(term.until.saturating_sub(now));
            // Wraps as the workers' clock does.
            (!left.is_zero()).then(|| (self.epoch.elapsed() + left).as_millis() as u32)
        });
        self.deadline.set(until);
    }

    /// If the term is over: who gave it, and how many addresses it named.
    pub(super) fn lapse(&mut self, now: u64) -> Option<(String, usize)> {
        let term = self.current.take_if(|term| term.until <= now)?;
        self.deadline.set(None);
        self.facts.holder = None;
        self.facts.lost += term.addresses.len() as u64;
        self.facts.lapses += u64::from(!term.addresses.is_empty());
        Some((term.holder, term.addresses.len()))
    }

    /// When to look for [`Terms::lapse`] again.
    pub(super) fn next(&self, now: u64) -> Option<Duration> {
        self.current.as_ref().map(|term| Duration::from_millis(term.until.saturating_sub(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(number: u64, until: u64, addresses: &[u8]) -> Term {
        let addresses = addresses.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect();
        Term { holder: "a".into(), number, until, addresses }
    }

    #[test]
    fn a_term_runs_out_by_itself_once() {
        let deadline = Deadline::default();
        let mut terms = Terms::new(deadline.clone(), Instant::now());
        terms.accept(term(1, 1_500, &[1, 2]), 1_000).unwrap();
        assert!(deadline.is_over(0), "not before every worker has the tables");
        terms.in_force(1_000);
        assert!(!deadline.is_over(0) && !deadline.is_over(499) && deadline.is_over(600));
        assert_eq!(terms.next(1_100), Some(Duration::from_millis(400)));
        assert_eq!(terms.lapse(1_499), None);
        assert_eq!(terms.lapse(1_500), Some(("a".into(), 2)));
        assert!(deadline.is_over(0));
        assert_eq!((terms.lapse(1_501), terms.next(1_501)), (None, None));
        assert_eq!((terms.facts.lapses, terms.facts.gained, terms.facts.lost), (1, 2, 2));
    }

    #[test]
    fn late_ones_and_those_of_another_clock_are_refused() {
        let mut terms = Terms::new(Deadline::default(), Instant::now());
        terms.accept(term(5, 2_000, &[1]), 1_000).unwrap();
        assert!(terms.accept(term(5, 9_000, &[1, 2]), 1_000).unwrap_err().contains("came after"));
        assert!(terms.accept(term(6, 1_000_000_000_000, &[1]), 1_000).unwrap_err().contains("time namespace"));
        assert_eq!(terms.addresses().map(BTreeSet::len), Some(1));
        // Another process begins to count anew.
        terms.accept(Term { holder: "b".into(), ..term(1, 2_000, &[2]) }, 1_000).unwrap();
        assert_eq!((terms.facts.gained, terms.facts.lost), (2, 1));
        // In the past: a withdrawal, and no lapse.
        terms.accept(Term { holder: "b".into(), ..term(2, 1, &[2]) }, 1_000).unwrap();
        assert!(terms.addresses().is_none() && terms.lapse(1_000).is_none());
        assert_eq!(terms.facts.lapses, 0);
    }
}
