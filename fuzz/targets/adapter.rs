#![no_main]

// The input as each file of an adapter, read and written again in every format.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    adaption_prompt::fuzz::read_in_every_role(bytes, folder.path());
});
