//! Questions about an image: phrasings, answers and options.

use crate::drawing::{Color, Labels, Thing};

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Object and color: `"It is a red hat."`
    Both,
    /// Object: `"hat"`
    Thing,
    /// Color: `"It is red."`
    Color,
    /// Whether it is a given object: `"Yes."`
    IsThing,
    /// Whether it has a given color: `"No."`
    IsColor,
}

impl Question {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Both, Self::Thing, Self::Color, Self::IsThing, Self::IsColor];

    /// Group in tables of results.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Thing => "thing",
            Self::Color => "colour",
            Self::IsThing | Self::IsColor => "yes-no",
        }
    }

    /// Whether the answer is yes or no.
    pub fn is_yes_no(self) -> bool {
        matches!(self, Self::IsThing | Self::IsColor)
    }

    /// All phrasings. `{}` is the claim of a yes-or-no question.
    pub fn phrasings(self) -> &'static [&'static str] {
        match self {
            Self::Both => &[
                "What is in the picture?",
                "Say what is in this picture.",
                "Tell me what this picture shows.",
            ],
            Self::Thing => &[
                "Name the thing in the picture.",
                "Which thing is in this picture?",
                "Write the name of the thing in this picture.",
            ],
            Self::Color => &[
                "What colour is the thing in the picture?",
                "Say which colour this thing has.",
                "Tell me the colour of the thing in this picture.",
            ],
            Self::IsThing => &["Is the thing in the picture {}?", "Say yes or no: is this {}?"],
            Self::IsColor => {
                &["Is the thing in the picture {}?", "Say yes or no: is this thing {}?"]
            }
        }
    }

    /// The claim of a yes-or-no question to which the answer is yes.
    ///
    /// # Panics
    /// For the other questions.
    pub fn true_claim(self, labels: Labels) -> String {
        match self {
            Self::IsThing => with_article(labels.thing.name()),
            Self::IsColor => labels.color.name().into(),
            Self::Both | Self::Thing | Self::Color => panic!("{self:?} is not yes or no"),
        }
    }

    /// The correct answer; `claim` is that of a yes-or-no question.
    pub fn answer(self, labels: Labels, claim: &str) -> String {
        let Labels { thing, color, .. } = labels;
        match self {
            Self::Both => both(thing, color),
            Self::Thing => thing.name().into(),
            Self::Color => format!("It is {}.", color.name()),
            Self::IsThing | Self::IsColor if claim == self.true_claim(labels) => "Yes.".into(),
            Self::IsThing | Self::IsColor => "No.".into(),
        }
    }

    /// All possible answers.
    pub fn options(self) -> Vec<String> {
        let colors = Color::ALL.into_iter();
        match self {
            Self::Both => {
                colors.flat_map(|color| Thing::ALL.map(|thing| both(thing, color))).collect()
            }
            Self::Thing => Thing::ALL.map(|thing| thing.name().into()).into(),
            Self::Color => colors.map(|color| format!("It is {}.", color.name())).collect(),
            Self::IsThing | Self::IsColor => vec!["Yes.".into(), "No.".into()],
        }
    }
}

fn both(thing: Thing, color: Color) -> String {
    format!("It is {}.", with_article(&format!("{} {}", color.name(), thing.name())))
}

/// With the indefinite article: `"an apple"`.
fn with_article(words: &str) -> String {
    let article = if words.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {words}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ORANGE_APPLE: Labels = Labels { thing: Thing::Apple, color: Color::Orange, position: 4 };

    #[test]
    fn answers_are_english_sentences() {
        assert_eq!(Question::Both.answer(ORANGE_APPLE, ""), "It is an orange apple.");
        assert_eq!(Question::Thing.answer(ORANGE_APPLE, ""), "apple");
        assert_eq!(Question::Color.answer(ORANGE_APPLE, ""), "It is orange.");
        assert_eq!(Question::IsThing.answer(ORANGE_APPLE, "an apple"), "Yes.");
        assert_eq!(Question::IsThing.answer(ORANGE_APPLE, "a hat"), "No.");
        assert_eq!(Question::IsColor.answer(ORANGE_APPLE, "orange"), "Yes.");
        assert_eq!(Question::IsColor.answer(ORANGE_APPLE, "red"), "No.");
    }

    #[test]
    fn options_are_distinct_and_contain_every_answer() {
        for question in Question::ALL {
            let options = question.options();
            assert_eq!(options.iter().collect::<BTreeSet<_>>().len(), options.len());
            for thing in Thing::ALL {
                for color in Color::ALL {
                    let answer = question.answer(Labels { thing, color, position: 0 }, "a hat");
                    assert!(options.contains(&answer), "{question:?}: {answer}");
                }
            }
        }
    }

    #[test]
    fn phrasing_determines_the_form_of_the_answer() {
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for question in Question::ALL {
            for phrasing in question.phrasings() {
                assert_eq!(phrasing.contains("{}"), question.is_yes_no(), "{phrasing}");
                let other = seen.iter().find(|(other, _)| other == phrasing);
                assert!(other.is_none_or(|(_, tag)| *tag == question.tag()), "{phrasing}");
                seen.push((phrasing, question.tag()));
            }
        }
    }
}
