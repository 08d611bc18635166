//! Plain text tables and lists.

use std::fmt::Display;

/// Lays out rows in columns, two spaces apart. Cells are aligned on the right in the columns of
/// `right_aligned`, else on the left; lines have no blanks at their ends.
pub fn text_table(rows: &[impl AsRef<[String]>], right_aligned: &[usize]) -> String {
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.as_ref().get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths = (0..columns).map(width).collect::<Vec<_>>();
    let lines = rows.iter().map(|row| {
        let cells = row.as_ref().iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if right_aligned.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

/// The first `max` items, joined by `separator`; `...` stands for the others.
pub fn list_first<T: Display>(items: &[T], max: usize, separator: &str) -> String {
    let mut shown = items.iter().take(max).map(ToString::to_string).collect::<Vec<_>>();
    if items.len() > max {
        shown.push("...".into());
    }
    shown.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "b", "c"], ["long", "12", "d e"]].map(|row| row.map(str::to_owned));
        assert_eq!(text_table(&rows, &[1]), "a      b  c\nlong  12  d e\n");
    }

    #[test]
    fn further_items_are_an_ellipsis() {
        assert_eq!(list_first(&["a", "b"], 2, ", "), "a, b");
        assert_eq!(list_first(&["a", "b", "c"], 2, ", "), "a, b, ...");
    }
}
