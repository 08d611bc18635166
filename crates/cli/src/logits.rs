//! `llama-adapter logits`: token ids ─► logits in a file, for parity checks

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::adapters::AdapterArgs;
use crate::error::Error;
use crate::failure::Result;
use crate::model::ModelArgs;
use crate::output;

/// Write the logits of given token ids to a file, for parity checks.
///
/// Needs no tokenizer.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A JSON file of token ids: rows of equal length, such as [[1, 2, 3], [4, 5, 6]].
    #[arg(long, value_name = "FILE")]
    ids: PathBuf,
    /// The safetensors file to write: one f32 tensor `logits`, [batch, seq, vocab].
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    adapters: AdapterArgs,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: &Args) -> Result {
    let ids = read_token_ids(&args.ids)?;
    let base = args.model.load()?;
    let adapter = args.adapters.load(&base)?.active_or_base();
    let tokens = base.llama.tokens(&ids)?;
    let hidden = base.llama.forward(tokens, None, &adapter)?;
    let logits = base.llama.logits(hidden, &adapter);
    let shape = logits.dims();
    let data = llama::read_back(logits)?.convert_dtype(DType::F32);
    let bytes = TensorView::new(Dtype::F32, shape.to_vec(), data.as_bytes())
        .and_then(|view| safetensors::serialize([("logits", view)], None))
        .map_err(Error::system("cannot write the logits as safetensors"))?;
    checkpoint::files::write(&args.out, &bytes)?;
    output::note(&format!("logits {shape:?}, f32, in {}", args.out.display()));
    Ok(())
}

fn read_token_ids(path: &Path) -> Result<Vec<Vec<u32>>, Error> {
    let text = fs::read_to_string(path).map_err(Error::file(path, "read"))?;
    parse_token_ids(&text).map_err(|reason| Error::InvalidTokenIds { path: path.into(), reason })
}

/// Parses rows of token ids, or returns the reason why `text` is not valid.
fn parse_token_ids(text: &str) -> Result<Vec<Vec<u32>>, String> {
    let rows: Vec<Vec<u32>> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Some(len) = rows.first().map(Vec::len) else { return Err("the list is empty".into()) };
    for (index, row) in rows.iter().enumerate() {
        if row.is_empty() {
            return Err(format!("row {} is empty", index + 1));
        }
        if row.len() != len {
            return Err(format!(
                "row {} has {} ids, row 1 has {len}: all rows must have the same length",
                index + 1,
                row.len()
            ));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_token_ids_are_parsed() {
        assert_eq!(parse_token_ids("[[1, 2], [3, 4]]").unwrap(), [[1, 2], [3, 4]]);
    }

    #[test]
    fn invalid_token_ids_report_the_reason() {
        let reason = |text: &str| parse_token_ids(text).unwrap_err();
        assert_eq!(reason("[]"), "the list is empty");
        assert_eq!(reason("[[1], []]"), "row 2 is empty");
        assert_eq!(
            reason("[[1], [2, 3]]"),
            "row 2 has 2 ids, row 1 has 1: all rows must have the same length"
        );
        assert!(reason("[[-1]]").contains("-1"));
        assert!(reason("[1, 2]").contains("expected a sequence"));
    }
}
