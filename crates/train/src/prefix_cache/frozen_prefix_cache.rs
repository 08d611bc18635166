//! The cache: a batch ─► the input of the first adapted layer, stored or computed.

use std::path::PathBuf;

use burn::tensor::{DType, Int, Tensor, TensorData};
use llama::model::PrefixSharing;
use llama::{Llama, read_back};

use super::cached_examples::CachedExamples;
use super::config::{PrefixCacheConfig, PrefixCacheMode};
use super::content_key::ContentKey;
use super::decision::{CacheOffReason, CachedPrefix, PrefixCacheDecision, PrefixFacts};
use super::pass_input::{PassInput, frozen_hidden};
use super::precision::CachePrecision;
use super::store::Store;
use crate::data::{Batch, Dealer, ExampleStore};
use crate::error::{Error, Result};

/// The hidden states of examples at the input of the first adapted layer, or nothing if it is off.
#[derive(Debug)]
pub(crate) struct FrozenPrefixCache {
    facts: PrefixFacts,
    config: PrefixCacheConfig,
    /// The share of this rank, which numbers its examples from 0.
    cached: Result<CachedExamples, CacheOffReason>,
    dealer: Dealer,
    /// Examples of the share, cached or not.
    all_examples: usize,
    store: Store,
    /// The bytes of one example.
    bytes: Vec<u8>,
    /// Its hidden states, `[rows, d_model]`.
    states: Vec<f32>,
}

impl FrozenPrefixCache {
    /// An empty cache, in `file` if the config says so. `lens` are the numbers of rows of all examples; the
    /// cache holds those that the rank of `dealer` owns.
    ///
    /// # Errors
    /// [`Error::Config`] for a cache on disk without a file.
    pub fn new(
        facts: PrefixFacts,
        config: PrefixCacheConfig,
        file: Option<PathBuf>,
        dealer: Dealer,
        lens: impl Iterator<Item = usize>,
    ) -> Result<Self> {
        let lens = lens.skip(dealer.rank).step_by(dealer.world).collect::<Vec<_>>();
        let all_examples = lens.len();
        let cached = facts.decide(&config, lens);
        let count = cached.as_ref().map_or(0, CachedExamples::len);
        let store = match (config.mode, file) {
            (PrefixCacheMode::Disk, Some(file)) => Store::Closed(file),
            (PrefixCacheMode::Disk, None) if count > 0 => {
                let (field, found) = ("the file of a cache on disk", "missing".into());
                return Err(Error::Config { field, found, expected: "a path" });
            }
            _ => Store::in_memory(count),
        };
        let (bytes, states) = (Vec::new(), Vec::new());
        Ok(Self { facts, config, cached, dealer, all_examples, store, bytes, states })
    }

    /// What is cached.
    pub fn decision(&self) -> PrefixCacheDecision {
        let cached = match &self.cached {
            Ok(cached) => cached,
            Err(reason) => return PrefixCacheDecision::Off(*reason),
        };
        let precision = self.config.precision;
        let bytes = |len| precision.example_bytes(len, self.facts.d_model);
        PrefixCacheDecision::On(CachedPrefix {
            layers: self.facts.first_layer,
            examples: cached.len(),
            all_examples: self.all_examples,
            bytes: cached.lens().map(bytes).sum(),
            precision,
            on_disk: self.store.path().is_some(),
        })
    }

    /// Whether cached states are the same bits as computed ones.
    pub fn is_exact(&self, llama: &Llama) -> bool {
        llama.is_fused() && self.config.precision == CachePrecision::F32
    }

    /// The memory that the cache could use when it was decided what is cached.
    pub fn spare_bytes(&self) -> Option<u64> {
        self.config.spare_bytes
    }

    /// Decides again what is cached, with this memory. Before the first use only.
    pub fn set_spare_bytes(&mut self, spare_bytes: Option<u64>, lens: impl Iterator<Item = usize>) {
        let lens = lens.skip(self.dealer.rank).step_by(self.dealer.world);
        self.config.spare_bytes = spare_bytes;
        self.cached = self.facts.decide(&self.config, lens);
        if let (Store::Memory(_), Ok(cached)) = (&self.store, &self.cached) {
            self.store = Store::in_memory(cached.len());
        }
    }

    /// Removes the file of a cache on disk. The cache is empty then.
    pub fn remove_file(&mut self) {
        if let Some(path) = self.store.path().map(ToOwned::to_owned) {
            // Closed first, for Windows. A file that cannot be removed harms nobody.
            self.store = Store::Closed(path.clone());
            let _ = std::fs::remove_file(path);
        }
    }

