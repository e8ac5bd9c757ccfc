//! How long a Lease lasts, and when its holder ends by itself.

use std::time::Duration;

/// Times of a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    duration: Duration,
    deadline: Duration,
    retry: Duration,
}

/// Why times make no Lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTerms {
    /// Not what the object can say.
    #[error("a Lease lasts whole seconds, at least 1 and at most {}: not {}", Terms::LONGEST.as_secs(), show(.0))]
    Duration(Duration),
    /// The holder would end too late.
    #[error("a holder must end by itself by {} at the latest: not after {}", show(.latest), show(.deadline))]
    Deadline {
        /// What was asked for.
        deadline: Duration,
        /// What can be had.
        latest: Duration,
    },
    /// Too seldom.
    #[error("a renewal must come at least {} times before the holder ends: not every {}", Terms::TRIES, show(.0))]
    Retry(Duration),
}

fn show(time: &Duration) -> String {
    format!("{} ms", time.as_millis())
}

impl Terms {
    /// What lies between a holder's own end and another's beginning, in percent of the duration and no less than
    /// [`Terms::LEAST_MARGIN`]: two clocks that drift apart by 1 % (a thousand times what NTP allows) need 2, the rest is for
    /// stopping.
    pub const MARGIN: u32 = 15;

    /// See [`Terms::MARGIN`].
    pub const LEAST_MARGIN: Duration = Duration::from_millis(150);

    /// Longest duration.
    pub const LONGEST: Duration = Duration::from_secs(3600);

    /// Renewals that are tried before the holder ends, at least.
    pub const TRIES: u32 = 2;

    /// Checks times: how long the Lease lasts for others (whole seconds, because the object says so), how long after its last
    /// confirmed renewal the holder ends by itself, and how often it renews.
    ///
    /// # Errors
    /// They leave no margin.
    pub fn new(duration: Duration, deadline: Duration, retry: Duration) -> Result<Terms, BadTerms> {
        if duration.is_zero() || duration.subsec_nanos() != 0 || duration > Terms::LONGEST {
            return Err(BadTerms::Duration(duration));
        }
        let latest = duration - (duration * Terms::MARGIN / 100).max(Terms::LEAST_MARGIN);
        if deadline > latest {
            return Err(BadTerms::Deadline { deadline, latest });
        }
        if retry.is_zero() || retry * Terms::TRIES > deadline {
            return Err(BadTerms::Retry(retry));
        }
        Ok(Terms { duration, deadline, retry })
    }

    /// For a leader that is missed by people only: 15 s, 10 s, 2 s, as Kubernetes' own controllers.
    #[must_use]
    pub const fn leader() -> Terms {
        Terms { duration: Duration::from_secs(15), deadline: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }

    /// For a balancer, which is missed at once: 1 s, 750 ms, 200 ms. Somebody else begins within 1.2 s of a death.
    #[must_use]
    pub const fn balancer() -> Terms {
        Terms {
            duration: Duration::from_secs(1),
            deadline: Duration::from_millis(750),
            retry: Duration::from_millis(200),
        }
    }

    /// How long others wait since they saw the Lease change.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// How long after it sent a renewal that was confirmed the holder ends by itself.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How often the holder renews, and others look.
    #[must_use]
    pub const fn retry(&self) -> Duration {
        self.retry
    }

    /// How long to wait for an answer: two can be waited for before the holder ends.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.deadline / 2
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn terms(duration: u64, deadline: u64, retry: u64) -> Result<Terms, BadTerms> {
        Terms::new(Duration::from_millis(duration), Duration::from_millis(deadline), Duration::from_millis(retry))
    }

    #[test]
    fn those_that_are_given_are_good() {
        assert_eq!(terms(15_000, 10_000, 2_000), Ok(Terms::leader()));
        assert_eq!(terms(1_000, 750, 200), Ok(Terms::balancer()));
    }

    #[test]
    fn what_leaves_no_margin_is_refused_with_what_would_do() {
        assert!(matches!(terms(1_500, 750, 200), Err(BadTerms::Duration(_))));
        assert!(matches!(terms(0, 0, 0), Err(BadTerms::Duration(_))));
        let told = terms(1_000, 900, 200).expect_err("too late").to_string();
        assert_eq!(told, "a holder must end by itself by 850 ms at the latest: not after 900 ms");
        assert!(matches!(terms(1_000, 850, 500), Err(BadTerms::Retry(_))));
        assert!(terms(1_000, 850, 425).is_ok());
    }
}
