//! Values ─► a file for `torch.load(path, weights_only=True)`.

use std::io::{Cursor, Write};

use burn::tensor::TensorData;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::element;
use super::opcode::Opcode;
use super::value::Value;
use crate::error::{Error, Result};

/// Folder in the archive, PyTorch's default.
const FOLDER: &str = "archive";
/// Alignment of storages, as PyTorch's.
const ALIGNMENT: u16 = 64;
/// Version of the archive, supported since PyTorch 1.6.
const VERSION: &[u8] = b"3\n";

/// The bytes of a `.pth` file. Every tensor is contiguous and has its own storage.
///
/// # Errors
/// [`Error::UnsupportedPickleValue`] for values that `weights_only` rejects: bytes, objects, and element types that PyTorch
/// lacks.
pub fn to_bytes(value: &Value<TensorData>) -> Result<Vec<u8>> {
    let mut pickle = vec![Opcode::Proto as u8, 2];
    let mut tensors = Vec::new();
    write(value, &mut pickle, &mut tensors)?;
    pickle.push(Opcode::Stop as u8);

    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::DEFAULT)
            .with_alignment(ALIGNMENT)
            .large_file(u32::try_from(bytes.len()).is_err());
        archive
            .start_file(format!("{FOLDER}/{name}"), options)
            .expect("names are short and distinct");
        archive.write_all(bytes).expect("writing to memory succeeds");
    };
    add("data.pkl", &pickle);
    add("byteorder", b"little");
    for (index, tensor) in tensors.iter().enumerate() {
        add(&format!("data/{index}"), tensor.as_bytes());
    }
    add("version", VERSION);
    Ok(archive.finish().expect("writing to memory succeeds").into_inner())
}

fn write<'a>(
    value: &'a Value<TensorData>,
    out: &mut Vec<u8>,
    tensors: &mut Vec<&'a TensorData>,
) -> Result<()> {
    use Opcode as O;
    match value {
        Value::None => out.push(O::None as u8),
        Value::Bool(true) => out.push(O::NewTrue as u8),
        Value::Bool(false) => out.push(O::NewFalse as u8),
        Value::Int(number) => int(*number, out),
        Value::Float(number) => {
            out.push(O::BinFloat as u8);
            out.extend(number.to_be_bytes());
        }
        Value::Text(content) => text(content, out)?,
        Value::List(values) => {
            out.extend([O::EmptyList as u8, O::Mark as u8]);
            for value in values {
                write(value, out, tensors)?;
            }
            out.push(O::Appends as u8);
        }
        Value::Dict(entries) => {
            out.extend([O::EmptyDict as u8, O::Mark as u8]);
            for (key, value) in entries {
                text(key, out)?;
                write(value, out, tensors)?;
            }
            out.push(O::SetItems as u8);
        }
        Value::Tensor(data) => {
            tensor(data, tensors.len(), out)?;
            tensors.push(data);
        }
        Value::Bytes(_) => return Err(unsupported("bytes")),
        Value::Object { class, .. } => {
            return Err(unsupported(&format!("an object of class {class}")));
        }
    }
    Ok(())
}

/// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`.
fn tensor(data: &TensorData, index: usize, out: &mut Vec<u8>) -> Result<()> {
    use Opcode as O;
    let dtype = data.dtype();
    let Some(storage) = element::storage(dtype) else {
        return Err(unsupported(&format!("a tensor of {dtype:?}")));
    };
    let shape = data.shape().to_vec();
    let elements: usize = shape.iter().product();
    global("torch._utils", "_rebuild_tensor_v2", out);
    out.push(O::Mark as u8);

    out.push(O::Mark as u8);
    text("storage", out)?;
    global("torch", storage, out);
    text(&index.to_string(), out)?;
    text("cpu", out)?;
    int(elements as i64, out);
    out.extend([O::Tuple as u8, O::BinPersId as u8]);

    int(0, out);
    let mut strides = vec![1; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = strides[dim] * shape[dim].max(1);
    }
    for sizes in [shape, strides] {
        out.push(O::Mark as u8);
        for size in sizes {
            int(size as i64, out);
        }
        out.push(O::Tuple as u8);
    }
    out.push(O::NewFalse as u8);
    global("collections", "OrderedDict", out);
    out.extend([O::EmptyTuple as u8, O::Reduce as u8]);

    out.extend([O::Tuple as u8, O::Reduce as u8]);
    Ok(())
}

fn global(module: &str, name: &str, out: &mut Vec<u8>) {
    out.push(Opcode::Global as u8);
    out.extend(format!("{module}\n{name}\n").as_bytes());
}

fn int(number: i64, out: &mut Vec<u8>) {
    if let Ok(number) = i32::try_from(number) {
        out.push(Opcode::BinInt as u8);
        out.extend(number.to_le_bytes());
    } else {
        out.extend([Opcode::Long1 as u8, 8]);
        out.extend(number.to_le_bytes());
    }
}

fn text(text: &str, out: &mut Vec<u8>) -> Result<()> {
    let len = u32::try_from(text.len()).map_err(|_| unsupported("a string of more than 4 GiB"))?;
    out.push(Opcode::BinUnicode as u8);
    out.extend(len.to_le_bytes());
    out.extend(text.as_bytes());
    Ok(())
}

fn unsupported(what: &str) -> Error {
    Error::UnsupportedPickleValue { what: what.into() }
}
