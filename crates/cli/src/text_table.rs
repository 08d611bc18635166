//! Plain text tables and lists.

use std::fmt::Display;

/// Lays out rows in columns, two spaces apart. Cells are padded on the left in the columns of
/// `right_aligned`, else on the right; the last column is not padded.
pub fn text_table<const N: usize>(rows: &[[String; N]], right_aligned: &[usize]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            text += &if column + 1 == N {
                format!("{cell}\n")
            } else if right_aligned.contains(&column) {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:width$}  ")
            };
        }
    }
    text
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
