//! Tables of pictures and captions: `url,caption` or the same with a tab ─► a row for each line.

use std::path::Path;

use csv::{Reader, ReaderBuilder, StringRecord};

use crate::error::{Error, Result};
use crate::instruction::Instruction;
use crate::origin::Origin;

/// What a table looks like, for hints.
const FORM: &str = "a table of captions has a header with `url` (or `image`, or `path`) and \
    `caption`, separated by commas or tabs; a text with a separator in it stands in quotes";

/// What a caption answers.
///
/// Source: as [`Table`].
const INSTRUCTION: &str = "Generate caption of this image";

/// Names of the column of pictures; the first that is there counts.
const IMAGE_COLUMNS: [&str; 3] = ["url", "image", "path"];

/// A table of captions.
///
/// Source: `PretrainDataset` of
/// <https://github.com/OpenGVLab/LLaMA-Adapter/blob/95b638997765af15036266f5acb5a4dd44b8ae96/llama_adapter_v2_multimodal7b/data/dataset.py>,
/// which reads its `.csv` files separated by tabs.
pub(super) struct Table<'a> {
    reader: Reader<&'a [u8]>,
    /// Place of the pictures' column; `None`: there is no such column.
    image: Option<usize>,
    caption: Option<usize>,
}

impl<'a> Table<'a> {
    /// The table that a text holds; `None` if it is none: it lacks one of the columns, and is not
    /// called a table either.
    pub fn of(path: &Path, text: &'a str) -> Option<Self> {
        let is_called = |name| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(name));
        let header = text.lines().find(|line| !line.is_empty()).unwrap_or("");
        let tabs = header.contains('\t') && (!header.contains(',') || is_called("tsv"));
        let delimiter = if tabs { b'\t' } else { b',' };
        let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
        let names = reader.headers().ok()?;
        let column = |name: &&str| names.iter().position(|n| n.trim().eq_ignore_ascii_case(name));
        let caption = column(&"caption");
        let image = IMAGE_COLUMNS.iter().find_map(column);
        let has_both = caption.is_some() && image.is_some();
        let is_table = has_both || is_called("csv") || is_called("tsv");
        is_table.then_some(Self { reader, image, caption })
    }

    /// The rows of all lines behind the header.
    ///
    /// # Errors
    /// [`Error::Record`] with the line, for a column that is missing, an empty text, or a line of
    /// another length than the header; [`Error::RemoteImage`].
    pub fn rows(mut self, path: &Path, images: Option<&Path>) -> Result<Vec<Instruction>> {
        let origin = |line: u64| Origin { path, place: format!("line {line}"), form: FORM, images };
        let missing = |name: &str| origin(1).error(format!("no column `{name}`"));
        let caption = self.caption.ok_or_else(|| missing("caption"))?;
        let image = self.image.ok_or_else(|| missing("url"))?;
        let mut rows = Vec::new();
        for record in self.reader.records() {
            let record = record.map_err(|error| broken(&error, origin))?;
            let origin = origin(record.position().map_or(1, csv::Position::line));
            rows.push(row(&record, image, caption, &origin)?);
        }
        Ok(rows)
    }
}

fn row(
    record: &StringRecord,
    image: usize,
    caption: usize,
    origin: &Origin,
) -> Result<Instruction> {
    let caption = record.get(caption).unwrap_or("");
    if caption.trim().is_empty() {
        return Err(origin.error("the caption is empty"));
    }
    let image = origin.image(record.get(image).unwrap_or(""))?;
    Ok(Instruction { image: Some(image), ..Instruction::new(INSTRUCTION, "", caption) })
}

/// A line that is not like the others.
fn broken<'a>(error: &csv::Error, origin: impl Fn(u64) -> Origin<'a>) -> Error {
    let origin = origin(error.position().map_or(1, csv::Position::line));
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            origin.error(format!("{len} fields, the header has {expected_len}"))
        }
        _ => origin.error(format!("not a line of a table: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<Instruction>> {
        let path = Path::new(name);
        Table::of(path, text).expect("a table").rows(path, Some(Path::new("/p")))
    }

    fn caption(image: &str, caption: &str) -> Instruction {
        Instruction {
            image: Some(image.into()),
            ..Instruction::new("Generate caption of this image", "", caption)
        }
    }

    #[test]
    fn commas_or_tabs_whatever_the_name() {
        let wanted = [caption("/p/a.png", "A cat, grey."), caption("/b.png", "A dog.")];
        let commas = "url,caption\na.png,\"A cat, grey.\"\nfile:///b.png,A dog.\n";
        let tabs = "url\tcaption\na.png\tA cat, grey.\nfile:///b.png\tA dog.\n";
        assert_eq!(read("a.csv", commas).unwrap(), wanted);
        assert_eq!(read("a.csv", tabs).unwrap(), wanted);
        assert_eq!(read("a.tsv", &tabs.replace('\n', "\r\n")).unwrap(), wanted);
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let rows = read("a.tsv", "Caption\tsize, px\t PATH\nA cat.\t7\ta.png\n").unwrap();
        assert_eq!(rows, [caption("/p/a.png", "A cat.")]);
        let rows = read("a.csv", "path,url,caption\nb.png,a.png,A cat.\n").unwrap();
        assert_eq!(rows, [caption("/p/a.png", "A cat.")]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let message = |text: &str| read("a.tsv", text).unwrap_err().to_string();
        assert_eq!(message("url\tname\na.png\tA cat.\n"), "a.tsv, line 1: no column `caption`");
        assert_eq!(
            read("a.csv", "url,name\n").unwrap_err().to_string(),
            "a.csv, line 1: no column `caption`"
        );
        assert_eq!(message("caption\tname\na.png\tA cat.\n"), "a.tsv, line 1: no column `url`");
        assert_eq!(
            message("url\tcaption\na.png\tA cat.\nb.png\n"),
            "a.tsv, line 3: 1 fields, the header has 2"
        );
        assert_eq!(message("url\tcaption\na.png\t \n"), "a.tsv, line 2: the caption is empty");
        assert_eq!(message("url\tcaption\n\tA cat.\n"), "a.tsv, line 2: the image's path is empty");
        assert_eq!(
            message("url\tcaption\n\"a\nb.png\"\tA cat.\nhttp://x.org/a.png\tA dog.\n"),
            "a.tsv, line 4: the image http://x.org/a.png is not on this machine"
        );
    }

    #[test]
    fn a_text_without_the_columns_is_no_table() {
        for (name, text) in [("a.txt", "hello"), ("a.txt", "url,name\n"), ("a", "caption\n")] {
            assert!(Table::of(Path::new(name), text).is_none(), "{name}: {text}");
        }
    }
}
