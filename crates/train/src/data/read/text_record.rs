//! A record of plain text ─► a row in which every token is a label.
//!
//! ```text
//! {"text": "Once upon a time ..."}
//! ```

use super::record_fields::RecordFields;
use super::row_report::DropReason;
use crate::data::Instruction;
use crate::error::Result;

/// Name of the field.
pub(super) const TEXT_FIELD: &str = "text";

/// The row of a record.
pub(super) fn text_rows(fields: &mut RecordFields) -> Result<Vec<Instruction>> {
    let text = fields.string(TEXT_FIELD)?.unwrap_or_default();
    if text.trim().is_empty() {
        fields.drop_row(DropReason::EmptyOutput);
        return Ok(Vec::new());
    }
    Ok(vec![Instruction::text(text)])
}

#[cfg(test)]
mod tests {
    use super::super::row_report::DropReason;
    use crate::data::Instruction;
    use crate::data::read::tests::read_with_report;

    #[test]
    fn a_text_alone_is_a_row_without_a_prompt() {
        let text =
            "{\"text\": \"Ada.\\n\\nEnd.\", \"id\": 7}\n{\"text\": \" \"}\n{\"text\": null}\n";
        let loaded = read_with_report("a.jsonl", text).unwrap();
        assert_eq!(loaded.rows, [Instruction::text("Ada.\n\nEnd.")]);
        assert_eq!(loaded.report.dropped[&DropReason::EmptyOutput].count, 2);
        assert_eq!(loaded.report.unused_fields["id"], 1);
        assert_eq!(loaded.report.describe_kinds().unwrap(), "3 plain texts");
        let table = read_with_report("a.csv", "id,text\n1,\"a, b\"\n").unwrap();
        assert_eq!(table.rows, [Instruction::text("a, b")]);
    }

    #[test]
    fn a_text_beside_an_instruction_is_not_used() {
        let row = r#"{"instruction": "a", "output": "b", "text": "a b"}"#;
        let loaded = read_with_report("a", row).unwrap();
        assert_eq!(loaded.rows, [Instruction::new("a", "", "b")]);
        assert_eq!(loaded.report.unused_fields["text"], 1);
    }
}
