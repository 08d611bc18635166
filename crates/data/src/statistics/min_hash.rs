//! Signatures of texts: the more of their parts two texts share, the more alike are their signatures.

/// Numbers of a signature.
pub(super) const HASHES: usize = 64;

/// Numbers of a band. Two texts are compared if all numbers of any band are equal: for texts that share 80 %
/// of their parts with a probability of 1 - (1 - 0.8^4)^16 = 0.9998, for 30 % of 0.12.
const BAND: usize = 4;

/// Bands of a signature.
pub(super) const BANDS: usize = HASHES / BAND;

/// Characters of a part.
const PART_CHARS: usize = 5;

/// The smallest hash of a text's parts, for each of some hash functions.
///
/// Source: A. Z. Broder, On the resemblance and containment of documents (1997); the bands are the
/// locality-sensitive hashing of A. Rajaraman and J. D. Ullman, Mining of Massive Datasets, chapter 3.
pub(super) struct MinHash([u32; HASHES]);

impl MinHash {
    /// The signature of a text; `None` without letters and digits. Case, punctuation and the amount of
    /// whitespace do not count.
    pub(super) fn new(text: &str) -> Option<Self> {
        let text = normalize(text);
        let starts = text.char_indices().map(|(start, _)| start).collect::<Vec<_>>();
        // A family of hash functions from one: multiply by an odd number and take the upper half.
        let factors: [u64; HASHES] = std::array::from_fn(|index| mix(index as u64) | 1);
        let mut signature = [u32::MAX; HASHES];
        let parts =
            starts.len().saturating_sub(PART_CHARS - 1).max(usize::from(!starts.is_empty()));
        for part in 0..parts {
            let end = starts.get(part + PART_CHARS).copied().unwrap_or(text.len());
            let hash = hash_bytes(&text.as_bytes()[starts[part]..end]);
            for (smallest, factor) in signature.iter_mut().zip(&factors) {
                let own = (hash.wrapping_mul(*factor) >> 32) as u32;
                *smallest = own.min(*smallest);
            }
        }
        (parts > 0).then_some(Self(signature))
    }

    /// A key for each band.
    pub(super) fn band_keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.chunks(BAND).enumerate().map(|(band, hashes)| {
            hashes.iter().fold(mix(band as u64), |key, &hash| mix(key ^ u64::from(hash)))
        })
    }

    /// The numbers, shortened.
    pub(super) fn numbers(&self) -> [u16; HASHES] {
        self.0.map(|hash| hash as u16)
    }
}

/// The share of equal numbers of two signatures, which estimates the share of common parts: 0 to 1, with a
/// standard error of at most 1/16.
pub(super) fn similarity(first: &[u16], second: &[u16]) -> f64 {
    let equal = first.iter().zip(second).filter(|(first, second)| first == second).count();
    equal as f64 / HASHES as f64
}

/// Letters and digits in lower case; anything else between them is one space.
fn normalize(text: &str) -> String {
    let mut normalized = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() {
            normalized.extend(c.to_lowercase());
        } else if !normalized.is_empty() && !normalized.ends_with(' ') {
            normalized.push(' ');
        }
    }
    normalized.truncate(normalized.trim_end().len());
    normalized
}

/// FNV-1a, mixed.
fn hash_bytes(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// The finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The share of common parts, exactly.
    fn jaccard(first: &str, second: &str) -> f64 {
        let parts = |text: &str| {
            let chars = normalize(text).chars().collect::<Vec<_>>();
            chars.windows(PART_CHARS).map(<[char]>::to_vec).collect::<HashSet<_>>()
        };
        let (first, second) = (parts(first), parts(second));
        let common = first.intersection(&second).count();
        common as f64 / (first.len() + second.len() - common) as f64
    }

    #[test]
    fn the_similarity_estimates_the_share_of_common_parts() {
        let text = "The llama is a domesticated South American camelid, widely used as a meat and pack \
                    animal by Andean cultures since the pre-Columbian era.";
        for other in [
            text.replace("camelid", "mammal"),
            text.replace("South American", "Chinese").replace("Andean", "Asian"),
            text[..70].to_owned(),
            "Llamas are social animals and live with others as a herd.".into(),
        ] {
            let numbers = |text: &str| MinHash::new(text).unwrap().numbers();
            let (found, expected) =
                (similarity(&numbers(text), &numbers(&other)), jaccard(text, &other));
            assert!((found - expected).abs() < 0.15, "{other}: {found}, not {expected}");
        }
    }

    #[test]
    fn case_punctuation_and_whitespace_do_not_count() {
        assert_eq!(normalize("  Größe,\n\tnever—mind! "), "größe never mind");
        let numbers = |text: &str| MinHash::new(text).map(|signature| signature.numbers());
        assert_eq!(numbers("Name a color."), numbers("name  a COLOR"));
        assert_eq!(numbers("...\n"), None);
        assert_ne!(numbers("ab"), numbers("ac"));
    }
}
