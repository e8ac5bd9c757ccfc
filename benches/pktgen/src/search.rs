//! The highest load that a device carries.
//!
//! RFC 2544, section 26.1, calls throughput the fastest rate at which as many frames come out as went in, and has it found by
//! trials at a rate that is raised after a success and lowered after a failure. This is that, as a binary search, with two
//! things that the RFC does not have: a loss that is still no failure (0.001 % by default; a veth on a machine that does other
//! things as well loses a frame now and then), and, if asked for, a second chance for a trial that failed. Both are in what it
//! says it found.
//!
//! Nothing here knows of frames: a trial is a function, so that the search is tested against devices whose limit is known.

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// A rate that is worth a trial at the least. If it fails, nothing is found.
    pub lowest: f64,
    /// The first trial's rate, and the highest.
    pub highest: f64,
    /// Ends when success and failure are this part of the rate apart.
    pub precision: f64,
    /// The part of the frames whose loss is still a success.
    pub loss: f64,
    /// How often a trial that failed, or that was not offered what it was meant to be, is tried again before it counts. RFC
    /// 2544: 0.
    pub chances: u32,
}

impl Search {
    /// To one part in a hundred, with a loss of at most 0.001 % and no second chances.
    #[must_use]
    pub fn between(lowest: f64, highest: f64) -> Search {
        Search { lowest, highest, precision: 0.01, loss: 1e-5, chances: 0 }
    }

    /// The same without any loss, as RFC 9693 (section 4.5) wants it.
    #[must_use]
    pub fn lossless(lowest: f64, highest: f64) -> Search {
        Search { loss: 0.0, ..Search::between(lowest, highest) }
    }
}

/// One trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// What was asked for, per second.
    pub rate: f64,
    /// What was really offered, per second.
    pub offered: f64,
    /// What went in.
    pub sent: u64,
    /// What came out.
    pub received: u64,
}

impl Trial {
    /// The part that was lost. More coming out than went in is no loss, and no gain either.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.sent == 0 { 1.0 } else { self.sent.saturating_sub(self.received) as f64 / self.sent as f64 }
    }

    /// Whether it was what it was meant to be. A generator that did not get its core offers less.
    #[must_use]
    pub fn was_offered(&self) -> bool {
        self.offered >= 0.95 * self.rate
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The successful trial of the highest rate; `None` if not even the lowest was one.
    pub best: Option<Trial>,
    /// Whether the search ended at what can be offered, or at its own highest rate, and not at what the device can do: it may
    /// do more.
    pub device_may_do_more: bool,
    /// All trials in their order.
    pub trials: Vec<Trial>,
}

impl Found {
    /// The rate really offered in the best trial; 0 if there is none.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.best.map_or(0.0, |trial| trial.offered)
    }
}

