//! Hostile adapters: settings with changes in them. Reading one gives an adapter or an error.

use adaption_prompt::AdapterSummary;
use adaption_prompt::files::peft;
use proptest::prelude::*;
use proptest::sample::Index;
use testing::golden_folder;

/// Numbers that counts love to have.
const LIES: [&str; 6] = ["0", "-1", "1e99", "18446744073709551615", "4294967296", "null"];

/// Reads the adapter of the golden folder with other settings.
fn read(folder: &std::path::Path, settings: &[u8]) -> adaption_prompt::Result<AdapterSummary> {
    std::fs::write(folder.join(peft::CONFIG_FILE), settings).unwrap();
    AdapterSummary::read(folder)
}

#[test]
fn changed_settings_never_panic() {
    let golden = golden_folder().join("llama-gqa-tied/adapter");
    let valid = std::fs::read(golden.join(peft::CONFIG_FILE)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden.join(peft::TENSORS_FILE), folder.path().join(peft::TENSORS_FILE)).unwrap();
    read(folder.path(), &valid).unwrap();
    let numbers = valid.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit());
    let numbers = numbers.map(|(place, _)| place).collect::<Vec<_>>();

    proptest!(ProptestConfig::with_cases(400), |(
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
        number in any::<Index>(),
        lie in prop::sample::select(&LIES[..]),
        cut in prop::option::weighted(0.1, any::<Index>()),
    )| {
        let mut settings = valid.clone();
        for (place, byte) in flips {
            let place = place.index(settings.len());
            settings[place] = byte;
        }
        let place = *number.get(&numbers);
        settings.splice(place..=place, lie.bytes());
        settings.truncate(cut.map_or(settings.len(), |cut| cut.index(settings.len())));
        let _ = read(folder.path(), &settings);
    });
}
