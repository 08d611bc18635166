//! Which examples are cached, and in which groups their hidden states are computed.
//!
//! Cached are the first examples in the order of the data, as many as the limit allows. They are computed
//! in chunks of similar length, which depend on the data alone: on devices where the last bits of a row
//! depend on the shape of its pass, it does not matter when a chunk is computed.

/// Tokens of a chunk, padding included: enough for efficient matmuls, and less than a usual step.
const CHUNK_TOKENS: usize = 1024;

/// The cached examples.
#[derive(Debug)]
pub(crate) struct CachedExamples {
    /// Number of rows of each cached example; the others follow them in the data.
    lens: Vec<u32>,
    /// Cached examples, chunk by chunk.
    order: Vec<u32>,
    /// Start of each chunk in `order`, and the end of the last one.
    starts: Vec<u32>,
    /// The chunk of each example.
    chunk_of: Vec<u32>,
}

impl CachedExamples {
    /// As many of the first examples as fit, from their numbers of rows. `bytes` is the size of an example
    /// with some number of rows.
    pub fn that_fit(
        lens: impl IntoIterator<Item = usize>,
        bytes: impl Fn(usize) -> u64,
        limit: u64,
    ) -> Self {
        let mut left = limit;
        let fitting = lens.into_iter().map_while(|len| {
            left = left.checked_sub(bytes(len))?;
            u32::try_from(len).ok()
        });
        Self::new(fitting.take(u32::MAX as usize).collect())
    }

    fn new(lens: Vec<u32>) -> Self {
        let mut order = (0..lens.len() as u32).collect::<Vec<_>>();
        order.sort_by_key(|&example| lens[example as usize]);
        let (mut starts, mut chunk_of) = (vec![0], vec![0; lens.len()]);
        for (position, &example) in order.iter().enumerate() {
            let start = starts[starts.len() - 1] as usize;
            // The longest so far, because they are sorted.
            let padded = (position - start + 1) * lens[example as usize] as usize;
            if padded > CHUNK_TOKENS && position > start {
                starts.push(position as u32);
            }
            chunk_of[example as usize] = starts.len() as u32 - 1;
        }
        starts.push(order.len() as u32);
        Self { lens, order, starts, chunk_of }
    }

    /// Number of cached examples.
    pub fn len(&self) -> usize {
        self.lens.len()
    }

    /// Number of rows of each cached example.
    pub fn lens(&self) -> impl ExactSizeIterator<Item = usize> {
        self.lens.iter().map(|&len| len as usize)
    }

    /// Whether an example is cached.
    pub fn contains(&self, example: usize) -> bool {
        example < self.lens.len()
    }

    /// The examples that are computed together with a cached one, itself included.
    pub fn chunk_of(&self, example: usize) -> impl ExactSizeIterator<Item = usize> {
        let chunk = self.chunk_of[example] as usize;
        let (start, end) = (self.starts[chunk] as usize, self.starts[chunk + 1] as usize);
        self.order[start..end].iter().map(|&example| example as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_examples_that_fit_are_cached() {
        let fitting =
            |limit| CachedExamples::that_fit([4, 2, 8, 1], |len| len as u64 * 10, limit).len();
        assert_eq!([0, 39, 40, 60, 139, 140, 1000].map(fitting), [0, 0, 1, 2, 2, 3, 4]);
    }

    #[test]
    fn chunks_hold_examples_of_similar_length_up_to_a_number_of_tokens() {
        let lens = [600, 10, 500, 2000, 500, 12, 3000];
        let cached = CachedExamples::that_fit(lens, |_len| 0, 0);
        let chunk_of = |example| cached.chunk_of(example).collect::<Vec<_>>();
        // Padded to 500, two more would exceed the limit.
        assert_eq!(chunk_of(1), [1, 5]);
        assert_eq!(chunk_of(2), [2, 4]);
        assert_eq!(chunk_of(0), [0]);
        // A longer example is a chunk of its own.
        assert_eq!([chunk_of(3), chunk_of(6)], [[3], [6]]);
    }

    #[test]
    fn every_cached_example_is_in_its_chunk() {
        let lens = (0..500).map(|example| 1 + example * 37 % 113);
        let cached = CachedExamples::that_fit(lens, |_len| 1, 430);
        assert_eq!((cached.len(), cached.contains(429), cached.contains(430)), (430, true, false));
        assert!((0..430).all(|example| cached.chunk_of(example).any(|other| other == example)));
        let longest =
            |example: usize| cached.chunk_of(example).map(|i| 1 + i * 37 % 113).max().unwrap();
        assert!((0..430).all(|i| cached.chunk_of(i).len() * longest(i) <= CHUNK_TOKENS));
    }
}
