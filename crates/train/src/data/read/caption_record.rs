//! A record with an image and its caption ─► a row.

use super::record_fields::RecordFields;
use super::row_report::DropReason;
use crate::data::Instruction;
use crate::error::Result;

/// The instruction of every caption row.
///
/// Source: `PretrainDataset` of
/// <https://github.com/OpenGVLab/LLaMA-Adapter/blob/95b638997765af15036266f5acb5a4dd44b8ae96/llama_adapter_v2_multimodal7b/data/dataset.py>.
const INSTRUCTION: &str = "Generate caption of this image";

/// Names of the image field; the first that is present is used.
pub(super) const IMAGE_FIELDS: [&str; 3] = ["url", "image", "path"];
/// Name of the caption field.
pub(super) const CAPTION_FIELD: &str = "caption";

/// The row of a caption record.
pub(super) fn caption_rows(fields: &mut RecordFields) -> Result<Vec<Instruction>> {
    let caption = fields.string(CAPTION_FIELD)?.unwrap_or_default().into_owned();
    let name = fields.first_present(&IMAGE_FIELDS).unwrap_or(IMAGE_FIELDS[0]);
    let image = fields.string(name)?.unwrap_or_default();
    let image = fields.origin.resolve_image(&image)?;
    if caption.trim().is_empty() {
        fields.drop_row(DropReason::EmptyOutput);
        return Ok(Vec::new());
    }
    Ok(vec![Instruction { image: Some(image), ..Instruction::new(INSTRUCTION, "", caption) }])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::read_options::ReadOptions;
    use super::*;
    use crate::data::read::parse_rows;

    fn read(name: &str, text: &str) -> Result<Vec<Instruction>> {
        let image_folder = Some(Path::new("/p"));
        let options = ReadOptions { image_folder, ..ReadOptions::default() };
        parse_rows(Path::new(name), text, &options).map(|loaded| loaded.rows)
    }

    fn caption(image: &str, caption: &str) -> Instruction {
        Instruction {
            image: Some(image.into()),
            ..Instruction::new("Generate caption of this image", "", caption)
        }
    }

    #[test]
    fn the_separator_is_detected_whatever_the_extension() {
        let expected = [caption("/p/a.png", "A cat, grey."), caption("/b.png", "A dog.")];
        let commas = "url,caption\na.png,\"A cat, grey.\"\nfile:///b.png,A dog.\n";
        let tabs = "url\tcaption\na.png\tA cat, grey.\nfile:///b.png\tA dog.\n";
        assert_eq!(read("a.csv", commas).unwrap(), expected);
        assert_eq!(read("a.csv", tabs).unwrap(), expected);
        assert_eq!(read("a.csv", &tabs.replace('\t', ";")).unwrap(), expected);
        assert_eq!(read("a.tsv", &tabs.replace('\n', "\r\n")).unwrap(), expected);
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let rows = read("a.tsv", "Caption\tsize, px\t PATH\nA cat.\t7\ta.png\n").unwrap();
        assert_eq!(rows, [caption("/p/a.png", "A cat.")]);
        let rows = read("a.csv", "path,url,caption\nb.png,a.png,A cat.\n").unwrap();
        assert_eq!(rows, [caption("/p/a.png", "A cat.")]);
    }

    #[test]
    fn a_row_of_a_table_may_have_no_image() {
        let rows = read("a.csv", "instruction,image,output\na,,b\n").unwrap();
        assert_eq!(rows, [Instruction::new("a", "", "b")]);
    }

    #[test]
    fn errors_name_the_line() {
        let message = |text: &str| read("a.tsv", text).unwrap_err().to_string();
        let columns = message("url\tname\na.png\tA cat.\n");
        assert!(columns.starts_with("a.tsv: a table with the columns `url`, `name`;"), "{columns}");
        assert_eq!(
            message("url\tcaption\na.png\tA cat.\nb.png\n"),
            "a.tsv, line 3: 1 fields, the header has 2"
        );
        assert_eq!(message("url\tcaption\n\tA cat.\n"), "a.tsv, line 2: the image's path is empty");
        assert_eq!(
            message("url\tcaption\n\"a\nb.png\"\tA cat.\nhttp://x.org/a.png\tA dog.\n"),
            "a.tsv, line 4: the image http://x.org/a.png is not a local file"
        );
        let empty = message("url\tcaption\na.png\t \n");
        assert!(empty.ends_with("1 row is left out: the answer is empty (line 2)"), "{empty}");
    }

    #[test]
    fn text_without_the_columns_is_not_a_table() {
        for (name, text) in [("a.txt", "hello"), ("a.txt", "url,name\n"), ("a", "caption\n")] {
            let error = read(name, text).unwrap_err().to_string();
            assert!(error.contains("neither JSON nor a table"), "{name}: {error}");
        }
    }
}
