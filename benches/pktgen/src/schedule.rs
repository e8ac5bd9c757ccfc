//! In which order kinds of frames come.
//!
//! Each kind has a weight, and gets its share of every stretch of the schedule, not only of the whole: the kind that is
//! furthest behind its share comes next ("smooth weighted round robin", as nginx balances). So with 10 % of SYNs every tenth
//! frame is one, and no burst of them is the schedule's own doing.

/// Slots of a schedule of several kinds. A prime, and so large that shares are right to a thousandth: flows, of which there is
/// often a power of two, come round at another pace, and no flow always gets the same kind of frame.
pub const SLOTS: usize = 2039;

/// The kind of each of so many slots. A kind without weight does not come.
#[must_use]
pub fn schedule(weights: &[f64], slots: usize) -> Vec<usize> {
    let total: f64 = weights.iter().sum();
    let mut behind = vec![0.0; weights.len()];
    let mut next = |_| {
        for (behind, weight) in behind.iter_mut().zip(weights) {
            *behind += weight / total;
        }
        let of = |kind: &usize| weights[*kind] > 0.0;
        let chosen = (0..weights.len()).filter(of).max_by(|a, b| behind[*a].total_cmp(&behind[*b]))?;
        behind[chosen] -= 1.0;
        Some(chosen)
    };
    (0..slots).filter_map(&mut next).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_to_one() {
        assert_eq!(schedule(&[2.0, 1.0], 6), [0, 1, 0, 0, 1, 0]);
        assert_eq!(schedule(&[0.0, 1.0], 3), [1, 1, 1]);
        assert!(schedule(&[], 3).is_empty());
    }

    proptest! {
        /// From the beginning up to any slot, each kind has had its share to within the number of kinds.
        #[test]
        fn shares_are_right_over_every_stretch(weights in proptest::collection::vec(1u16..1000, 1..12)) {
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let total: f64 = weights.iter().sum();
            let slots = schedule(&weights, SLOTS);
            prop_assert_eq!(slots.len(), SLOTS);
            let mut had = vec![0.0f64; weights.len()];
            for (slot, kind) in slots.iter().enumerate() {
                had[*kind] += 1.0;
                for (had, weight) in had.iter().zip(&weights) {
                    let share = (slot + 1) as f64 * weight / total;
                    prop_assert!((had - share).abs() <= weights.len() as f64, "slot {slot}: {had} of {share}");
                }
            }
        }
    }
}
