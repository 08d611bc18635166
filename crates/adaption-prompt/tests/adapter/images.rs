//! Image conditioning: parity with an independent reference and the original release, and rows without an
//! image.

use adaption_prompt::files::{Format, write};
use adaption_prompt::parts::ImageCondition;
use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig, AnyAdapter, BaseInfo,
    Error, Gate, GateActivation, ImageBatch, ImageConfig, ImageFusion, ImageProjectorConfig,
    PackedAdapters, RowAdapters,
};
use burn::tensor::{Device, Tensor};
use llama::config::ModelShape;
use llama::{Adapter, GenerationConfig, Llama, NoAdapter, generate};
use testing::{Golden, assert_close, golden_folder};

use crate::fixtures::logits as logits_of;
use crate::golden_models::open_base;
use crate::methods::check_golden;
use crate::mixing::mix;
use crate::named_tensors;
use crate::packed_adapters::paged_logits;
use crate::parity::{LOGITS, logits};

/// The image of each row of the golden files.
const ROWS: [Option<usize>; 4] = [Some(1), None, Some(0), Some(1)];

const BASES: [&str; 2] = ["llama-gqa-tied", "llama-headdim16"];
const KINDS: [&str; 4] = ["global", "queries", "early", "early_global"];

/// The adapter of a golden file.
fn config(kind: &str) -> AdapterConfig {
    let is_early = kind.starts_with("early");
    let is_global = kind.ends_with("global");
    let queries = ImageProjectorConfig::Queries { count: 4, width: 8, blocks: 2, heads: 2 };
    let early =
        ImageFusion::Early { layers: 2, gate: Gate::PerHead, activation: GateActivation::Tanh };
    let image = ImageConfig {
        features: if is_global { 24 } else { 12 },
        form: if is_global { ImageProjectorConfig::Global { hidden: 6 } } else { queries },
        fusion: if is_early { early } else { ImageFusion::Prompts { gate: 1.0 } },
        encoder: None,
    };
    let prompts = AdaptionPromptConfig {
        adapter_len: 4,
        layers: AdaptedLayers::Last(if is_early { 1 } else { 2 }),
        gate: Gate::PerHead,
        activation: if kind == "queries" { GateActivation::Tanh } else { GateActivation::Identity },
        ..Default::default()
    };
    AdapterConfig { image: Some(image), ..prompts.into() }
}

fn open(case: &str, kind: &str, device: &Device) -> (Llama, Golden, AdapterWeights) {
    let llama = open_base(case, &device.clone().without_autodiff());
    let golden = Golden::open(&format!("{case}/images/{kind}.safetensors"));
    let adapter = named_tensors::open_golden(&golden, &config(kind), &llama, device);
    (llama, golden, adapter)
}

fn image_batch(golden: &Golden, rows: &[Option<usize>], device: &Device) -> ImageBatch {
    let device = device.clone().without_autodiff();
    ImageBatch { features: golden.tensor("features", &device), rows: rows.to_vec() }
}

