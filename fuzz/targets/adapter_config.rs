#![no_main]

use adaption_prompt::{AdapterSummary, peft};

// An adapter is a folder: its settings are the fuzzer's, there are no tensors.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(peft::CONFIG_FILE), bytes).expect("a file");
    let _ = AdapterSummary::read(folder.path());
});
