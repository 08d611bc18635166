//! Adapters in folders that are replaced, broken and removed while they are served.

use std::fs;
use std::path::Path;

use llama::Precision;
use serve::{
    AdapterChoice, AdapterSource, Answer, EngineConfig, EngineHandle, GenerationRequest,
    RequestError,
};

use crate::world::World;

fn ask(handle: &EngineHandle) -> Result<Answer, RequestError> {
    let request = GenerationRequest {
        adapter: AdapterChoice::Named("folder".into()),
        max_new_tokens: 10,
        ..GenerationRequest::new((10..90).collect())
    };
    handle.submit(request).unwrap().blocking_answer()
}

/// Asks until the answer is another: files are looked at about once a second.
fn ask_until(
    handle: &EngineHandle,
    is_new: impl Fn(&Result<Answer, RequestError>) -> bool,
) -> Result<Answer, RequestError> {
    loop {
        let answer = ask(handle);
        if is_new(&answer) {
            return answer;
        }
    }
}

fn save(world: &World, index: usize, folder: &Path) {
    world.adapters[index].1.save(folder, &world.llama, "random").unwrap();
}

#[test]
fn a_folder_can_be_replaced_broken_and_mended_while_it_is_served() {
    let world = World::new(&testing::flex(), Precision::F32);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter");
    save(&world, 0, &path);
    let engine = world.engine(EngineConfig::default());
    let handle = engine.handle();
    let load = handle.load_adapter(AdapterSource::path("folder", &path));
    assert!(load.blocking_recv().unwrap().unwrap().loaded);

    let first = ask(&handle).unwrap();
    let again = ask(&handle).unwrap();
    assert_eq!((again.cached_tokens, &again.choices), (64, &first.choices));

    // What the other adapter computed is of no use to this one.
    fs::remove_dir_all(&path).unwrap();
    save(&world, 5, &path);
    let replaced = ask_until(
        &handle,
        |answer| !matches!(answer, Ok(answer) if answer.choices == first.choices),
    );
    let replaced = replaced.unwrap();
    assert_eq!(replaced.cached_tokens, 0);

    let endless = GenerationRequest {
        adapter: AdapterChoice::Named("folder".into()),
        max_new_tokens: 900,
        ..GenerationRequest::new(vec![7; 3])
    };
    let running = handle.submit(endless).unwrap();
    fs::write(path.join("adapter_model.safetensors"), "broken").unwrap();
    let error = ask_until(&handle, Result::is_err).unwrap_err();
    assert!(matches!(error, RequestError::Adapter { .. }), "{error}");
    assert_eq!(running.blocking_answer().unwrap().choices[0].generated, 900);

    save(&world, 5, &path);
    assert_eq!(ask_until(&handle, Result::is_ok).unwrap().choices, replaced.choices);
    assert_eq!(handle.stats().errors, 0);
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let world = World::new(&testing::flex(), Precision::F32);
    let folder = tempfile::tempdir().unwrap();
    let family = &llama::architecture::ARCHITECTURES[0];
    let other = World::of_family(family, &testing::flex());
    save(&other, 0, folder.path());
    let engine = world.engine(EngineConfig::default());
    let loaded = engine.handle().load_adapter(AdapterSource::path("other", folder.path()));
    let error = loaded.blocking_recv().unwrap().unwrap_err();
    assert!(error.to_string().contains("another model"), "{error}");
}
