//! Twelve short words compared at once.
//!
//! Written as a loop, the compiler compares some at a time and then collects the bits one by one. The processor has an instruction
//! that collects.

#![allow(unsafe_code)]

/// A bit for each of the words that is `wanted`.
#[inline(always)]
#[must_use]
pub fn equal(words: &[u16; 12], wanted: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has SSE2, which is all that it needs.
        unsafe { sse2(words, wanted) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    one_by_one(words, wanted)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn sse2(words: &[u16; 12], wanted: u16) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi16, _mm_cvtsi64_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16};
    let wanted = _mm_set1_epi16(wanted.cast_signed());
    let [a, b, c, d, e, f, g, h, rest @ ..] = *words;
    let eight = _mm_cmpeq_epi16(bytemuck::must_cast([a, b, c, d, e, f, g, h]), wanted);
    let four = _mm_cmpeq_epi16(_mm_cvtsi64_si128(bytemuck::must_cast(rest)), wanted);
    // Saturation keeps all ones all ones: 16 bits to 8, and of each of these the sign. Behind the four is nothing.
    _mm_movemask_epi8(_mm_packs_epi16(eight, four)).cast_unsigned() & 0xfff
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn one_by_one(words: &[u16; 12], wanted: u16) -> u32 {
    words.iter().enumerate().fold(0, |found, (lane, word)| found | u32::from(*word == wanted) << lane)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn at_once_is_one_by_one(words: [bool; 12], wanted: u16, other: u16) {
            for (wanted, other) in [(wanted, other), (0, other), (wanted, 0), (u16::MAX, 0x7fff)] {
                let words = words.map(|is| if is { wanted } else { other });
                prop_assert_eq!(equal(&words, wanted), one_by_one(&words, wanted));
            }
        }
    }
}
