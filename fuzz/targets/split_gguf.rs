#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llama::fuzz::split_gguf(bytes));
