//! Words that people mistype: which of those that are expected one resembles.
//!
//! Two measures, because two questions are asked. Where a word is wrong for sure, a far guess still helps ([`likely`]). Where it may
//! be right, as a key of a newer Kubernetes, only a slip of the finger proves it wrong ([`slip`]).

/// The one of these words that a wrong one resembles most, if any does: up to a third of its letters are others.
#[must_use]
pub fn likely<'w>(found: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    nearest(found, words, |length| length.div_ceil(3))
}

/// The one of these words that was meant, where the found one is a slip away from it: a letter left out, doubled, changed, swapped with
/// its neighbour, or in the wrong case; one of them in a word of up to seven letters, two up to eleven, three beyond.
#[must_use]
pub fn slip<'w>(found: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    nearest(found, words, |length| (length / 4).clamp(1, 3))
}

fn nearest<'w>(
    found: &str,
    words: impl IntoIterator<Item = &'w str>,
    most: impl Fn(usize) -> usize,
) -> Option<&'w str> {
    // No word is so long, and the distance takes time by the square.
    if found.len() > 200 {
        return None;
    }
    let found = found.to_lowercase();
    words
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&word.to_lowercase(), &found), word))
        .filter(|(distance, word)| *distance <= most(word.len()))
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 4] = ["port", "protocol", "externalTrafficPolicy", "clusterIP"];

    #[test]
    fn slips_are_told_from_other_words() {
        for (found, meant) in [
            ("prt", Some("port")),
            ("protcol", Some("protocol")),
            ("portocol", Some("protocol")),
            ("externalTrafficPolcy", Some("externalTrafficPolicy")),
            ("externalTraficPollicy", Some("externalTrafficPolicy")),
            ("clusterIp", Some("clusterIP")),
            ("appProtocol", None),
            ("sorts", None),
            ("trafficDistribution", None),
            ("", None),
        ] {
            assert_eq!(slip(found, WORDS), meant, "{found}");
        }
        assert_eq!(slip(&"x".repeat(1 << 20), WORDS), None);
    }

    #[test]
    fn a_guess_may_be_farther_off() {
        assert_eq!((slip("rotcol", WORDS), likely("rotocl", WORDS)), (Some("protocol"), Some("protocol")));
        assert_eq!((slip("prtcl", WORDS), likely("prtcl", WORDS)), (None, Some("protocol")));
        assert_eq!(likely("nodes", WORDS), None);
    }
}
