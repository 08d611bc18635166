#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llama::fuzz::chat_template(bytes));
