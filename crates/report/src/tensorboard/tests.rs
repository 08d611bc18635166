use super::*;

#[test]
fn a_file_begins_with_its_version_and_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let file = EventFile::create(&folder.path().join("board"), 7).unwrap();
    let bytes = std::fs::read(file.path()).unwrap();
    let (version, rest) = split_record(&bytes);
    assert!(version.ends_with(b"\x1a\x0dbrain.Event:2"), "{version:?}");
    let (session, rest) = split_record(rest);
    // Step 7, and a session log whose status is START.
    assert!(session.ends_with(b"\x10\x07\x3a\x02\x08\x01"), "{session:?}");
    assert!(rest.is_empty());
}

#[test]
fn two_files_of_one_second_have_different_names() {
    let folder = tempfile::tempdir().unwrap();
    let files = [0, 1].map(|step| EventFile::create(folder.path(), step).unwrap());
    assert!(files[0].path() < files[1].path());
}

/// The first record's data and the rest, after checking both checksums.
fn split_record(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(bytes[8..12], masked_crc(&bytes[..8]).to_le_bytes());
    let (data, rest) = bytes[12..].split_at(length);
    assert_eq!(rest[..4], masked_crc(data).to_le_bytes());
    (data, &rest[4..])
}

/// `tests/golden/event_files.py` makes the file with TensorBoard's own classes.
#[test]
fn the_bytes_are_those_that_tensorboard_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/tensorboard/events.tfevents");
    let expected = std::fs::read(path).unwrap();
    let losses = |loss, rate| [("train/loss", loss), ("train/learning_rate", rate)];
    let events = [
        event(1000.5, 0, Content::Version),
        event(1000.5, 7, Content::SessionStart),
        event(1001.25, 0, Content::Scalars(&losses(3.5, 0.0))),
        event(1001.25, 300_000, Content::Scalars(&losses(-0.125, 0.25))),
        event(1002.0, 8, Content::Histogram("gates", &[-15.0, 0.0, 0.0, 15.0])),
    ];
    let bytes = events.iter().flat_map(|event| record(event)).collect::<Vec<_>>();
    assert_eq!(bytes, expected);
}

#[test]
fn gates_that_are_equal_or_not_finite_have_a_histogram() {
    for values in [&[][..], &[0.0, 0.0], &[f64::NAN, 2.0], &[f64::MIN, f64::MAX]] {
        assert!(
            !protobuf::histogram(values).is_empty() || values.iter().all(|value| *value == 0.0)
        );
    }
}
