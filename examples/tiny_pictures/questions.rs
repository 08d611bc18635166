//! What is asked about a picture, in which words, and what there is to answer.

use crate::drawing::{Colour, Labels, Thing};

/// What a question wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The thing and its colour: `"It is a red hat."`
    Both,
    /// The thing: `"hat"`
    Thing,
    /// The colour: `"It is red."`
    Colour,
    /// Whether it is a certain thing: `"Yes."`
    IsThing,
    /// Whether it has a certain colour: `"No."`
    IsColour,
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Both, Self::Thing, Self::Colour, Self::IsThing, Self::IsColour];

    /// The group it counts for in tables of results.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Thing => "thing",
            Self::Colour => "colour",
            Self::IsThing | Self::IsColour => "yes-no",
        }
    }

    /// Whether the answer is yes or no.
    pub fn is_yes_no(self) -> bool {
        matches!(self, Self::IsThing | Self::IsColour)
    }

    /// The ways to ask it. `{}` stands for what may or may not be true.
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
            Self::Colour => &[
                "What colour is the thing in the picture?",
                "Say which colour this thing has.",
                "Tell me the colour of the thing in this picture.",
            ],
            Self::IsThing => &["Is the thing in the picture {}?", "Say yes or no: is this {}?"],
            Self::IsColour => {
                &["Is the thing in the picture {}?", "Say yes or no: is this thing {}?"]
            }
        }
    }

    /// What a yes-or-no question takes for `{}` where the answer is yes.
    ///
    /// # Panics
    /// For the other questions.
    pub fn truth(self, labels: Labels) -> String {
        match self {
            Self::IsThing => with_article(labels.thing.name()),
            Self::IsColour => labels.colour.name().into(),
            Self::Both | Self::Thing | Self::Colour => panic!("{self:?} is not yes or no"),
        }
    }

    /// The right answer; `claim` is what a yes-or-no question takes for `{}`.
    pub fn answer(self, labels: Labels, claim: &str) -> String {
        let Labels { thing, colour, .. } = labels;
        match self {
            Self::Both => both(thing, colour),
            Self::Thing => thing.name().into(),
            Self::Colour => format!("It is {}.", colour.name()),
            Self::IsThing | Self::IsColour if claim == self.truth(labels) => "Yes.".into(),
            Self::IsThing | Self::IsColour => "No.".into(),
        }
    }

    /// Every answer that is right for some picture.
    pub fn options(self) -> Vec<String> {
        let colours = Colour::ALL.into_iter();
        match self {
            Self::Both => {
                colours.flat_map(|colour| Thing::ALL.map(|thing| both(thing, colour))).collect()
            }
            Self::Thing => Thing::ALL.map(|thing| thing.name().into()).into(),
            Self::Colour => colours.map(|colour| format!("It is {}.", colour.name())).collect(),
            Self::IsThing | Self::IsColour => vec!["Yes.".into(), "No.".into()],
        }
    }
}

fn both(thing: Thing, colour: Colour) -> String {
    format!("It is {}.", with_article(&format!("{} {}", colour.name(), thing.name())))
}

/// The words with their article: `"an apple"`.
fn with_article(words: &str) -> String {
    let article = if words.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {words}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ORANGE_APPLE: Labels = Labels { thing: Thing::Apple, colour: Colour::Orange, place: 4 };

    #[test]
    fn answers_are_plain_english() {
        assert_eq!(Question::Both.answer(ORANGE_APPLE, ""), "It is an orange apple.");
        assert_eq!(Question::Thing.answer(ORANGE_APPLE, ""), "apple");
        assert_eq!(Question::Colour.answer(ORANGE_APPLE, ""), "It is orange.");
        assert_eq!(Question::IsThing.answer(ORANGE_APPLE, "an apple"), "Yes.");
        assert_eq!(Question::IsThing.answer(ORANGE_APPLE, "a hat"), "No.");
        assert_eq!(Question::IsColour.answer(ORANGE_APPLE, "orange"), "Yes.");
        assert_eq!(Question::IsColour.answer(ORANGE_APPLE, "red"), "No.");
    }

    #[test]
    fn every_answer_is_one_of_its_options_which_are_all_different() {
        for question in Question::ALL {
            let options = question.options();
            assert_eq!(options.iter().collect::<BTreeSet<_>>().len(), options.len());
            for thing in Thing::ALL {
                for colour in Colour::ALL {
                    let answer = question.answer(Labels { thing, colour, place: 0 }, "a hat");
                    assert!(options.contains(&answer), "{question:?}: {answer}");
                }
            }
        }
    }

    #[test]
    fn a_phrasing_belongs_to_one_form_of_answer() {
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
