//! A generated response ─► the option that it means.
//!
//! A model that was trained on fixed answers repeats one of them; other models paraphrase.

/// The index of the option that a response means, by the first of these rules that finds one:
///
/// 1. The response is an option, apart from case, surrounding whitespace and a final period.
/// 2. If every option names a letter, `The answer is (B).` or `(B) a cow`: the letter after
///    "The answer is", in parentheses or alone; otherwise the first capital in parentheses;
///    otherwise a letter that is the whole response. A letter that no option has gives `None`.
/// 3. The only option whose text, without its letter, occurs in the response as whole words.
///
/// ```
/// use eval::parse_choice;
///
/// let options = ["The answer is (A).", "The answer is (B)."].map(String::from);
/// assert_eq!(parse_choice("The answer is B. A cow is larger.", &options), Some(1));
/// assert_eq!(parse_choice("A cow is larger.", &options), None);
/// ```
///
/// Source: ScienceQA's own evaluation looks for `The answer is ([A-Z]).` and takes a random choice
/// unless it occurs exactly once; here that is a wrong answer, and the first of several counts.
/// <https://github.com/lupantech/ScienceQA/blob/360b71cb6a36b9e3161dc9b65e9d86458b7d13a3/models/run_gpt3.py>
pub fn parse_choice(response: &str, options: &[String]) -> Option<usize> {
    let normalized = normalize(response);
    if normalized.is_empty() {
        return None;
    }
    if let Some(index) = options.iter().position(|option| normalize(option) == normalized) {
        return Some(index);
    }
    let letters = options.iter().map(|option| option_letter(option)).collect::<Option<Vec<_>>>();
    if let Some(letters) = &letters
        && let Some(chosen) = chosen_letter(response, letters)
    {
        return letters.iter().position(|letter| *letter == chosen);
    }
    let mut mentioned = options.iter().enumerate().filter(|(_, option)| {
        let text = if letters.is_some() { strip_option_letter(option) } else { option };
        contains_words(&normalized, &normalize(text))
    });
    match (mentioned.next(), mentioned.next()) {
        (Some((index, _)), None) => Some(index),
        _ => None,
    }
}

/// The text before a letter in ScienceQA's answers.
const ANSWER_PREFIX: &str = "The answer is";

/// A text in lower case, without surrounding whitespace and a final period.
fn normalize(text: &str) -> String {
    let text = text.trim();
    text.strip_suffix('.').unwrap_or(text).trim_end().to_lowercase()
}

/// The letter at the start of an option.
fn option_letter(option: &str) -> Option<char> {
    let option = option.trim_start();
    parenthesized_letter(option.strip_prefix(ANSWER_PREFIX).map_or(option, str::trim_start))
        .filter(char::is_ascii_uppercase)
}

/// An option after its letter; nothing that a response could mention for `The answer is (B).`
fn strip_option_letter(option: &str) -> &str {
    option.split_once(')').map_or(option, |(_, text)| text)
}

/// The letter that a response names, whether or not an option has it.
fn chosen_letter(response: &str, letters: &[char]) -> Option<char> {
    let suffixes = || response.char_indices().map(|(at, _)| &response[at..]);
    let after_prefix = suffixes().find_map(|text| {
        let prefix = text.get(..ANSWER_PREFIX.len())?;
        let rest = text[ANSWER_PREFIX.len()..].trim_start();
        // Without parentheses only the options' capitals count: "the answer is a cow".
        let bare = || standalone_letter(rest).filter(|letter| letters.contains(letter));
        prefix
            .eq_ignore_ascii_case(ANSWER_PREFIX)
            .then(|| parenthesized_letter(rest).or_else(bare))?
    });
    after_prefix
        .or_else(|| suffixes().filter_map(parenthesized_letter).find(char::is_ascii_uppercase))
        .or_else(|| {
            let mut letters = normalize(response).to_uppercase().chars().collect::<Vec<_>>();
            (letters.len() == 1).then(|| letters.remove(0)).filter(char::is_ascii_uppercase)
        })
        .map(|letter| letter.to_ascii_uppercase())
}

/// The letter of a text that starts like `(B)`.
fn parenthesized_letter(text: &str) -> Option<char> {
    let mut chars = text.strip_prefix('(')?.chars();
    let letter = chars.next().filter(char::is_ascii_alphabetic)?;
    (chars.next() == Some(')')).then_some(letter)
}

/// The letter of a text whose first word is a single capital.
fn standalone_letter(text: &str) -> Option<char> {
    let mut chars = text.chars();
    let letter = chars.next().filter(char::is_ascii_uppercase)?;
    (!chars.next().is_some_and(char::is_alphanumeric)).then_some(letter)
}

/// Whether a text contains some words with no letter or digit directly before or after them.
fn contains_words(text: &str, words: &str) -> bool {
    !words.is_empty()
        && text.match_indices(words).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + words.len()..].chars().next();
            ![before, after].into_iter().flatten().any(char::is_alphanumeric)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str, options: &[&str]) -> Option<usize> {
        let options = options.iter().map(|&option| option.into()).collect::<Vec<_>>();
        parse_choice(answer, &options)
    }

    const LETTERS: [&str; 3] = ["The answer is (A).", "The answer is (B).", "The answer is (C)."];
    const ANIMALS: [&str; 2] = ["(A) a flea", "(B) a cow"];

    #[test]
    fn an_exact_option_is_selected() {
        assert_eq!(read(" yes.\n", &["No", "Yes"]), Some(1));
        assert_eq!(read("YES", &["no.", "yes."]), Some(1));
        assert_eq!(read("the answer is (c)", &LETTERS), Some(2));
        assert_eq!(read("(B) a cow.", &ANIMALS), Some(1));
    }

    #[test]
    fn letters_are_parsed_in_science_qa_style() {
        for answer in [
            "The answer is (B). BECAUSE: (A) is not.",
            "The answer is B.",
            "Answer: The answer is B because (A) is not.",
            "the answer is (b), I think",
            "It must be (B), not (A)",
            "The answer is I think (B)",
            "As (a) of the text shows, (B)",
            "B",
            "b.",
            "(B)",
        ] {
            assert_eq!(read(answer, &LETTERS), Some(1), "{answer}");
            assert_eq!(read(answer, &ANIMALS), Some(1), "{answer}");
        }
    }

    #[test]
    fn an_unknown_letter_selects_no_option() {
        for answer in ["The answer is (D).", "(D), or (A)", "D", "The answer is BIG.", "B C", "ß"]
        {
            assert_eq!(read(answer, &LETTERS), None, "{answer}");
        }
        assert_eq!(read("(D) a cow", &ANIMALS), None);
    }

    #[test]
    fn an_article_is_not_an_option_letter() {
        assert_eq!(read("The answer is a cow.", &ANIMALS), Some(1));
        assert_eq!(read("A cow is large.", &LETTERS), None);
    }

    #[test]
    fn the_single_mentioned_option_is_selected() {
        assert_eq!(read("It is a Dark Red car.", &["green", "dark red"]), Some(1));
        assert_eq!(read("I see a cow there", &ANIMALS), Some(1));
        assert_eq!(read("red or green", &["green", "red"]), None);
        assert_eq!(read("It is colored.", &["red", "blue"]), None);
        assert_eq!(read("about 12 of them", &["1", "12"]), Some(1));
        assert_eq!(read("Größe: groß", &["größ", "groß"]), Some(1));
    }

    #[test]
    fn an_empty_answer_selects_nothing() {
        assert_eq!(read("", &["", "yes"]), None);
        assert_eq!(read(" . ", &["", "yes"]), None);
        assert_eq!(read("yes", &[]), None);
    }
}
