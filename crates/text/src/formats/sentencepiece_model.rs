//! SentencePiece's `tokenizer.model`, a protobuf message ─► [`Tokenizer`].
//!
//! A dozen fields are parsed by hand: `sentencepiece-model` would compile the whole message description at
//! build time, `kitoken` has a tokenizer of its own.
//!
//! Source: SentencePiece, `src/sentencepiece_model.proto`.

use std::path::Path;

use crate::error::Result;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::sentencepiece::{self, Settings, SpacePrefix};
use crate::vocabulary::{TokenType, Vocabulary, invalid};

/// Number of the BPE model type.
const BPE: u64 = 2;

/// A model, initialized with the defaults of its message description.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent setting of the file")]
struct Model<'a> {
    pieces: Vec<(&'a str, f32, TokenType)>,
    kind: u64,
    /// Unknown, begin, end; negative for none.
    ids: [i32; 3],
    space_suffix: bool,
    charsmap: bool,
    add_space_prefix: bool,
    remove_extra_spaces: bool,
    escape_spaces: bool,
}

/// `space` applies to a model that adds a space prefix.
pub(super) fn tokenizer(path: &Path, bytes: &[u8], space: SpacePrefix) -> Result<Tokenizer> {
    let model = Model::read(bytes).ok_or_else(|| checkpoint::Error::Format {
        path: path.into(),
        format: "SentencePiece",
        reason: "the message is truncated, or a length in it is wrong".into(),
    })?;
    if model.pieces.is_empty() {
        return Err(invalid(path, "it has no tokens"));
    }
    if let Some(other) = model.unsupported() {
        return Err(invalid(path, format!("{other} is not supported")));
    }
    let (tokens, kinds) = model.pieces.iter().map(|(piece, _, kind)| (*piece, *kind)).unzip();
    let scores = model.pieces.iter().map(|(_, score, _)| f64::from(*score)).collect::<Vec<_>>();
    let vocabulary = Vocabulary::new(path, tokens, kinds)?;
    let [unknown, bos, eos] = model.ids.map(|id| usize::try_from(id).ok());
    let id = |name: &str, id: Option<usize>| {
        id.map(|id| vocabulary.check_id(path, name, id)).transpose()
    };
    let unknown = id("unk_id", unknown)?;
    let space = if model.add_space_prefix { space } else { SpacePrefix::Never };
    let settings = Settings { unknown, space };
    let mut inner = sentencepiece::build(path, &vocabulary, &scores, &settings)?;
    vocabulary.register_added_tokens(&mut inner);
    let bos = id("bos_id", bos)?;
    if let Some(bos) = bos {
        vocabulary.add_bos(bos, &mut inner);
    }
    let mut tokenizer = Tokenizer::new(inner, path);
    tokenizer.bos = bos;
    tokenizer.eos.extend(id("eos_id", eos)?);
    Ok(tokenizer)
}

impl<'a> Model<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            kind: 1,
            ids: [0, 1, 2],
            space_suffix: false,
            charsmap: false,
            add_space_prefix: true,
            remove_extra_spaces: true,
            escape_spaces: true,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(piece)) => model.pieces.push(read_piece(piece)?),
                (2, Wire::Bytes(trainer)) => model.read_trainer(trainer)?,
                (3, Wire::Bytes(normalizer)) => model.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        Some(model)
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Option<()> {
        for field in Fields(bytes) {
            match field? {
                (3, Wire::Varint(kind)) => self.kind = kind,
                (24, Wire::Varint(flag)) => self.space_suffix = flag != 0,
                (place @ 40..=42, Wire::Varint(id)) => self.ids[place as usize - 40] = id as i32,
                _ => {}
            }
        }
        Some(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Option<()> {
        for field in Fields(bytes) {
            match field? {
                (2, Wire::Bytes(map)) => self.charsmap = !map.is_empty(),
                (3, Wire::Varint(flag)) => self.add_space_prefix = flag != 0,
                (4, Wire::Varint(flag)) => self.remove_extra_spaces = flag != 0,
                (5, Wire::Varint(flag)) => self.escape_spaces = flag != 0,
                _ => {}
            }
        }
        Some(())
    }

    /// The first feature of the model that is not supported.
    fn unsupported(&self) -> Option<&'static str> {
        let cases = [
            (self.kind != BPE, "a model that is not BPE"),
            (self.space_suffix, "the space at the end of words"),
            (self.charsmap, "a table that normalizes characters"),
            (self.remove_extra_spaces, "removing extra spaces"),
            (!self.escape_spaces, "unescaped spaces"),
        ];
        cases.into_iter().find_map(|(found, name)| found.then_some(name))
    }
}