#[test]
fn settings_that_contradict_the_tensors_are_refused() {
    use checkpoint::torch::{TorchFile, Value, to_bytes};
    let golden = golden_folder().join("images/LORA-BIAS-7B.pth");
    let file = TorchFile::open(checkpoint::ByteSource::open(&golden).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    let write = |config: Vec<(&str, Value<burn::tensor::TensorData>)>| {
        let tensors = file.tensors().keys().filter_map(|name| {
            Some((name.strip_prefix("model.")?.to_owned(), Value::Tensor(file.read(name).unwrap())))
        });
        let config = config.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let root = [("model", Value::Dict(tensors.collect())), ("config", Value::Dict(config))];
        let root = root.map(|(name, value)| (name.to_owned(), value)).to_vec();
        std::fs::write(&path, to_bytes(&Value::Dict(root)).unwrap()).unwrap();
        adaption_prompt::files::read(&path, &adaption_prompt::files::AdapterReadOptions::default())
    };
    for (name, value, expected) in [
        ("w_bias", Value::Bool(false), "unexpected: biases"),
        ("w_lora", Value::Bool(false), "unexpected: LoRA"),
        ("lora_rank", Value::Int(99), "`lora_rank` is 99"),
    ] {
        let error = write(vec![(name, value)]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    write(vec![("w_bias", Value::Bool(true)), ("temperature", Value::Int(1))]).unwrap();
    let unknown = adaption_prompt::files::unknown_settings(&path).unwrap();
    assert_eq!(unknown, ["temperature"]);
    assert!(adaption_prompt::files::unknown_settings(&golden).unwrap().is_empty());
}

#[test]
fn image_conditioning_equals_the_reference() {
    for device in testing::devices() {
        for case in BASES {
            for kind in KINDS {
                let (llama, golden, adapter) = open(case, kind, &device.clone().autodiff());
                let prepared =
                    adapter.prepare_with_images(&llama, &image_batch(&golden, &ROWS, &device));
                check_golden(&format!("{case} {kind}"), &llama, &golden, &adapter, &prepared);
            }
        }
    }
}

/// The logits of a batch of one row.
fn single_row_logits(
    llama: &Llama,
    golden: &Golden,
    adapter: &AdapterWeights,
    row: usize,
) -> Tensor<3> {
    let device = llama.device();
    let one = match ROWS[row] {
        None => adapter.prepare(llama),
        Some(image_index) => {
            let features = golden.tensor::<3>("features", &device);
            adapter
                .prepare_with_images(llama, &ImageBatch::single(features.narrow(0, image_index, 1)))
        }
    };
    let tokens = golden.int_tensor("input_ids", &device).narrow(0, row, 1);
    llama.logits(llama.forward(tokens, None, &one).unwrap(), &one)
}

#[test]
fn rows_of_a_mixed_batch_equal_single_rows() {
    for device in testing::devices() {
        for kind in KINDS {
            let (llama, golden, adapter) = open("llama-gqa-tied", kind, &device);
            let together =
                adapter.prepare_with_images(&llama, &image_batch(&golden, &ROWS, &device));
            let together = logits(&llama, &golden, "input_ids", &together);
            // The same batch with a prepared adapter for each row.
            let features = golden.tensor::<3>("features", &device);
            let prepared = ROWS.map(|row| match row {
                Some(image_index) => {
                    let features = features.clone().narrow(0, image_index, 1);
                    adapter.prepare_with_images(&llama, &ImageBatch::single(features))
                }
                None => adapter.prepare(&llama),
            });
            let rows = RowAdapters::new(&prepared.each_ref().map(Some));
            let stacked = logits(&llama, &golden, "input_ids", &rows);
            for row in 0..ROWS.len() {
                let what = format!("{kind}, row {row}");
                let expected = single_row_logits(&llama, &golden, &adapter, row);
                assert_close(&what, together.clone().narrow(0, row, 1), expected.clone(), 1e-5);
                assert_close(&what, stacked.clone().narrow(0, row, 1), expected, 1e-5);
            }
        }
    }
}

/// The same adapter with its image gates at 0.
fn with_zero_image_gates(
    kind: &str,
    llama: &Llama,
    golden: &Golden,
    device: &Device,
) -> AdapterWeights {
    let open = named_tensors::open_golden(golden, &config(kind), llama, device);
    let mut data = open.to_data(BaseInfo::from_config(llama.config(), None)).unwrap();
    let image = data.image.as_mut().unwrap();
    let gates = image.tensors.iter_mut().filter(|(name, _)| name.ends_with("gate"));
    gates.for_each(|(_name, (_shape, values))| values.fill(0.0));
    AdapterWeights::from_data(&data, &ModelShape::from(llama.config()), "a test".as_ref(), device)
        .unwrap()
}

/// Bit for bit on fused devices. On others the last bits of a prompt's keys and values depend on how many prompts
/// are projected at once.
fn assert_same(llama: &Llama, name: &str, found: Tensor<3>, expected: Tensor<3>) {
    if llama.is_fused() {
        assert_eq!(found.to_data(), expected.to_data(), "{name}");
    } else {
        assert_close(name, found, expected, 1e-5);
    }
}

#[test]
fn zero_image_gate_equals_the_text_adapter() {
    for device in testing::devices() {
        for case in BASES {
            for kind in KINDS {
                let (llama, golden, _open) = open(case, kind, &device);
                let adapter = with_zero_image_gates(kind, &llama, &golden, &device);
                let text = AdapterWeights { image: None, ..adapter.clone() };
                let expected = logits(&llama, &golden, "input_ids", &text.prepare(&llama));
                for rows in [ROWS, [Some(0); 4], [None; 4]] {
                    let with_images =
                        adapter.prepare_with_images(&llama, &image_batch(&golden, &rows, &device));
                    let found = logits(&llama, &golden, "input_ids", &with_images);
                    let name = format!("{case} {kind} {rows:?}");
                    assert_same(&llama, &name, found, expected.clone());
                }
            }
        }
    }
}

#[test]
fn row_without_image_equals_the_text_adapter() {
    for device in testing::devices() {
        for kind in KINDS {
            let (llama, golden, adapter) = open("llama-gqa-tied", kind, &device);
            let text = AdapterWeights { image: None, ..adapter.clone() };
            let expected = logits(&llama, &golden, "input_ids", &text.prepare(&llama));
            let with_images =
                adapter.prepare_with_images(&llama, &image_batch(&golden, &ROWS, &device));
            let found = logits(&llama, &golden, "input_ids", &with_images);
            let row = |all: Tensor<3>| all.narrow(0, 1, 1);
            assert_same(&llama, kind, row(found), row(expected));
        }
    }
}

#[test]
fn statistics_standardize_the_features() {
    for device in testing::devices() {
        let (_llama, golden, adapter) = open("llama-gqa-tied", "global", &device);
        let condition = adapter.image.unwrap();
        let features = golden.tensor::<3>("features", &device);
        let ones = vec![1.0; 24];
        let plain = condition.clone().with_statistics(&[0.0; 24], &ones);
        let moved = condition.with_statistics(&[2.0; 24], &[4.0; 24]);
        let look = |own: &ImageCondition, features: Tensor<3>| {
            own.image_features(&ImageBatch::single(features)).tokens()
        };
        let expected = look(&plain, features.clone());
        assert_close("tokens", look(&moved, features * 4.0 + 2.0), expected, 1e-5);
    }
}

#[test]
fn fresh_multimodal_adapter_equals_the_base_bit_for_bit() {
    for device in testing::devices() {
        for kind in KINDS {
            let (llama, golden, _open) = open("llama-gqa-tied", kind, &device);
            let base = logits(&llama, &golden, "input_ids", &NoAdapter);
            let fresh = config(kind).init(&llama, 3, &device).unwrap();
            let again = config(kind).init(&llama, 3, &device).unwrap();
            let data = |own: &AdapterWeights| own.to_data(BaseInfo::default()).unwrap();
            assert_eq!(data(&fresh), data(&again));
            let with_images =
                fresh.prepare_with_images(&llama, &image_batch(&golden, &ROWS, &device));
            let found = logits(&llama, &golden, "input_ids", &with_images);
            assert_eq!(found.to_data(), base.to_data(), "{kind}");
        }
    }
}

#[test]
fn generation_encodes_each_image_once() {
    for device in testing::devices() {
        let (llama, golden, adapter) = open("llama-gqa-tied", "queries", &device);
        let prompts = ROWS.map(|_| vec![5, 6, 7]);
        let config = GenerationConfig { max_new_tokens: 6, ..GenerationConfig::default() };
        let write = |adapter: &dyn Adapter, prompts: &[Vec<u32>]| {
            let texts = generate(&llama, adapter, prompts, &config).unwrap();
            texts.into_iter().map(|text| text.tokens).collect::<Vec<_>>()
        };
        let with_images =
            adapter.prepare_with_images(&llama, &image_batch(&golden, &ROWS, &device));
        let together = write(&with_images, &prompts);
        assert_eq!(together[0], together[3]);
        let without_images = write(&adapter.prepare(&llama), &prompts[..1]);
        assert_eq!(together[1], without_images[0]);
        let features = golden.tensor::<3>("features", &device).narrow(0, 0, 1);
        let one = write(
            &adapter.prepare_with_images(&llama, &ImageBatch::single(features)),
            &prompts[..1],
        );
        assert_eq!(together[2], one[0]);
    }
}

#[test]
fn image_condition_round_trips() {
    let device = testing::flex();
    for kind in KINDS {
        let (llama, golden, adapter) = open("llama-gqa-tied", kind, &device);
        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path(), &llama, "some/base").unwrap();
        let loaded = AdapterWeights::load(folder.path(), &llama, &device).unwrap();
        assert_eq!(loaded.config().image, adapter.config().image, "{kind}");
        let answer = |own: &AdapterWeights| {
            let with_images =
                own.prepare_with_images(&llama, &image_batch(&golden, &ROWS, &device));
            logits(&llama, &golden, "input_ids", &with_images).to_data()
        };
        assert_eq!(answer(&loaded), answer(&adapter), "{kind}");
    }
}

#[test]
fn mismatched_image_tensors_are_listed() {
    let device = testing::flex();
    let (llama, _golden, adapter) = open("llama-gqa-tied", "global", &device);
    let mut data = adapter.to_data(BaseInfo::from_config(llama.config(), None)).unwrap();
    let tensors = &mut data.image.as_mut().unwrap().tensors;
    let up = tensors.remove("image.up.weight").unwrap();
    tensors.insert("image.upp.weight".into(), up);
    tensors.get_mut("image.down.bias").unwrap().0 = vec![16, 2];
    let sizes = ModelShape::from(llama.config());
    let error = AdapterWeights::from_data(&data, &sizes, "a".as_ref(), &device).unwrap_err();
    let message = error.to_string();
    for part in [
        "missing: image.up.weight",
        "unexpected: image.upp.weight",
        "image.down.bias: expected [32], found [16, 2]",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn oversized_image_config_is_refused_before_allocation() {
    let device = testing::flex();
    let (llama, _golden, adapter) = open("llama-gqa-tied", "queries", &device);
    let sizes = ModelShape::from(llama.config());
    let mut data = adapter.to_data(BaseInfo::from_config(llama.config(), None)).unwrap();
    let (width, blocks) = (1 << 16, 1 << 16);
    data.image.as_mut().unwrap().config.form =
        ImageProjectorConfig::Queries { count: 4, width, blocks, heads: 2 };
    let error = AdapterWeights::from_data(&data, &sizes, "a".as_ref(), &device).unwrap_err();
    assert!(error.to_string().contains("image condition: expected matrices of"), "{error}");
}

#[test]
fn other_formats_report_the_image_condition_as_lost() {
    let device = testing::flex();
    let (llama, _golden, adapter) = open("llama-gqa-tied", "global", &device);
    let data = adapter.to_data(BaseInfo::from_config(llama.config(), None)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for format in Format::ALL.iter().copied().filter(|format| *format != Format::LlamaAdapter) {
        let path = folder.path().join(format.name());
        let error = write(&data, &path, format, GateActivation::Tanh, false).unwrap_err();
        assert!(matches!(error, Error::Lossy { .. }), "{error}");
        assert!(error.to_string().contains("the image condition"), "{error}");
        assert!(!path.exists());
        // If losses are allowed, it is written without the image condition.
        write(&data, &path, format, GateActivation::Tanh, true).unwrap();
    }
}

#[test]
fn original_multimodal_files_give_reference_logits() {
    let golden = Golden::open("images/golden.safetensors");
    for device in testing::devices() {
        let llama = open_base("llama-mha", &device);
        for name in ["BIAS-7B.pth", "LORA-BIAS-7B.pth", "CAPTION-7B.pth"] {
            let path = golden_folder().join("images").join(name);
            let loaded = AnyAdapter::load(&path, &llama, &device).unwrap();
            let AnyAdapter::Single(adapter) = &loaded else { panic!("it is no mix") };
            let batch = image_batch(&golden, &[Some(0), Some(1)], &device);
            let with_images = adapter.prepare_with_images(&llama, &batch);
            let found = logits(&llama, &golden, "input_ids", &with_images);
            assert_close(name, found, golden.tensor(name, &device), LOGITS);

            // It round-trips through this program's folder.
            let folder = tempfile::tempdir().unwrap();
            loaded.save(folder.path(), &llama, "llama-mha").unwrap();
            let again = AdapterWeights::load(folder.path(), &llama, &device).unwrap();
            let with_images = again.prepare_with_images(&llama, &batch);
            let found = logits(&llama, &golden, "input_ids", &with_images);
            assert_close(name, found, golden.tensor(name, &device), LOGITS);
        }
    }
}

#[test]
fn mixes_add_image_conditions() {
    let device = testing::flex();
    let (llama, golden, adapter) = open("llama-gqa-tied", "global", &device);
    let batch = image_batch(&golden, &ROWS, &device);
    let expected =
        logits(&llama, &golden, "input_ids", &adapter.prepare_with_images(&llama, &batch));
    let mix = mix(&[(0.25, &adapter), (0.75, &adapter)]);
    let mix: AnyAdapter = mix.into();
    let found = logits(&llama, &golden, "input_ids", &mix.prepare_with_images(&llama, &batch));
    assert_close("a mix of one adapter with itself", found, expected, 1e-4);
}

#[test]
fn sequences_of_a_packed_pass_have_images_of_their_own() {
    for kind in KINDS {
        let (llama, golden, adapter) = open("llama-gqa-tied", kind, &testing::flex());
        let ImageBatch { features, .. } = image_batch(&golden, &[], &testing::flex());
        let image = |index| ImageBatch::single(features.clone().narrow(0, index, 1));
        let images = [0, 1].map(|index| adapter.prepare_with_images(&llama, &image(index)));
        let (none, text) = (adapter.prepare(&llama), [5_u32, 11, 2, 60]);
        let rows = [Some(&images[0]), Some(&none), None, Some(&images[1])];
        let rows = rows.map(|own| (own, &text[..]));
        let found = paged_logits(&llama, &rows, &[&|len| 0..len]);
        for ((own, text), found) in rows.into_iter().zip(found) {
            let adapter = own.map_or(&NoAdapter as &dyn Adapter, |own| own);
            let alone = logits_of(&llama, &[text.to_vec()], adapter);
            assert_close(kind, found, alone, 5e-5);
        }
    }
}

#[test]
#[should_panic(expected = "the adapters are prepared for inference on a fused device")]
fn an_adapter_for_rows_of_different_images_is_for_no_packed_pass() {
    let (llama, golden, adapter) = open("llama-gqa-tied", "global", &testing::flex());
    let prepared =
        adapter.prepare_with_images(&llama, &image_batch(&golden, &ROWS, &testing::flex()));
    let _ = PackedAdapters::new(&[(Some(&prepared), 1)]);
}
