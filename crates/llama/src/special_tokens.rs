//! `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` ─► special tokens
//!
//! A `tokenizer.json` need not name them all: files that were written for tokenizers in Python, and
//! those of models that got tokens later, have some in these files alone. Which file counts where
//! several speak, and which ids new tokens get, is as in transformers.
//!
//! Source: `transformers`, `tokenization_utils_base.py`, `_from_pretrained`, and
//! `tokenization_utils_tokenizers.py`, `TokenizersBackend.__init__`.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

/// Names that come first, in this order.
const STANDARD: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Named as tokens are, and none: whether texts begin and end with one.
const SWITCHES: [&str; 2] = ["add_bos_token", "add_eos_token"];

/// Tokens that stand for something, and tokens that are one piece.
#[derive(Debug, Default)]
pub(crate) struct SpecialTokens {
    /// By name, such as `eos_token`; standard names first.
    named: Vec<(String, AddedToken)>,
    /// Named `null` on purpose, so that no class stands in.
    absent: Vec<String>,
    /// Special without a name.
    extra: Vec<AddedToken>,
    /// By the id that the file gives; the tokenizer knows better.
    added: BTreeMap<u64, AddedToken>,
}

impl SpecialTokens {
    /// What the files say. Each may be absent.
    pub(crate) fn new(
        tokenizer_config: Option<&Value>,
        special_tokens_map: Option<&Value>,
        added_tokens: Option<&Value>,
    ) -> Self {
        let mut settings = tokenizer_config.and_then(Value::as_object).cloned().unwrap_or_default();
        let mut tokens = Self::default();
        let decoder = settings.remove("added_tokens_decoder");
        let mut extra = take_extra(&mut settings);
        if decoder.is_none()
            && let Some(Value::Object(map)) = special_tokens_map
        {
            let mut map = map.clone();
            let more = take_extra(&mut map);
            match (extra.as_mut(), more) {
                (None, more) => extra = more,
                (Some(Value::Array(extra)), Some(Value::Array(more))) => {
                    let known = extra.iter().map(Value::to_string).collect::<HashSet<_>>();
                    extra.extend(
                        more.into_iter().filter(|token| !known.contains(&token.to_string())),
                    );
                }
                (Some(_), _) => {}
            }
            settings.extend(map);
        }
        match extra {
            Some(Value::Array(list)) => tokens.extra = list.iter().filter_map(special).collect(),
            // Names for tokens of this model.
            Some(Value::Object(names)) => settings.extend(names),
            _ => {}
        }
        if let Some(Value::Object(names)) = settings.remove("model_specific_special_tokens") {
            settings.extend(names);
        }
        tokens.name(&settings);
        match (&decoder, added_tokens) {
            (Some(Value::Object(decoder)), _) => {
                let by_id = decoder
                    .iter()
                    .filter_map(|(id, token)| Some((id.parse().ok()?, described(token, false)?)));
                tokens.added = by_id.collect();
            }
            (None, Some(Value::Object(ids))) => {
                let special = tokens.special().map(|token| &*token.content);
                let special = special.collect::<HashSet<_>>();
                let by_id = ids.iter().filter_map(|(text, id)| {
                    let is_special = special.contains(text.as_str());
                    Some((id.as_u64()?, AddedToken::from(text.as_str(), is_special)))
                });
                tokens.added = by_id.collect();
            }
            _ => {}
        }
        tokens
    }

    /// Takes the `*_token` fields.
    fn name(&mut self, settings: &Map<String, Value>) {
        let standard = STANDARD.iter().filter_map(|name| settings.get_key_value(*name));
        let own = settings.iter().filter(|(name, _)| {
            name.ends_with("_token")
                && STANDARD.iter().chain(&SWITCHES).all(|other| *other != name.as_str())
        });
        for (name, value) in standard.chain(own) {
            match special(value) {
                Some(token) if !token.content.is_empty() => self.named.push((name.clone(), token)),
                _ => self.absent.push(name.clone()),
            }
        }
    }

    /// Lets a token that the tokenizer has stand in for a name that no file has.
    pub(crate) fn stand_in(&mut self, name: &str, text: &str, inner: &tokenizers::Tokenizer) {
        let is_named = self.named.iter().any(|(known, _)| known == name);
        if !is_named
            && !self.absent.iter().any(|known| known == name)
            && inner.token_to_id(text).is_some()
        {
            self.named.push((name.into(), AddedToken::from(text, true)));
        }
    }

    /// Makes the tokenizer know all of them. New ones get ids behind its own, in the order of the
    /// ids that the files give them, then by their names: what transformers does, whatever ids
    /// files claim.
    pub(crate) fn add_to(&self, inner: &mut tokenizers::Tokenizer) {
        let named = self.named.iter().map(|(_, token)| &*token.content).collect::<HashSet<_>>();
        let mut new = Vec::new();
        for token in self.added.values() {
            let special = token.special || named.contains(&*token.content);
            new.push(AddedToken { special, ..token.clone() });
        }
        let decoder = inner.get_added_tokens_decoder();
        let known = decoder.values().chain(self.added.values());
        let mut known = known.map(|token| &*token.content).collect::<HashSet<_>>();
        for token in self.special() {
            if known.insert(&token.content) {
                new.push(token.clone());
            }
        }
        inner.add_tokens(&new);
    }

    /// Those with a name, and those that are special without.
    fn special(&self) -> impl Iterator<Item = &AddedToken> {
        self.named.iter().map(|(_, token)| token).chain(&self.extra)
    }

    /// Texts by name.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        let text = |(name, token): &(String, AddedToken)| (name.clone(), token.content.clone());
        self.named.iter().map(text).collect()
    }
}

/// Special tokens without a name; older files have their older word.
fn take_extra(settings: &mut Map<String, Value>) -> Option<Value> {
    let has = |value: &Value| match value {
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
        _ => false,
    };
    let older = settings.remove("additional_special_tokens");
    settings.remove("extra_special_tokens").filter(has).or(older.filter(has))
}

/// A token that is special, as a text or an object with `content`.
fn special(value: &Value) -> Option<AddedToken> {
    match value {
        Value::String(text) => Some(AddedToken::from(text.as_str(), true)),
        value => described(value, true).map(|token| AddedToken { special: true, ..token }),
    }
}

/// An object with `content`. `special` is for one that does not say.
fn described(value: &Value, special: bool) -> Option<AddedToken> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(special);
    let token = AddedToken::from(value.get("content")?.as_str()?, special);
    Some(AddedToken {
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        ..token
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_switch_is_no_token_whatever_it_holds() {
        let settings = json!({"add_bos_token": "<x>", "add_eos_token": true, "eos_token": "<e>"});
        let texts = SpecialTokens::new(Some(&settings), None, None).texts();
        assert_eq!(texts, [("eos_token".to_owned(), "<e>".to_owned())].into());
    }

    #[test]
    fn a_token_of_several_files_is_added_once() {
        let settings = json!({"eos_token": "<e>", "extra_special_tokens": ["<e>", "<f>"]});
        let map = json!({"pad_token": "<e>", "extra_special_tokens": ["<f>", "<g>"]});
        let tokens = SpecialTokens::new(Some(&settings), Some(&map), Some(&json!({"<e>": 9})));
        let mut inner = tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default());
        tokens.add_to(&mut inner);
        let ids = ["<e>", "<f>", "<g>"].map(|text| inner.token_to_id(text));
        assert_eq!((ids, inner.get_vocab_size(true)), ([Some(0), Some(1), Some(2)], 3));
    }
}