fn read_piece(bytes: &[u8]) -> Option<(&str, f32, TokenType)> {
    let mut piece = ("", 0.0, TokenType::Normal);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(text)) => piece.0 = std::str::from_utf8(text).ok()?,
            (2, Wire::Fixed32(score)) => piece.1 = f32::from_le_bytes(score),
            (3, Wire::Varint(kind)) => piece.2 = TokenType::from_id(kind as usize),
            _ => {}
        }
    }
    Some(piece)
}

/// Content of a field, by wire type.
enum Wire<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
    /// Eight bytes; no field here has them.
    Other,
}

/// Fields of a message; `None` for an invalid one, which ends the iteration.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let content = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Other)?,
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(len)?)
            }
            5 => Wire::Fixed32(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((tag >> 3, content))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes.
    fn part(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let fields = [&part(1, text.as_bytes())[..], &[0x15], &score.to_le_bytes(), &[0x18, kind]];
        part(1, &fields.concat())
    }

    fn model(trainer: &[u8], normalizer: &[u8]) -> Vec<u8> {
        [
            piece("<unk>", 0.0, 2),
            piece("<s>", 0.0, 3),
            piece("</s>", 0.0, 3),
            piece("▁a", -1.0, 1),
            piece("▁", -2.0, 1),
            piece("a", -3.0, 1),
            part(2, trainer),
            part(3, normalizer),
        ]
        .concat()
    }

    const BPE_MODEL: &[u8] = &[0x18, 2];
    const KEEP_SPACES: &[u8] = &[0x20, 0];

    fn built(trainer: &[u8], normalizer: &[u8]) -> Result<Tokenizer> {
        let bytes = model(trainer, normalizer);
        tokenizer(Path::new("tokenizer.model"), &bytes, SpacePrefix::EachPart)
    }

    #[test]
    fn pieces_and_settings_make_a_tokenizer() {
        let tokenizer = built(BPE_MODEL, KEEP_SPACES).unwrap();
        assert_eq!(tokenizer.encode("a a").unwrap(), [1, 3, 3]);
        assert_eq!((tokenizer.bos, &tokenizer.eos[..]), (Some(1), &[2][..]));
        let bare = [KEEP_SPACES, &[0x18, 0]].concat();
        assert_eq!(built(BPE_MODEL, &bare).unwrap().encode("a a").unwrap(), [1, 5, 3]);
        // No begin, and the end is token 5.
        let none = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let ids = [BPE_MODEL, &[0xc8, 0x02], &none, &[0xd0, 0x02, 5]].concat();
        let tokenizer = built(&ids, KEEP_SPACES).unwrap();
        assert_eq!((tokenizer.bos, &tokenizer.eos[..]), (None, &[5][..]));
        assert_eq!(tokenizer.encode("a").unwrap(), [3]);
    }

    #[test]
    fn a_space_prefix_of_each_part_or_of_the_text() {
        let ids = |space| {
            let bytes = model(BPE_MODEL, KEEP_SPACES);
            let tokenizer = tokenizer(Path::new("tokenizer.model"), &bytes, space).unwrap();
            ["a a", "</s>a", " a"].map(|text| tokenizer.encode_raw(text).unwrap())
        };
        let each = ids(SpacePrefix::EachPart);
        assert_eq!(each, [vec![3, 3], vec![2, 3], vec![4, 3]]);
        assert_eq!(ids(SpacePrefix::Start), [vec![3, 3], vec![2, 5], vec![3]]);
    }

    #[test]
    fn what_no_llama_has_is_named() {
        let message = |trainer, normalizer| built(trainer, normalizer).unwrap_err().to_string();
        assert!(message(&[], KEEP_SPACES).contains("a model that is not BPE is not supported"));
        assert!(message(BPE_MODEL, &[]).contains("removing extra spaces is not supported"));
        let charsmap = [KEEP_SPACES, &part(2, b"map")].concat();
        assert!(message(BPE_MODEL, &charsmap).contains("a table that normalizes characters"));
        let far = [BPE_MODEL, &[0xd0, 0x02, 9]].concat();
        assert!(message(&far, KEEP_SPACES).contains("eos_id is 9, but there are 6 tokens"));
    }

    #[test]
    fn broken_messages_are_refused() {
        let whole = model(BPE_MODEL, KEEP_SPACES);
        let open =
            |bytes: &[u8]| tokenizer(Path::new("tokenizer.model"), bytes, SpacePrefix::Start);
        assert!(open(&[]).unwrap_err().to_string().contains("no tokens"));
        let error = open(&whole[..whole.len() - 1]).unwrap_err().to_string();
        assert!(error.contains("not a valid SentencePiece file"), "{error}");
        assert!(open(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        assert!(open(&[0xff; 20]).is_err());
    }
}
