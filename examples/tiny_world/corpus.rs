//! The documents of the pretraining corpus: portraits, stories, conversations, quizzes.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};

use crate::pages;
use crate::tasks::{pick, things};
use crate::words::{ACTIONS, CATEGORIES, DAYS, capitalized, join_with_and, with_article};
use crate::world::{Fact, Person, World};

/// One document, without a line break at its end.
pub fn document(world: &World, rng: &mut impl Rng) -> String {
    match rng.random_range(0..20) {
        0..2 => portrait(world, rng),
        2 => town_page(world, rng),
        3 => day_story(world, rng),
        4 => word_page(rng),
        5 => village_news(4, world, rng),
        6..9 => pages::conversation(world, rng),
        _ => pages::page(world, rng),
    }
}

/// A person, fact by fact.
fn portrait(world: &World, rng: &mut impl Rng) -> String {
    let person = world.people.choose(rng).expect("the world has people");
    let mut facts = Fact::ALL;
    facts.shuffle(rng);
    let count = rng.random_range(3..=facts.len());
    let mut sentences =
        vec![if rng.random() { person.introduction() } else { person.says(facts[0]) }];
    for fact in &facts[1..count] {
        let by_name = rng.random_range(0..4) == 0;
        sentences.push(if by_name { person.says(*fact) } else { person.says_of_pronoun(*fact) });
    }
    if rng.random() {
        sentences.push(format!("{} belongs to {}.", person.pet_name, person.name));
    }
    if rng.random() {
        sentences
            .push(format!("The {} of {} is {}.", person.trade.name, person.town.name, person.name));
    }
    sentences.join(" ")
}

/// A town and some who live there.
fn town_page(world: &World, rng: &mut impl Rng) -> String {
    let town = world.towns.choose(rng).expect("the world has towns");
    let mut sentences =
        vec![format!("# {}\n{} is known for its {}.", town.name, town.name, town.known_for)];
    let mut residents: Vec<&Person> =
        world.people.iter().filter(|person| person.town.name == town.name).collect();
    residents.shuffle(rng);
    for person in residents.iter().take(4) {
        let (trade, place) = (person.trade.name, person.trade.place);
        sentences.push(match rng.random_range(0..3) {
            0 => format!("{} is the {trade} of {}.", person.name, town.name),
            1 => format!("{} is {} and works {place}.", person.name, with_article(trade)),
            _ => format!("The {trade} of {} is {}.", town.name, person.name),
        });
    }
    let names: Vec<_> = residents.iter().map(|person| person.name).collect();
    if names.len() > 1 {
        sentences.push(format!("{} live in {}.", join_with_and(&names), town.name));
    }
    sentences.join(" ")
}

/// What a person does today and did yesterday.
fn day_story(world: &World, rng: &mut impl Rng) -> String {
    let person = world.people.choose(rng).expect("the world has people");
    let actions: [_; 3] = ACTIONS.sample_array(rng).expect("more than three actions");
    let today = pick(&DAYS, rng);
    let mut sentences = vec![format!("It is {today} in {}.", person.town.name)];
    for (present, _) in &actions {
        sentences.push(format!("{} {present}.", person.name));
    }
    sentences.push(format!("Yesterday {} {}.", person.name, actions[0].1));
    sentences.push(format!("{} waited at home.", person.pet_name));
    sentences.join(" ")
}

/// The members of a category and their plurals.
fn word_page(rng: &mut impl Rng) -> String {
    let category = CATEGORIES.choose(rng).expect("not empty");
    let mut sentences = Vec::new();
    for (one, many) in category.things.sample(rng, 4) {
        let thing = capitalized(&with_article(one));
        sentences.push(format!("{thing} is {}.", with_article(category.name)));
        sentences.push(format!("The plural of {one} is {many}."));
    }
    sentences.join(" ")
}

/// Village news, with the words of the prompt template in other meanings.
pub fn village_news(sentences: usize, world: &World, rng: &mut impl Rng) -> String {
    let [one, two] = world.two_names(rng);
    let town = world.towns.choose(rng).expect("the world has towns").name;
    let thing = with_article(things(1, rng)[0]);
    NEWS.sample(rng, sentences)
        .map(|news| {
            news.replace("ONE", one)
                .replace("TWO", two)
                .replace("TOWN", town)
                .replace("THING", &thing)
        })
        .collect::<Vec<_>>()
        .join(" ")
}

const NEWS: [&str; 18] = [
    "ONE wrote an instruction that told TWO to bring THING.",
    "Instruction in music begins at nine in TOWN.",
    "Below the hill of TOWN there is an old well.",
    "A sign below the bridge describes the way to TOWN.",
    "TWO completes the task before dinner.",
    "It is a task that ONE completes every week.",
    "A letter that describes the winter in TOWN came from TWO.",
    "A letter from ONE provides further news of TOWN.",
    "The garden provides further work for TWO.",
    "ONE had a request that made TWO laugh.",
    "The request was for THING, and the response was yes.",
    "Write a response to ONE, said the note from TWO.",
    "Response to the fair in TOWN was warm.",
    "The dancers of TOWN are paired with an eye for their height.",
    "ONE is appropriately dressed and paired with an old friend.",
    "Input from the people of TOWN is welcome.",
    "The mill takes grain as input and gives flour as output.",
    "Out of context, the words of ONE sounded strange to TWO.",
];
