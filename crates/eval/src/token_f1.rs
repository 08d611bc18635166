//! Token F1: how many words two texts share, in any order.

use std::collections::HashMap;

/// F1 of the words of a response and of its reference, 0 to 1, in SQuAD's normalization: lower case,
/// without ASCII punctuation and the articles `a`, `an` and `the`. Two texts without words are equal.
///
/// ```
/// use eval::token_f1;
///
/// assert_eq!(token_f1("The Eiffel Tower", "eiffel tower!"), 1.0);
/// assert_eq!(token_f1("in Paris", "Paris, France"), 0.5);
/// ```
///
/// Source: SQuAD 2.0's evaluation script, `compute_f1`.
/// <https://worksheets.codalab.org/rest/bundles/0x6b567e1cf2e041ec80d7098f031c5c9e/contents/blob/>
pub fn token_f1(reference: &str, response: &str) -> f64 {
    let (reference, response) = (normalize(reference), normalize(response));
    if reference.is_empty() || response.is_empty() {
        return f64::from(u8::from(reference == response));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in &reference {
        *left.entry(word).or_default() += 1;
    }
    let common = response.iter().filter(|word| match left.get_mut(word.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    let common = common.count() as f64;
    if common == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (common / response.len() as f64, common / reference.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

/// The words of a text in SQuAD's normalization.
fn normalize(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let text = text.chars().filter(|c| !c.is_ascii_punctuation()).collect::<String>();
    let words = text.split(is_python_whitespace).map(remove_articles);
    // An article within a word leaves a space, as in the script.
    let words = words.flat_map(|word| word.split(' ').map(str::to_owned).collect::<Vec<_>>());
    words.filter(|word| !word.is_empty()).collect()
}

/// A word without the articles that are neither preceded nor followed by a letter or digit, which
/// become spaces: the whole word, or a part of it next to a symbol, as in `the—end`.
fn remove_articles(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while !rest.is_empty() {
        let run = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (letters, after) = rest.split_at(run);
        text += if matches!(letters, "a" | "an" | "the") { " " } else { letters };
        let symbols = after.find(char::is_alphanumeric).unwrap_or(after.len());
        text += &after[..symbols];
        rest = &after[symbols..];
    }
    text
}

/// Whitespace of Python's `str.split`.
fn is_python_whitespace(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_words_count_as_often_as_both_texts_have_them() {
        // Two of three against two of two.
        assert!((token_f1("red red blue", "red red") - 0.8).abs() < 1e-12);
        assert!((token_f1("red", "red red") - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn case_articles_and_punctuation_do_not_count() {
        assert_eq!(
            normalize(" The  well-known\tan-Answer, A.\u{1f}x "),
            ["wellknown", "ananswer", "x"]
        );
        assert_eq!(normalize("the—end"), ["—end"]);
        assert_eq!(token_f1("Größe", "größe!"), 1.0);
    }

    #[test]
    fn a_text_without_words_equals_only_another_one() {
        assert_eq!(token_f1("the", "!"), 1.0);
        assert_eq!(token_f1("", "word"), 0.0);
        assert_eq!(token_f1("word", ""), 0.0);
    }
}
