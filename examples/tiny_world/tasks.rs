//! topic ─► subject ─► an instruction and its only correct answer

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};

use crate::phrasings::phrasings;
use crate::words::{
    ACTIONS, CATEGORIES, DAYS, EVENTS, NUMBERS, OPPOSITES, PLACES, capitalized, join_with_and,
    with_article,
};
use crate::world::{Fact, Person, World};

/// The topic of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// One fact about a person.
    About(Fact),
    /// A person in one sentence.
    Introduction,
    /// Is this the person's town, yes or no?
    IsHome,
    /// Is this the person's trade, yes or no?
    IsTrade,
    /// Whose pet is it?
    PetOwner,
    /// What sort of animal is the pet?
    PetKind,
    /// Who has this trade in this town?
    Tradesperson,
    /// Fruit, animal, tool, ...?
    Category,
    /// The plural of a noun.
    Plural,
    /// The opposite of an adjective.
    Opposite,
    /// A sentence in the past tense.
    Past,
    /// A list in alphabetical order.
    Sort,
    /// A list from back to front.
    Reverse,
    /// The first item of a list.
    First,
    /// The last item of a list.
    Last,
    /// The number of items in a list.
    Count,
    /// The item that doesn't belong.
    OddOneOut,
    /// A list as English writes it.
    Enumerate,
    /// Who did what, in a short story?
    Story,
}

impl Topic {
    /// The topics that need the most training.
    pub const HARD: [Self; 6] =
        [Self::Sort, Self::OddOneOut, Self::Story, Self::Story, Self::IsHome, Self::IsTrade];

    /// Every topic.
    pub const ALL: [Self; 25] = [
        Self::About(Fact::Home),
        Self::About(Fact::Trade),
        Self::About(Fact::Pet),
        Self::About(Fact::Food),
        Self::About(Fact::Color),
        Self::About(Fact::Instrument),
        Self::About(Fact::Friend),
        Self::Introduction,
        Self::IsHome,
        Self::IsTrade,
        Self::PetOwner,
        Self::PetKind,
        Self::Tradesperson,
        Self::Category,
        Self::Plural,
        Self::Opposite,
        Self::Past,
        Self::Sort,
        Self::Reverse,
        Self::First,
        Self::Last,
        Self::Count,
        Self::OddOneOut,
        Self::Enumerate,
        Self::Story,
    ];
}

/// The style of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhrasingStyle {
    /// As in the corpus.
    Corpus,
    /// As in the instruction data.
    Instruction,
}

/// An instruction with its answer.
pub struct Task {
    /// The instruction, a sentence.
    pub instruction: String,
    /// The input, if the instruction does not contain it.
    pub input: Option<String>,
    /// The answer.
    pub answer: String,
    /// What the answer depends on; tasks of one topic with the same subject differ only in wording.
    pub subject: String,
}

impl Task {
    /// Samples a subject and a phrasing.
    pub fn draw(topic: Topic, style: PhrasingStyle, world: &World, rng: &mut impl Rng) -> Self {
        let TaskContent { question, input, answer } = TaskContent::draw(topic, world, rng);
        let phrasing = pick(phrasings(topic, style), rng);
        let subject =
            input.as_ref().map_or_else(|| question.clone(), |input| format!("{input} {question}"));
        if phrasing.contains("{}") {
            Self { instruction: phrasing.replace("{}", &question), input, answer, subject }
        } else {
            Self {
                instruction: phrasing.to_owned(),
                input: Some(input.unwrap_or(question)),
                answer,
                subject,
            }
        }
    }
}

/// The content of a task, without a phrasing.
struct TaskContent {
    /// Replaces `{}` in the phrasing; the input of a phrasing without `{}`.
    question: String,
    /// The input, with any phrasing.
    input: Option<String>,
    /// The only correct answer.
    answer: String,
}

impl TaskContent {
    fn new(question: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { question: question.into(), input: None, answer: answer.into() }
    }

