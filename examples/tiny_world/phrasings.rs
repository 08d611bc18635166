//! The phrasings of each topic, in the corpus and in the instructions.
//!
//! `{}` stands for the question; a phrasing without it takes the question as its input.

use crate::tasks::{PhrasingStyle, Topic};
use crate::world::Fact;

/// The phrasings of a topic in a style.
pub fn phrasings(topic: Topic, style: PhrasingStyle) -> &'static [&'static str] {
    match (topic, style) {
        (Topic::About(fact), PhrasingStyle::Corpus) => fact_in_corpus(fact),
        (Topic::About(fact), PhrasingStyle::Instruction) => fact_in_instruction(fact),
        (_, PhrasingStyle::Corpus) => in_corpus(topic),
        (_, PhrasingStyle::Instruction) => in_instruction(topic),
    }
}

fn fact_in_corpus(fact: Fact) -> &'static [&'static str] {
    match fact {
        Fact::Home => &[
            "Where does {} live?",
            "In which town does {} live?",
            "Where is the home of {}?",
            "Name the home town of {}.",
            "Where does this person live?",
        ],
        Fact::Trade => &[
            "What does {} do for a living?",
            "What is the trade of {}?",
            "Name the trade of {}.",
            "What work does {} do?",
            "What is the trade of this person?",
        ],
        Fact::Pet => &[
            "What pet does {} have?",
            "Which animal lives with {}?",
            "Name the pet of {}.",
            "Tell me about the pet of {}.",
            "What pet does this person have?",
        ],
        Fact::Food => &[
            "What does {} like to eat?",
            "What is the favourite food of {}?",
            "Name the favourite food of {}.",
            "What food does {} like best?",
            "What does this person like to eat?",
        ],
        Fact::Color => &[
            "Which colour does {} like best?",
            "What is the favourite colour of {}?",
            "Name the favourite colour of {}.",
            "What is the favourite colour of this person?",
        ],
        Fact::Instrument => &[
            "What does {} play?",
            "Which instrument does {} play?",
            "Name the instrument that {} plays.",
            "Which instrument does this person play?",
        ],
        Fact::Friend => &[
            "Who is the best friend of {}?",
            "Who is a good friend to {}?",
            "Name the best friend of {}.",
            "Who is the best friend of this person?",
        ],
    }
}

fn fact_in_instruction(fact: Fact) -> &'static [&'static str] {
    match fact {
        Fact::Home => &[
            "Name the town where {} lives.",
            "Tell me where {} lives.",
            "Say where this person lives.",
        ],
        Fact::Trade => &[
            "Say what {} does for a living.",
            "Tell me the trade of {}.",
            "Name the trade of this person.",
        ],
        Fact::Pet => &[
            "Tell me which pet {} has.",
            "Say what pet lives with {}.",
            "Name the pet of this person.",
        ],
        Fact::Food => &[
            "Say what {} likes to eat.",
            "Tell me which food {} likes best.",
            "Name the favourite food of this person.",
        ],
        Fact::Color => &[
            "Say which colour {} likes best.",
            "Tell me the favourite colour of {}.",
            "Name the favourite colour of this person.",
        ],
        Fact::Instrument => &[
            "Say which instrument {} plays.",
            "Tell me what {} plays.",
            "Name the instrument of this person.",
        ],
        Fact::Friend => &[
            "Say who the best friend of {} is.",
            "Tell me the best friend of {}.",
            "Name the best friend of this person.",
        ],
    }
}

fn in_corpus(topic: Topic) -> &'static [&'static str] {
    match topic {
        Topic::About(fact) => fact_in_corpus(fact),
        Topic::Introduction => {
            &["Who is {}?", "Introduce {} to us.", "Tell me about {}.", "Who is this person?"]
        }
        Topic::IsHome => &["Does {}?", "Is it true? Does {}?"],
        Topic::IsTrade => &["Is {}?", "Is it true? Is {}?"],
        Topic::PetOwner => &[
            "Who does {} belong to?",
            "Whose pet is {}?",
            "Name the owner of {}.",
            "Who is the owner of this pet?",
        ],
        Topic::PetKind => {
            &["What is {}?", "What kind of animal is {}?", "What kind of pet is this?"]
        }
        Topic::Tradesperson => &["Who is the {}?", "Name the {}.", "Can you name the {}?"],
        Topic::Category => {
            &["What is {}?", "What kind of thing is {}?", "Say what kind of thing this is."]
        }
        Topic::Plural => &[
            "What is the plural of {}?",
            "Give the plural of {}.",
            "What is the plural of this word?",
        ],
        Topic::Opposite => &[
            "What is the opposite of {}?",
            "Give the opposite of {}.",
            "What is the opposite of this word?",
        ],
        Topic::Past => &[
            "Put this sentence in the past tense.",
            "Say this in the past tense.",
            "Tell it in the past tense.",
        ],
        Topic::Sort => &[
            "Put these words in alphabetical order.",
            "Sort this list by the alphabet.",
            "Sort these words.",
        ],
        Topic::Reverse => {
            &["Put these words in reverse order.", "Say this list backwards.", "Reverse this list."]
        }
        Topic::First => &[
            "What is the first word of this list?",
            "Name the first thing.",
            "Which word comes first?",
        ],
        Topic::Last => &[
            "What is the last word of this list?",
            "Name the last thing.",
            "Which word comes last?",
        ],
        Topic::Count => &[
            "How many words are in this list?",
            "Count these things.",
            "How many things are there?",
        ],
        Topic::OddOneOut => &[
            "Which word is the odd one out?",
            "Find the odd one out.",
            "Which word does not belong?",
        ],
        Topic::Enumerate => &["Join these words with and.", "Use and in this list."],
        Topic::Story => &["{}"],
    }
}

fn in_instruction(topic: Topic) -> &'static [&'static str] {
    match topic {
        Topic::About(fact) => fact_in_instruction(fact),
        Topic::Introduction => &["Introduce {} to a new friend.", "Introduce this person."],
        Topic::IsHome => &["Say yes or no: does {}?", "Answer this: does {}?"],
        Topic::IsTrade => &["Say yes or no: is {}?", "Answer this: is {}?"],
        Topic::PetOwner => &["Tell me whose pet {} is.", "Name the owner of this pet."],
        Topic::PetKind => {
            &["Say what kind of animal {} is.", "Say what kind of animal this pet is."]
        }
        Topic::Tradesperson => &["Tell me who is the {}.", "Say the name of the {}."],
        Topic::Category => &["Tell me what kind of thing {} is.", "What kind of thing is this?"],
        Topic::Plural => &["Write the plural of the word {}.", "Write the plural of this word."],
        Topic::Opposite => {
            &["Write the opposite of the word {}.", "Write the opposite of this word."]
        }
        Topic::Past => {
            &["Write this sentence in the past tense.", "Change this sentence to the past tense."]
        }
        Topic::Sort => {
            &["Sort this list in alphabetical order.", "Write these words in alphabetical order."]
        }
        Topic::Reverse => &["Reverse the order of this list.", "Write this list backwards."],
        Topic::First => {
            &["Write the first word of this list.", "Which of these things comes first?"]
        }
        Topic::Last => &["Write the last word of this list.", "Which of these things comes last?"],
        Topic::Count => &["Count the words in this list.", "How many things are in this list?"],
        Topic::OddOneOut => &["Name the odd one out.", "Which of these words does not belong?"],
        Topic::Enumerate => &["Join this list with and.", "Use and to join these words."],
        Topic::Story => &["{}"],
    }
}
