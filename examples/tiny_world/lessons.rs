//! topic ─► subject ─► a request, and the one right answer.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};

use crate::phrasings;
use crate::words::{
    ACTIONS, CATEGORIES, DAYS, EVENTS, NUMBERS, OPPOSITES, PLACES, capitalised, enumerated,
    with_article,
};
use crate::world::{Fact, Person, World};

/// What a lesson is about.
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
    /// Those that need the most practice.
    pub const HARD: [Self; 6] =
        [Self::Sort, Self::OddOneOut, Self::Story, Self::Story, Self::IsHome, Self::IsTrade];

    /// Every topic.
    pub const ALL: [Self; 25] = [
        Self::About(Fact::Home),
        Self::About(Fact::Trade),
        Self::About(Fact::Pet),
        Self::About(Fact::Food),
        Self::About(Fact::Colour),
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

/// Whose words a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhrasingStyle {
    /// As people in the corpus ask.
    Corpus,
    /// As the instructions ask.
    Instruction,
}

/// A request with its answer.
pub struct Task {
    /// The request, a sentence.
    pub ask: String,
    /// What the request is about, where the request itself doesn't say.
    pub given: Option<String>,
    /// The answer.
    pub answer: String,
    /// What the answer rests on; lessons of one topic that share it differ only in their words.
    pub subject: String,
}

impl Task {
    /// Draws a subject and a way to ask about it.
    pub fn draw(topic: Topic, voice: PhrasingStyle, world: &World, rng: &mut impl Rng) -> Self {
        let Matter { asked, given, answer } = Matter::draw(topic, world, rng);
        let phrasing = pick(phrasings::of(topic, voice), rng);
        let subject =
            given.as_ref().map_or_else(|| asked.clone(), |given| format!("{given} {asked}"));
        if phrasing.contains("{}") {
            Self { ask: phrasing.replace("{}", &asked), given, answer, subject }
        } else {
            Self { ask: phrasing.to_owned(), given: Some(given.unwrap_or(asked)), answer, subject }
        }
    }
}

/// What there is to ask, before it's put into words.
struct Matter {
    /// Takes the place of `{}` in the request, or is given beside a request without one.
    asked: String,
    /// Given beside the request in any case.
    given: Option<String>,
    /// The one right answer.
    answer: String,
}

impl Matter {
    fn new(asked: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { asked: asked.into(), given: None, answer: answer.into() }
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
                let answer = format!("{} is {}.", capitalised(&thing), with_article(category.name));
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

fn is_home(person: &Person, world: &World, rng: &mut impl Rng) -> Matter {
    let guess =
        if rng.random() { person.town } else { world.towns.choose(rng).expect("not empty") };
    let verdict = if guess.name == person.town.name { "Yes" } else { "No" };
    Matter::new(
        format!("{} live in {}", person.name, guess.name),
        format!("{verdict}, {}", person.says(Fact::Home)),
    )
}

fn is_trade(person: &Person, world: &World, rng: &mut impl Rng) -> Matter {
    let other = world.people.choose(rng).expect("the world has people");
    let guess = if rng.random() { person.trade } else { other.trade };
    let verdict = if guess.name == person.trade.name { "Yes" } else { "No" };
    Matter::new(
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

fn list(topic: Topic, rng: &mut impl Rng) -> Matter {
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
        _ => enumerated(&items),
    };
    Matter::new(items.join(", "), answer)
}

fn odd_one_out(rng: &mut impl Rng) -> Matter {
    let [most, other] = CATEGORIES.sample_array(rng).expect("more than two categories");
    let mut items: Vec<_> = most.things.sample(rng, 3).map(|(one, _)| *one).collect();
    let (odd, _) = pick(other.things, rng);
    items.push(odd);
    items.shuffle(rng);
    Matter::new(items.join(", "), odd)
}

fn story(world: &World, rng: &mut impl Rng) -> Matter {
    let [one, two] = world.two_names(rng);
    let events: [_; 2] = EVENTS.sample_array(rng).expect("more than two events");
    let items = things(2, rng);
    let (day, place) = (pick(&DAYS, rng), pick(&PLACES, rng));
    let deed = |who: &str, index: usize| {
        let (_, past) = events[index];
        format!("{who} {past} {}", with_article(items[index]))
    };
    let told = format!("On {day} {} {place}, and {}.", deed(one, 0), deed(two, 1));
    let (who, index) = if rng.random() { (one, 0) } else { (two, 1) };
    let asked = if rng.random() {
        format!("What did {who} {}?", events[index].0)
    } else {
        format!("Who {} the {}?", events[index].1, items[index])
    };
    Matter { asked, given: Some(told), answer: format!("{}.", deed(who, index)) }
}

/// One item, by copy.
///
/// # Panics
///
/// Where there is none.
pub fn pick<T: Copy>(items: &[T], rng: &mut impl Rng) -> T {
    *items.choose(rng).expect("something to pick from")
}