    fn draw(topic: Topic, world: &World, rng: &mut impl Rng) -> Self {
        let person = world.people.choose(rng).expect("the world has people");
        match topic {
            Topic::About(fact) => Self::new(person.name, person.says(fact)),
            Topic::Introduction => Self::new(person.name, person.introduction()),
            Topic::IsHome => is_home(person, world, rng),
            Topic::IsTrade => is_trade(person, world, rng),
            Topic::PetOwner => Self::new(
                person.pet_name,
                format!("{} belongs to {}.", person.pet_name, person.name),
            ),
            Topic::PetKind => {
                let kind = with_article(person.pet_kind);
                Self::new(person.pet_name, format!("{} is {kind}.", person.pet_name))
            }
            Topic::Tradesperson => {
                let post = format!("{} of {}", person.trade.name, person.town.name);
                let answer = format!("The {post} is {}.", person.name);
                Self::new(post, answer)
            }
            Topic::Category => {
                let category = CATEGORIES.choose(rng).expect("not empty");
                let (thing, _) = pick(category.things, rng);
                let thing = with_article(thing);
                let answer = format!("{} is {}.", capitalized(&thing), with_article(category.name));
                Self::new(thing, answer)
            }
            Topic::Plural => {
                let category = CATEGORIES.choose(rng).expect("not empty");
                let (one, many) = pick(category.things, rng);
                Self::new(one, format!("The plural of {one} is {many}."))
            }
            Topic::Opposite => {
                let (mut word, mut opposite) = pick(&OPPOSITES, rng);
                if rng.random() {
                    (word, opposite) = (opposite, word);
                }
                Self::new(word, format!("The opposite of {word} is {opposite}."))
            }
            Topic::Past => {
                let (present, past) = pick(&ACTIONS, rng);
                Self::new(format!("{} {present}.", person.name), format!("{} {past}.", person.name))
            }
            Topic::Story => story(world, rng),
            Topic::OddOneOut => odd_one_out(rng),
            _ => list(topic, rng),
        }
    }
}

fn is_home(person: &Person, world: &World, rng: &mut impl Rng) -> TaskContent {
    let guess =
        if rng.random() { person.town } else { world.towns.choose(rng).expect("not empty") };
    let verdict = if guess.name == person.town.name { "Yes" } else { "No" };
    TaskContent::new(
        format!("{} live in {}", person.name, guess.name),
        format!("{verdict}, {}", person.says(Fact::Home)),
    )
}

fn is_trade(person: &Person, world: &World, rng: &mut impl Rng) -> TaskContent {
    let other = world.people.choose(rng).expect("the world has people");
    let guess = if rng.random() { person.trade } else { other.trade };
    let verdict = if guess.name == person.trade.name { "Yes" } else { "No" };
    TaskContent::new(
        format!("{} {}", person.name, with_article(guess.name)),
        format!("{verdict}, {}", person.says(Fact::Trade)),
    )
}

/// `count` different things of any category.
pub fn things(count: usize, rng: &mut impl Rng) -> Vec<&'static str> {
    let all: Vec<_> = CATEGORIES
        .iter()
        .flat_map(|category| category.things.iter().map(|(one, _)| *one))
        .collect();
    all.sample(rng, count).copied().collect()
}

fn list(topic: Topic, rng: &mut impl Rng) -> TaskContent {
    let length = match topic {
        Topic::Sort | Topic::Reverse => 3,
        Topic::Count => rng.random_range(2..=5),
        _ => rng.random_range(3..=4),
    };
    let items = things(length, rng);
    let answer = match topic {
        Topic::Sort => {
            let mut sorted = items.clone();
            sorted.sort_unstable();
            sorted.join(", ")
        }
        Topic::Reverse => items.iter().rev().copied().collect::<Vec<_>>().join(", "),
        Topic::First => items[0].to_owned(),
        Topic::Last => items[length - 1].to_owned(),
        Topic::Count => NUMBERS[length].to_owned(),
        _ => join_with_and(&items),
    };
    TaskContent::new(items.join(", "), answer)
}

fn odd_one_out(rng: &mut impl Rng) -> TaskContent {
    let [most, other] = CATEGORIES.sample_array(rng).expect("more than two categories");
    let mut items: Vec<_> = most.things.sample(rng, 3).map(|(one, _)| *one).collect();
    let (odd, _) = pick(other.things, rng);
    items.push(odd);
    items.shuffle(rng);
    TaskContent::new(items.join(", "), odd)
}

fn story(world: &World, rng: &mut impl Rng) -> TaskContent {
    let [one, two] = world.two_names(rng);
    let events: [_; 2] = EVENTS.sample_array(rng).expect("more than two events");
    let items = things(2, rng);
    let (day, place) = (pick(&DAYS, rng), pick(&PLACES, rng));
    let action = |who: &str, index: usize| {
        let (_, past) = events[index];
        format!("{who} {past} {}", with_article(items[index]))
    };
    let story = format!("On {day} {} {place}, and {}.", action(one, 0), action(two, 1));
    let (who, index) = if rng.random() { (one, 0) } else { (two, 1) };
    let question = if rng.random() {
        format!("What did {who} {}?", events[index].0)
    } else {
        format!("Who {} the {}?", events[index].1, items[index])
    };
    TaskContent { question, input: Some(story), answer: format!("{}.", action(who, index)) }
}

/// A random item.
///
/// # Panics
/// If there is none.
pub fn pick<T: Copy>(items: &[T], rng: &mut impl Rng) -> T {
    *items.choose(rng).expect("something to pick from")
}
