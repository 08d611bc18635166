#![no_main]

use adaption_prompt::files::{self, Hints, SETTINGS_FILE, peft};

// An adapter's settings of either kind, and an adapter that is a single file.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    for name in [peft::CONFIG_FILE, SETTINGS_FILE, "adapter.pth"] {
        let inside = folder.path().join(name.replace('.', "-"));
        std::fs::create_dir(&inside).expect("a folder");
        let file = inside.join(name);
        std::fs::write(&file, bytes).expect("a file");
        let path = if name == "adapter.pth" { &file } else { &inside };
        let _ = files::read(path, &Hints::default());
        let _ = files::read_mix(path);
    }
});
