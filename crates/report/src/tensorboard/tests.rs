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
