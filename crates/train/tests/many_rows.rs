//! Many rows take little memory, from the file to the last step.

use std::io::{BufWriter, Write};

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig};
use llama::{ModelSource, Precision};
use peak_alloc::PeakAlloc;
use serde_json::json;
use train::data::{RowStore, RowStoreBuilder, stream_rows};
use train::{Alone, ReadOptions, TrainConfig, TrainLength, TrainingRun};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ROWS: usize = 100_000;
const LIMIT: usize = 300 << 20;

/// Rows of about 400 bytes and 130 tokens each, which take several times the limit of what is kept in memory.
#[test]
fn a_hundred_thousand_rows_train_within_300_mib_beyond_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
    let text = "Ada is a farmer. Nutmeg belongs to Tess. ".repeat(8);
    for index in 0..ROWS {
        let row = json!({"instruction": format!("Say {index}."), "input": text, "output": "Yes."});
        writeln!(file, "{row}").unwrap();
    }
    file.flush().unwrap();
    drop(file);
    assert!(path.metadata().unwrap().len() > 30_000_000);

    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/../built-in/assets/tiny-llama");
    let source = ModelSource::open(assets).unwrap();
    let llama = source.load(Precision::F32, &testing::flex()).unwrap();
    let tokenizer = source.tokenizer().unwrap();
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();

    let spool = folder.path().join("spool");
    let mut rows = RowStoreBuilder::new(8 << 20, Some(&spool));
    stream_rows(&path, &ReadOptions::default(), &mut |row| rows.push(row)).unwrap();
    let (train_rows, eval_rows) = rows.build().unwrap().split(0.00004, 0).unwrap();
    assert_eq!((train_rows.len(), eval_rows.len()), (ROWS - 4, 4));
    let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(2), ..Default::default() };
    let config = TrainConfig {
        method: AdapterConfig::from(prompts).into(),
        batch_size: 2,
        length: TrainLength::Steps(3),
        exact_match_rows: 2,
        ..TrainConfig::default()
    };
    let cache = folder.path().join("tokens");
    let output = folder.path().join("run");
    let run = |rows: &RowStore, name: &str| {
        let training_run = TrainingRun {
            llama: &llama,
            tokenizer: &tokenizer,
            model_name: "tiny-llama",
            train_rows: rows,
            eval_rows: &eval_rows,
            token_cache: Some(&cache),
            image_features: None,
            config: &config,
            output: &output.join(name),
            metadata: &json!({}),
            stop: None,
            ranks: &Alone,
        };
        training_run.run(false, &mut |_event| {}).unwrap()
    };
    let summary = run(&train_rows, "first");
    let peak = MEMORY.peak_usage() - before;
    println!("{} MiB beyond the model", peak >> 20);
    assert!(peak < LIMIT, "{} MiB", peak >> 20);
    assert_eq!(summary.rows.train, ROWS - 4);

    // The second run reads the tokens of the first, and trains the same adapter.
    let files = || std::fs::read_dir(&cache).unwrap().count();
    assert_eq!(files(), 2, "tokens of training and held-out rows");
    let again = run(&train_rows, "second");
    assert_eq!(files(), 2);
    assert_eq!(again.train_loss, summary.train_loss);
    let adapter = |name: &str| std::fs::read(output.join(name).join("adapter_model.safetensors"));
    assert_eq!(adapter("first").unwrap(), adapter("second").unwrap());
}
