//! The store with a loader that reads a number from a file.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use image::RgbImage;
use tempfile::TempDir;
use text::Tokenizer;

use super::*;
use crate::engine::handle::{ModelInfo, Shared};
use crate::engine::request::{AdapterChoice, ImageInput};
use crate::engine::stats::Stats;
use crate::error::{LoadError, RequestError};

/// Reads the file `number` of a folder. Numbers from 100 on see images; 13 makes it panic.
#[derive(Default)]
struct Numbers {
    loads: usize,
}

impl AdapterLoader for Numbers {
    type Weights = f64;
    type Prepared = f64;

    fn load(&mut self, source: &AdapterSource) -> Result<Loaded<f64>, LoadError> {
        self.loads += 1;
        let AdapterLocation::Path(path) = &source.location else { unreachable!() };
        let failed = |reason: String| LoadError::Folder { path: path.clone(), reason };
        let text =
            fs::read_to_string(path.join("number")).map_err(|error| failed(error.to_string()))?;
        let weights = text.parse::<f64>().map_err(|error| failed(error.to_string()))?;
        assert_ne!(weights, 13.0, "the unlucky number");
        Ok(Loaded { weights, bytes: 60, sees_images: weights >= 100.0 })
    }

    fn prepare(
        &mut self,
        parts: &[(f64, f64)],
        image: Option<&ImageInput>,
    ) -> Result<(f64, usize), LoadError> {
        let sum = parts.iter().map(|(number, weight)| number * weight).sum::<f64>();
        let image = image.map_or(0.0, |image| f64::from(image.image().width()) / 1000.0);
        Ok((sum + image, 40))
    }
}

struct Bench {
    store: Arc<AdapterStore<Numbers>>,
    shared: Arc<Shared>,
    loader: Numbers,
    folder: TempDir,
}

impl Bench {
    /// A store for this many adapters, of 100 bytes each.
    fn new(room: usize) -> Self {
        Self::believing(room, Duration::ZERO)
    }

