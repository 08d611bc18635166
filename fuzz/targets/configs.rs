#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    text::fuzz::configs(bytes);
    llama::fuzz::configs(bytes);
});
