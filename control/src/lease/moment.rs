//! A point in time by this machine's own clock, which nobody sets.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since this machine has started, the time for which it slept included (`CLOCK_BOOTTIME`): a machine that wakes up must not
/// believe that it still holds what it held. Every process of a machine has the same, so a deadline can be told to another;
/// it means nothing on another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Moment {
        let time = clock_gettime(ClockId::Boottime);
        // Neither is negative: the clock starts at zero.
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Moment(Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0)))
    }

    /// So long after the machine has started.
    #[must_use]
    pub const fn since_boot(time: Duration) -> Moment {
        Moment(time)
    }

    /// Milliseconds since the machine has started, rounded down: a deadline never becomes a later one.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long after another; nothing if it is not.
    #[must_use]
    pub const fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(time))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s after boot", self.0.as_secs_f64())
    }
}
