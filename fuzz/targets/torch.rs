#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checkpoint::fuzz::torch(bytes);
    llama::fuzz::meta_shard(bytes);
});