impl Search {
    /// Searches.
    ///
    /// # Errors
    /// The first error of a trial.
    pub fn run<E>(&self, mut trial: impl FnMut(f64) -> Result<Trial, E>) -> Result<Found, E> {
        let mut found = Found { best: None, device_may_do_more: false, trials: Vec::new() };
        let mut attempt = |rate: f64, found: &mut Found| -> Result<Option<Trial>, E> {
            // Succeeded at less than it was meant for: better than nothing, worth another chance, and no answer to a failure.
            let (mut weak, mut failed) = (None::<Trial>, false);
            for _ in 0..=self.chances {
                let tried = trial(rate)?;
                found.trials.push(tried);
                if tried.loss() <= self.loss {
                    if tried.was_offered() {
                        return Ok(Some(tried));
                    }
                    weak = weak.filter(|before| before.offered >= tried.offered).or(Some(tried));
                } else {
                    failed = true;
                }
            }
            Ok(weak.filter(|_| !failed))
        };
        if let Some(best) = attempt(self.highest, &mut found)? {
            (found.best, found.device_may_do_more) = (Some(best), true);
            return Ok(found);
        }
        let (mut good, mut bad) = match attempt(self.lowest, &mut found)? {
            Some(best) => (best, self.highest),
            None => return Ok(found),
        };
        found.best = Some(good);
        while bad > good.rate * (1.0 + self.precision) {
            // Where a limit may be anywhere over several powers of ten, halving the ratio is quicker than halving the
            // difference.
            let middle = if bad > 4.0 * good.rate { (bad * good.rate).sqrt() } else { f64::midpoint(bad, good.rate) };
            match attempt(middle, &mut found)? {
                Some(best) => {
                    if found.best.is_none_or(|before| before.offered < best.offered) {
                        found.best = Some(best);
                    }
                    good = best;
                    // The generator's own limit: what is asked for beyond it is the same trial again.
                    if !best.was_offered() {
                        found.device_may_do_more = true;
                        break;
                    }
                }
                None => bad = middle,
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// A device that forwards `limit` a second and drops what is more, tested by a generator that can do `most`.
    fn device(limit: f64, most: f64) -> impl FnMut(f64) -> Result<Trial, Infallible> {
        move |rate| {
            let offered = rate.min(most);
            let sent = (offered * 10.0).ceil() as u64;
            let through = (limit * 10.0).floor() as u64;
            Ok(Trial { rate, offered, sent, received: sent.min(through) })
        }
    }

    proptest! {
        #[test]
        fn the_limit_is_found(limit in 1e4f64..9e6, precision in 0.001f64..0.1) {
            let search = Search { precision, ..Search::between(1e3, 1e7) };
            let found = search.run(device(limit, f64::INFINITY)).unwrap();
            let best = found.best.unwrap();
            prop_assert!(!found.device_may_do_more);
            // A loss of 0.001 % is allowed, so it may be that much more.
            prop_assert!(best.rate <= limit * 1.00002, "{} of {limit}", best.rate);
            prop_assert!(best.rate >= limit * (1.0 - precision) * 0.9999, "{} of {limit}", best.rate);
            // log2 of the range over the precision, the way there, and the two ends.
            prop_assert!(found.trials.len() <= 24, "{} trials", found.trials.len());
            // Never a higher rate than one that has failed.
            for (before, later) in found.trials.iter().enumerate().flat_map(|(at, one)| found.trials[at + 1..].iter().map(move |two| (one, two))) {
                prop_assert!(before.loss() <= search.loss || later.rate < before.rate);
            }
        }

        #[test]
        fn without_any_loss_it_never_says_too_much(limit in 1e3f64..1e6) {
            let found = Search::lossless(1e2, 1e7).run(device(limit, f64::INFINITY)).unwrap();
            let best = found.best.unwrap();
            prop_assert_eq!(best.loss(), 0.0);
            prop_assert!(best.rate <= limit + 0.1 && best.rate >= limit * 0.98);
        }

        #[test]
        fn a_generator_that_cannot_do_more_is_no_limit_of_the_device(most in 1e4f64..1e6) {
            let found = Search::between(1e3, 1e7).run(device(f64::INFINITY, most)).unwrap();
            prop_assert!(found.device_may_do_more);
            prop_assert_eq!(found.rate(), most);
        }
    }

    #[test]
    fn what_fails_at_the_lowest_rate_is_not_found() {
        let found = Search::between(1e3, 1e6).run(device(10.0, f64::INFINITY)).unwrap();
        assert_eq!((found.best, found.trials.len(), found.rate()), (None, 2, 0.0));
    }

    #[test]
    fn a_loss_of_a_thousandth_of_a_percent_is_a_success_and_more_is_not() {
        let trial = |received| Trial { rate: 1.0, offered: 1.0, sent: 1_000_000, received };
        let loss = Search::between(1.0, 2.0).loss;
        assert!(trial(999_990).loss() <= loss);
        assert!(trial(999_989).loss() > loss);
        assert_eq!(trial(2_000_000).loss(), 0.0);
        assert_eq!(Trial { sent: 0, ..trial(0) }.loss(), 1.0, "nothing sent proves nothing");
    }

    #[test]
    fn a_second_chance_is_taken_and_shown() {
        let mut turn = 0;
        let mut once_in_two = |rate| {
            turn += 1;
            let received = if turn % 2 == 0 || rate > 500.0 { 0 } else { 100 };
            Ok::<_, Infallible>(Trial { rate, offered: rate, sent: 100, received })
        };
        let unlucky = Search { chances: 1, ..Search::between(100.0, 1000.0) }.run(&mut once_in_two).unwrap();
        assert!(unlucky.best.unwrap().rate > 490.0, "{unlucky:?}");
        assert!(unlucky.trials.len() > 10);
    }

    #[test]
    fn a_trial_that_was_not_offered_gets_another_chance() {
        let mut turn = 0;
        // Every other trial, the generator is held up and sends a tenth.
        let mut held_up = |rate: f64| {
            turn += 1;
            let offered = if turn % 2 == 0 { rate / 10.0 } else { rate };
            let sent = offered as u64;
            Ok::<_, Infallible>(Trial { rate, offered, sent, received: sent.min(50_000) })
        };
        let found = Search { chances: 1, ..Search::between(1e3, 1e6) }.run(&mut held_up).unwrap();
        assert!(!found.device_may_do_more, "{found:?}");
        assert!((49_000.0..=50_001.0).contains(&found.rate()), "{found:?}");
    }

    #[test]
    fn an_error_ends_it() {
        let found = Search::between(1.0, 10.0).run(|_| Err::<Trial, _>("no device"));
        assert_eq!(found, Err("no device"));
    }
}
