//! Sixteen words compared at once.
//!
//! Written as a loop, the compiler compares four at a time and then collects sixteen bits one by one: 44 instructions. The
//! processor has one that collects.

#![allow(unsafe_code)]

/// A bit for each of the words that is `wanted` where `mask` has ones.
#[inline(always)]
#[must_use]
pub fn equal(words: &[u32; 16], mask: u32, wanted: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has SSE2, which is all that it needs.
        unsafe { sse2(words, mask, wanted) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    one_by_one(words, mask, wanted)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn sse2(words: &[u32; 16], mask: u32, wanted: u32) -> u32 {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_cmpeq_epi32, _mm_movemask_epi8, _mm_packs_epi16, _mm_packs_epi32, _mm_set1_epi32,
    };
    let (mask, wanted) = (_mm_set1_epi32(mask.cast_signed()), _mm_set1_epi32(wanted.cast_signed()));
    let [a, b, c, d] = bytemuck::must_cast::<[u32; 16], [__m128i; 4]>(*words)
        .map(|words| _mm_cmpeq_epi32(_mm_and_si128(words, mask), wanted));
    // Saturation keeps all ones all ones: 32 bits to 16 to 8, and of each of these the sign.
    _mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d))).cast_unsigned()
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn one_by_one(words: &[u32; 16], mask: u32, wanted: u32) -> u32 {
    words.iter().enumerate().fold(0, |found, (lane, word)| found | u32::from(word & mask == wanted) << lane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn at_once_is_one_by_one(words: [u8; 16], wanted: u8, bits in 1..8u32) {
            let words = words.map(|word| u32::from(word) << 24 | 7);
            let mask = u32::MAX << (32 - bits);
            let wanted = u32::from(wanted) << 24 & mask;
            prop_assert_eq!(equal(&words, mask, wanted), one_by_one(&words, mask, wanted));
        }
    }
}