    /// The input of the first layer whose output may have changed since the last epoch, for a batch of
    /// `examples`: with a cache the first adapted layer. Computes what is not stored.
    ///
    /// # Errors
    /// [`Error::Model`] if the batch is longer than the model's context or the device fails;
    /// [`Error::Read`] and [`Error::File`] of a cache on disk.
    pub fn pass_input<'a>(
        &mut self,
        llama: &Llama,
        examples: &ExampleStore,
        batch: &'a Batch,
    ) -> Result<PassInput<'a>> {
        let Ok(cached) = &self.cached else { return PassInput::embed(llama, batch) };
        let _span = tracing::trace_span!("frozen-prefix cache").entered();
        let (is_cached, uncached): (Vec<usize>, Vec<usize>) =
            (0..batch.tokens.len()).partition(|&position| {
                let example = batch.example_indices[position];
                self.share_index(example).is_some_and(|index| cached.contains(index))
            });
        let d_model = self.facts.d_model;
        let packed = llama.pack(&batch.inputs(), &batch.prefix_sharing())?;
        let [sequences, seq] = packed.tokens.dims();
        // For each row of the batch its row in the stored states followed by the computed ones. A row that
        // a cached example shares with another one is the stored one.
        let mut sources = vec![None; sequences * seq];
        let mut stored = Vec::new();
        for position in is_cached {
            self.load_states(llama, examples, batch.example_indices[position])?;
            let rows = &packed.token_rows[position];
            for (&row, state) in rows.iter().zip(self.states.chunks_exact(d_model)) {
                if sources[row].is_none() {
                    sources[row] = Some(stored.len() / d_model);
                    stored.extend_from_slice(state);
                }
            }
        }
        let device = llama.device().without_autodiff();
        let n_stored = stored.len() / d_model;
        let mut states = Vec::with_capacity(2);
        if n_stored > 0 {
            states.push(Tensor::from_data(TensorData::new(stored, [n_stored, d_model]), &device));
        }
        if !uncached.is_empty() {
            let inputs = batch.inputs();
            let inputs = uncached.iter().map(|&position| inputs[position]).collect::<Vec<_>>();
            // There is no adapter in these layers: rows of different images may share prefixes.
            let own = llama.pack(&inputs, &PrefixSharing::All)?;
            for (&position, own_rows) in uncached.iter().zip(&own.token_rows) {
                for (&row, own_row) in packed.token_rows[position].iter().zip(own_rows) {
                    sources[row].get_or_insert(n_stored + own_row);
                }
            }
            let hidden = frozen_hidden(llama, &own, self.facts.first_layer);
            let [sequences, seq, _d_model] = hidden.dims();
            states.push(hidden.reshape([sequences * seq, d_model]));
        }
        let states = if states.len() == 1 { states.remove(0) } else { Tensor::cat(states, 0) };
        let [n_states, _d_model] = states.dims();
        // A padding row reaches no label: any finite values will do.
        let sources = sources.into_iter().map(|source| source.unwrap_or(0) as i64);
        let sources = sources.collect::<Vec<_>>();
        let hidden = if sources.iter().copied().eq(0..n_states as i64) {
            states
        } else {
            let sources = TensorData::new(sources, [sequences * seq]);
            states.select(0, Tensor::<1, Int>::from_data(sources, &device))
        };
        let hidden = hidden.reshape([sequences, seq, d_model]);
        Ok(PassInput { batch, packed, layer: self.facts.first_layer, hidden })
    }

    /// The number of an example in the share of this rank, if it is part of it.
    fn share_index(&self, example: usize) -> Option<usize> {
        (self.dealer.owner(example) == self.dealer.rank).then_some(example / self.dealer.world)
    }

    /// The example of this number in the share.
    fn example(&self, index: usize) -> usize {
        index * self.dealer.world + self.dealer.rank
    }

    /// Loads the states of a cached example; computes and stores those of its chunk first if they are
    /// missing or damaged.
    fn load_states(
        &mut self,
        llama: &Llama,
        examples: &ExampleStore,
        example: usize,
    ) -> Result<()> {
        self.open(llama, examples)?;
        let index = self.share_index(example).expect("a cached example");
        if !self.store.read(index, &mut self.bytes)? {
            self.compute_chunk(llama, examples, index)?;
            if !self.store.read(index, &mut self.bytes)? {
                let path = self.store.path().unwrap_or("memory".as_ref()).to_owned();
                let source = std::io::Error::other("it does not keep what is written");
                return Err(Error::Read { path, source });
            }
        }
        self.config.precision.decode(&self.bytes, &mut self.states);
        Ok(())
    }

    /// Opens the file of a cache on disk, once.
    fn open(&mut self, llama: &Llama, examples: &ExampleStore) -> Result<()> {
        let Self { facts, config, cached: Ok(cached), dealer, store, .. } = self else {
            return Ok(());
        };
        let (layer, precision) = (facts.first_layer, config.precision);
        let example = |index: usize| index * dealer.world + dealer.rank;
        let one = |index: usize| Ok(Batch::new(&[examples.get(example(index))?]));
        let key = || ContentKey::new(llama, layer, precision, (0..cached.len()).map(one));
        let row_bytes = (facts.d_model * precision.size()) as u64;
        store.open(key, || cached.lens().map(move |len| len as u64 * row_bytes))
    }

    /// Computes and stores the states of the chunk of an example, by its number in the share.
    fn compute_chunk(
        &mut self,
        llama: &Llama,
        examples: &ExampleStore,
        index: usize,
    ) -> Result<()> {
        let Ok(cached) = &self.cached else { return Ok(()) };
        let chunk = cached.chunk_of(index).collect::<Vec<_>>();
        let members = chunk.iter().map(|&index| self.example(index)).collect::<Vec<_>>();
        let batch = Batch::new(&examples.select(&members)?);
        let packed = llama.pack(&batch.inputs(), &PrefixSharing::All)?;
        let hidden = read_back(frozen_hidden(llama, &packed, self.facts.first_layer))?;
        let hidden = hidden.convert_dtype(DType::F32);
        let hidden = hidden.as_slice::<f32>().expect("the data is f32");
        let d_model = self.facts.d_model;
        for (&index, rows) in chunk.iter().zip(&packed.token_rows) {
            self.bytes.clear();
            for row in rows {
                let state = &hidden[row * d_model..][..d_model];
                self.config.precision.encode(state, &mut self.bytes);
            }
            self.store.write(index, &self.bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Example;

    const FIRST_LAYER: usize = 2;

    fn examples() -> ExampleStore {
        let tokens =
            |row: u64| [testing::tiny_model::tokens(9, 5), testing::tiny_model::tokens(row, 6)];
        let example = |row| Example::with_labels_from(tokens(row).concat(), 7);
        (0..4).map(example).collect()
    }

    fn cache(max_bytes: u64) -> FrozenPrefixCache {
        share(max_bytes, Dealer::ALONE)
    }

    /// The cache of one of several ranks.
    fn share(max_bytes: u64, dealer: Dealer) -> FrozenPrefixCache {
        let facts = PrefixFacts {
            first_layer: FIRST_LAYER,
            d_model: testing::tiny_model::config().d_model,
            repeats_examples: true,
            noisy_embeddings: false,
        };
        let config = PrefixCacheConfig { max_bytes: Some(max_bytes), ..Default::default() };
        FrozenPrefixCache::new(facts, config, None, dealer, [10; 4].into_iter()).unwrap()
    }

    fn batch(examples: &ExampleStore, indices: &[usize]) -> Batch {
        Batch::new(&examples.select(indices).unwrap()).with_example_indices(indices)
    }

    /// The hidden states of a pass's input, as bits.
    fn bits(input: &PassInput) -> Vec<u32> {
        testing::values(input.hidden.clone()).into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn stored_computed_and_mixed_rows_are_the_bits_of_a_whole_pass() {
        for config in testing::tiny_model::configs() {
            let llama = testing::tiny_model::model(config, &testing::flex());
            let examples = examples();
            // All, none and two of the examples are cached.
            for max_bytes in [1 << 20, 8, 2 * CachePrecision::F32.example_bytes(10, 32)] {
                let mut cache = cache(max_bytes);
                for indices in [&[2, 0, 3][..], &[1, 0], &[3, 1, 2, 0], &[3, 2], &[0, 1]] {
                    let batch = batch(&examples, indices);
                    let whole = PassInput::embed(&llama, &batch).unwrap();
                    let layer = if max_bytes == 8 { 0 } else { FIRST_LAYER };
                    let hidden = frozen_hidden(&llama, &whole.packed, layer);
                    let expected = bits(&PassInput { hidden, ..whole });
                    let found = cache.pass_input(&llama, &examples, &batch).unwrap();
                    assert_eq!(found.layer, layer);
                    assert!(bits(&found) == expected, "{indices:?} of {max_bytes}");
                }
            }
        }
    }

    #[test]
    fn a_rank_keeps_its_share_and_computes_the_other_examples() {
        let llama = testing::tiny_model::model(testing::tiny_model::config(), &testing::flex());
        let examples = examples();
        let dealer = Dealer { rank: 1, world: 2, prefers_owner: true };
        let mut own = share(1 << 20, dealer);
        let mut whole = cache(1 << 20);
        let PrefixCacheDecision::On(CachedPrefix { examples: count, all_examples, .. }) =
            own.decision()
        else {
            panic!("the share fits");
        };
        assert_eq!((count, all_examples), (2, 2));
        for indices in [&[3, 0, 1][..], &[0, 2], &[1, 3]] {
            let batch = batch(&examples, indices);
            let found = own.pass_input(&llama, &examples, &batch).unwrap();
            let expected = whole.pass_input(&llama, &examples, &batch).unwrap();
            assert!(bits(&found) == bits(&expected), "{indices:?}");
        }
        let Store::Memory(stored) = &own.store else { panic!("in memory") };
        assert!(stored.len() == 2 && stored.iter().all(Option::is_some));
    }

    #[test]
    fn a_later_pass_starts_from_the_stored_states() {
        for device in testing::devices() {
            let llama = testing::tiny_model::model(testing::tiny_model::config(), &device);
            let examples = examples();
            let mut cache = cache(1 << 20);
            let batch = batch(&examples, &[2]);
            let first = bits(&cache.pass_input(&llama, &examples, &batch).unwrap());
            assert!(first.iter().any(|&x| x != 0));
            let Store::Memory(stored) = &mut cache.store else { panic!("in memory") };
            stored[2].as_mut().unwrap().fill(0);
            let second = bits(&cache.pass_input(&llama, &examples, &batch).unwrap());
            assert!(second.iter().all(|&x| x == 0) && second.len() == first.len());
        }
    }
}
