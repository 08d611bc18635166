//! `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` ─► special tokens
//!
//! `tokenizer.json` need not contain all of them: files of tokenizers in Python, and of models with tokens
//! added later, have some in these files only. Precedence and the ids of new tokens are as in transformers.
//!
//! Source: `transformers`, `tokenization_utils_base.py`, `_from_pretrained`, and
//! `tokenization_utils_tokenizers.py`, `TokenizersBackend.__init__`.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

/// Standard names, in their order.
const STANDARD: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Flags whose names end like those of tokens.
const SWITCHES: [&str; 2] = ["add_bos_token", "add_eos_token"];

/// Special tokens and added tokens.
#[derive(Debug, Default)]
pub(crate) struct SpecialTokens {
    /// By name, such as `eos_token`; standard names first.
    named: Vec<(String, AddedToken)>,
    /// Names set to null, which have no default.
    absent: Vec<String>,
    /// Special tokens without a name.
    extra: Vec<AddedToken>,
    /// By the id in the file, which the tokenizer may override.
    added: BTreeMap<u64, AddedToken>,
}

impl SpecialTokens {
    /// The special tokens of the files. Each may be absent.
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
            Some(Value::Array(list)) => {
                tokens.extra = list.iter().filter_map(parse_special).collect();
            }
            // Additional names.
            Some(Value::Object(names)) => settings.extend(names),
            _ => {}
        }
        if let Some(Value::Object(names)) = settings.remove("model_specific_special_tokens") {
            settings.extend(names);
        }
        tokens.add_named(&settings);
        match (&decoder, added_tokens) {
            (Some(Value::Object(decoder)), _) => {
                let by_id = decoder.iter().filter_map(|(id, token)| {
                    Some((id.parse().ok()?, parse_added_token(token, false)?))
                });
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

    /// Adds the `*_token` fields.
    fn add_named(&mut self, settings: &Map<String, Value>) {
        let standard = STANDARD.iter().filter_map(|name| settings.get_key_value(*name));
        let own = settings.iter().filter(|(name, _)| {
            name.ends_with("_token")
                && STANDARD.iter().chain(&SWITCHES).all(|other| *other != name.as_str())
        });
        for (name, value) in standard.chain(own) {
            match parse_special(value) {
                Some(token) if !token.content.is_empty() => self.named.push((name.clone(), token)),
                _ => self.absent.push(name.clone()),
            }
        }
    }

    /// Adds a default for a name that no file has, if the tokenizer has the token.
    pub(crate) fn add_default(&mut self, name: &str, text: &str, inner: &tokenizers::Tokenizer) {
        let is_named = self.named.iter().any(|(known, _)| known == name);
        if !is_named
            && !self.absent.iter().any(|known| known == name)
            && inner.token_to_id(text).is_some()
        {
            self.named.push((name.into(), AddedToken::from(text, true)));
        }
    }

    /// Adds all of them to the tokenizer. As in transformers, new ones get the next free ids, in the order of
    /// their ids in the files, then by name.
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

    /// All special tokens.
    fn special(&self) -> impl Iterator<Item = &AddedToken> {
        self.named.iter().map(|(_, token)| token).chain(&self.extra)
    }

    /// Content by name.
    pub(crate) fn contents(&self) -> BTreeMap<String, String> {
        let content = |(name, token): &(String, AddedToken)| (name.clone(), token.content.clone());
        self.named.iter().map(content).collect()
    }
}

/// Special tokens without a name, under the current key or the older one.
fn take_extra(settings: &mut Map<String, Value>) -> Option<Value> {
    let has = |value: &Value| match value {
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
        _ => false,
    };
    let older = settings.remove("additional_special_tokens");
    settings.remove("extra_special_tokens").filter(has).or(older.filter(has))
}

/// A special token: a string, or an object with `content`.
fn parse_special(value: &Value) -> Option<AddedToken> {
    match value {
        Value::String(text) => Some(AddedToken::from(text.as_str(), true)),
        value => parse_added_token(value, true).map(|token| AddedToken { special: true, ..token }),
    }
}

/// A token as an object with `content`; `special` is the default of that flag.
fn parse_added_token(value: &Value, special: bool) -> Option<AddedToken> {
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
    fn flags_are_not_tokens() {
        let settings = json!({"add_bos_token": "<x>", "add_eos_token": true, "eos_token": "<e>"});
        let texts = SpecialTokens::new(Some(&settings), None, None).contents();
        assert_eq!(texts, [("eos_token".to_owned(), "<e>".to_owned())].into());
    }

    #[test]
    fn a_token_in_several_files_is_added_once() {
        let settings = json!({"eos_token": "<e>", "extra_special_tokens": ["<e>", "<f>"]});
        let map = json!({"pad_token": "<e>", "extra_special_tokens": ["<f>", "<g>"]});
        let tokens = SpecialTokens::new(Some(&settings), Some(&map), Some(&json!({"<e>": 9})));
        let mut inner = tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default());
        tokens.add_to(&mut inner);
        let ids = ["<e>", "<f>", "<g>"].map(|text| inner.token_to_id(text));
        assert_eq!((ids, inner.get_vocab_size(true)), ([Some(0), Some(1), Some(2)], 3));
    }
}
