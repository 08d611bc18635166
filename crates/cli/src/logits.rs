//! `llama-adapter logits`: token ids ─► the model's scores, for comparison with other programs

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

/// Write the scores (logits) of given token ids, to compare with other programs.
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
    let ids = read_ids(&args.ids)?;
    let base = args.model.load()?;
    let adapter = args.adapters.load(&base)?.active_or_base();
    let tokens = base.llama.tokens(&ids)?;
    let hidden = base.llama.forward(tokens, None, &adapter)?;
    let logits = base.llama.logits(hidden, &adapter);
    let shape = logits.dims();
    let data = llama::read_back(logits)?.convert_dtype(DType::F32);
    let bytes = TensorView::new(Dtype::F32, shape.to_vec(), data.as_bytes())
        .and_then(|view| safetensors::serialize([("logits", view)], None))
        .map_err(Error::system("the logits cannot be written as safetensors"))?;
    checkpoint::files::write(&args.out, &bytes)?;
    output::note(&format!("logits {shape:?}, f32, in {}", args.out.display()));
    Ok(())
}

fn read_ids(path: &Path) -> Result<Vec<Vec<u32>>, Error> {
    let text = fs::read_to_string(path).map_err(Error::file(path, "read"))?;
    parse_ids(&text).map_err(|reason| Error::Ids { path: path.into(), reason })
}

fn parse_ids(text: &str) -> Result<Vec<Vec<u32>>, String> {
    let rows: Vec<Vec<u32>> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Some(len) = rows.first().map(Vec::len) else { return Err("there are no rows".into()) };
    for (index, row) in rows.iter().enumerate() {
        if row.is_empty() {
            return Err(format!("row {} is empty", index + 1));
        }
        if row.len() != len {
            return Err(format!(
                "row {} has {} ids, row 1 has {len}: all must be equally long",
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
    fn rows_of_ids_are_read() {
        assert_eq!(parse_ids("[[1, 2], [3, 4]]").unwrap(), [[1, 2], [3, 4]]);
    }

    #[test]
    fn what_is_no_rows_of_ids_says_why() {
        let reason = |text: &str| parse_ids(text).unwrap_err();
        assert_eq!(reason("[]"), "there are no rows");
        assert_eq!(reason("[[1], []]"), "row 2 is empty");
        assert_eq!(
            reason("[[1], [2, 3]]"),
            "row 2 has 2 ids, row 1 has 1: all must be equally long"
        );
        assert!(reason("[[-1]]").contains("-1"));
        assert!(reason("[1, 2]").contains("expected a sequence"));
    }
}
