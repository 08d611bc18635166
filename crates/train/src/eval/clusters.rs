//! Rows that are not independent of each other.

use crate::data::{Instruction, group_by_image};

/// The cluster of each row: one per image; a row without an image is its own cluster.
///
/// A hundred questions about one image are weaker evidence than a hundred images, so intervals are
/// computed from clusters.
pub fn clusters_by_image(rows: &[Instruction]) -> Vec<usize> {
    group_by_image(rows.iter().map(|row| row.image.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_an_image_is_its_own_cluster() {
        let row = |image: Option<&str>| Instruction {
            image: image.map(String::from),
            ..Instruction::new("a", "", "b")
        };
        let rows = [row(Some("a")), row(None), row(Some("b")), row(Some("a")), row(None)];
        assert_eq!(clusters_by_image(&rows), [0, 1, 2, 0, 4]);
    }
}