    /// A store that believes a look at files for a while.
    fn believing(room: usize, believed: Duration) -> Self {
        let tokenizer = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
        let shared = Arc::new(Shared {
            model: ModelInfo {
                name: "test".into(),
                tokenizer: Arc::new(Tokenizer::from_folder(&tokenizer).unwrap()),
                context: 100,
                vocab_size: 100,
                cache_tokens: 100,
                max_choices: 1,
                has_image_encoders: true,
                fingerprint: String::new(),
            },
            stats: Stats::default(),
            registry: Registry::default(),
            places: Arc::new(AtomicUsize::new(0)),
            max_places: 1,
            finished_per_kilosecond: AtomicU64::new(0),
        });
        let store = AdapterStore::new(Arc::clone(&shared), 100 * room, believed);
        let folder = tempfile::tempdir().unwrap();
        Self { store: Arc::new(store), shared, loader: Numbers::default(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes an adapter's folder.
    fn write(&self, name: &str, number: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("number"), number).unwrap();
        path
    }

    fn add(&mut self, name: &str, number: &str) -> Result<AdapterInfo, LoadError> {
        let path = self.write(name, number);
        self.store.add(&AdapterSource::path(name, path), &mut self.loader)
    }

    /// As a request: from memory, or loaded.
    fn get(&mut self, choice: AdapterChoice) -> Result<Arc<Instance<f64>>, RequestError> {
        self.get_with(choice, None)
    }

    fn get_with(
        &mut self,
        choice: AdapterChoice,
        image: Option<&ImageInput>,
    ) -> Result<Arc<Instance<f64>>, RequestError> {
        let key = AdapterKey::new(&choice, image).unwrap();
        match self.store.find(&key) {
            Some(found) => Ok(found),
            None => self.store.prepare(&key, image, &mut self.loader),
        }
    }

    fn loaded(&self) -> Vec<String> {
        let infos = self.shared.registry.list().into_iter();
        infos.filter(|info| info.loaded).map(|info| info.name).collect()
    }
}

fn named(name: &str) -> AdapterChoice {
    AdapterChoice::Named(name.into())
}

fn mix(parts: &[(&str, f64)]) -> AdapterChoice {
    AdapterChoice::Mix(parts.iter().map(|(name, weight)| ((*name).into(), *weight)).collect())
}

#[test]
fn an_adapter_is_loaded_once() {
    let mut bench = Bench::new(3);
    let info = bench.add("a", "7").unwrap();
    assert_eq!((info.loaded, info.bytes, info.sees_images), (true, Some(100), Some(false)));
    let first = bench.get(named("a")).unwrap();
    assert_eq!(first.prepared, 7.0);
    assert_eq!(bench.get(named("a")).unwrap().id, first.id);
    assert_eq!(bench.loader.loads, 1);
}

#[test]
fn the_least_recently_used_adapter_is_dropped_and_loaded_again() {
    let mut bench = Bench::new(2);
    bench.add("a", "1").unwrap();
    bench.add("b", "2").unwrap();
    bench.get(named("a")).unwrap();
    bench.add("c", "3").unwrap();
    assert_eq!(bench.loaded(), ["a", "c"]);
    assert_eq!(bench.shared.stats.read().adapter_bytes, 200);
    assert_eq!(bench.get(named("b")).unwrap().prepared, 2.0);
    assert_eq!(bench.loaded(), ["b", "c"]);
}

#[test]
fn an_adapter_in_use_is_not_dropped() {
    let mut bench = Bench::new(1);
    bench.add("a", "1").unwrap();
    let used = bench.get(named("a")).unwrap();
    bench.add("b", "2").unwrap();
    assert_eq!(bench.loaded(), ["a", "b"]);
    drop(used);
    bench.add("c", "3").unwrap();
    assert_eq!(bench.loaded(), ["c"]);
}

#[test]
fn an_adapter_larger_than_the_bound_is_refused() {
    let mut bench = Bench::new(0);
    assert!(matches!(bench.add("a", "1"), Err(LoadError::TooLarge { bytes: 100, limit: 0 })));
    assert!(bench.shared.registry.list().is_empty());
}

#[test]
fn changed_files_are_loaded_as_another_adapter() {
    let mut bench = Bench::new(3);
    bench.add("a", "1").unwrap();
    let before = bench.get(named("a")).unwrap();
    bench.write("a", "22");
    let after = bench.get(named("a")).unwrap();
    assert_eq!((before.prepared, after.prepared), (1.0, 22.0));
    assert_ne!(before.id, after.id);
}

#[test]
fn a_change_that_a_request_found_is_loaded_for_it() {
    let believed = Duration::from_millis(50);
    let mut bench = Bench::believing(3, believed);
    bench.add("a", "1").unwrap();
    bench.write("a", "22");
    std::thread::sleep(2 * believed);
    assert_eq!(bench.get(named("a")).unwrap().prepared, 22.0);
}

#[test]
fn broken_files_fail_requests_until_they_are_mended() {
    let mut bench = Bench::new(3);
    bench.add("a", "1").unwrap();
    let running = bench.get(named("a")).unwrap();
    bench.write("a", "no number");
    let error = bench.get(named("a")).unwrap_err();
    assert!(error.to_string().starts_with("adapter `a`: "), "{error}");
    assert!(bench.shared.registry.list()[0].broken.is_some());
    fs::remove_dir_all(bench.path("a")).unwrap();
    assert!(bench.get(named("a")).is_err());
    assert_eq!(running.prepared, 1.0);
    bench.write("a", "3");
    assert_eq!(bench.get(named("a")).unwrap().prepared, 3.0);
    assert_eq!(bench.shared.registry.list()[0].broken, None);
}

#[test]
fn a_mix_is_prepared_once_in_any_order_of_its_parts() {
    let mut bench = Bench::new(5);
    bench.add("a", "1").unwrap();
    bench.add("b", "10").unwrap();
    let first = bench.get(mix(&[("a", 2.0), ("b", 0.5)])).unwrap();
    let second = bench.get(mix(&[("b", 0.5), ("a", 2.0)])).unwrap();
    let other = bench.get(mix(&[("b", 0.25), ("a", 2.0)])).unwrap();
    assert_eq!((first.prepared, first.id), (7.0, second.id));
    assert_eq!(other.prepared, 4.5);
    // Its parts have changed: so has the mix.
    bench.write("b", "20");
    assert_eq!(bench.get(mix(&[("a", 2.0), ("b", 0.5)])).unwrap().prepared, 12.0);
    assert_eq!(bench.get(mix(&[("a", 1.0)])).unwrap().id, bench.get(named("a")).unwrap().id);
}

#[test]
fn an_image_belongs_to_adapters_that_see() {
    let mut bench = Bench::new(5);
    bench.add("blind", "1").unwrap();
    bench.add("sees", "100").unwrap();
    let image = |width| ImageInput::new(RgbImage::new(width, 2));
    let first = bench.get_with(named("sees"), Some(&image(3))).unwrap();
    let again = bench.get_with(named("sees"), Some(&image(3))).unwrap();
    let other = bench.get_with(named("sees"), Some(&image(4))).unwrap();
    assert_eq!((first.prepared, again.id, other.prepared), (100.003, first.id, 100.004));
    let error = bench.get_with(named("blind"), Some(&image(3))).unwrap_err();
    assert_eq!(error.to_string(), "blind does not see images");
    let both = mix(&[("blind", 1.0), ("sees", 1.0)]);
    assert_eq!(bench.get_with(both, Some(&image(3))).unwrap().prepared, 101.003);
}

#[test]
fn a_removed_adapter_is_unknown_and_its_name_is_free() {
    let mut bench = Bench::new(3);
    bench.add("a", "1").unwrap();
    bench.get(mix(&[("a", 2.0)])).unwrap();
    assert!(matches!(bench.add("a", "1"), Err(LoadError::NameTaken(_))));
    bench.shared.registry.remove("a");
    bench.store.drop_removed();
    assert_eq!(bench.shared.stats.read().adapters, 0);
    assert!(bench.get(named("a")).is_err());
    bench.add("a", "5").unwrap();
    assert_eq!(bench.get(named("a")).unwrap().prepared, 5.0);
}

#[test]
fn adapters_can_be_added_without_being_loaded() {
    let mut bench = Bench::new(3);
    let path = bench.write("a", "1");
    bench.store.add_later(&AdapterSource::path("a", path)).unwrap();
    assert_eq!((bench.loaded().len(), bench.loader.loads), (0, 0));
    assert_eq!(bench.get(named("a")).unwrap().prepared, 1.0);
}

#[test]
fn a_panic_while_loading_fails_one_request() {
    let bench = Bench::new(3);
    let add = |name: &str, number: &str| {
        let path = bench.write(name, number);
        bench.store.add_later(&AdapterSource::path(name, path)).unwrap();
    };
    add("unlucky", "13");
    add("good", "1");
    let mut loading = Loading::here(Numbers::default(), Arc::clone(&bench.store));
    for name in ["unlucky", "good"] {
        loading.ask(Job::Prepare(AdapterKey::new(&named(name), None).unwrap(), None));
    }
    let results = loading.results();
    let error = results[0].1.as_ref().unwrap_err().to_string();
    assert!(error.contains("the unlucky number"), "{error}");
    assert_eq!(results[1].1.as_ref().unwrap().prepared, 1.0);
}
