//! Rows about the same image.

use std::collections::HashMap;
use std::hash::Hash;

/// For each row, the index of the first row with the same image; a row without an image gets its
/// own index.
pub(crate) fn group_by_image<K: Eq + Hash>(images: impl Iterator<Item = Option<K>>) -> Vec<usize> {
    let mut first_row = HashMap::new();
    let groups = images.enumerate().map(|(index, image)| {
        image.map_or(index, |image| *first_row.entry(image).or_insert(index))
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::group_by_image;

    #[test]
    fn rows_of_one_image_share_the_index_of_the_first() {
        let images = [Some("a"), None, Some("b"), Some("a"), None];
        assert_eq!(group_by_image(images.into_iter()), [0, 1, 2, 0, 4]);
    }
}
