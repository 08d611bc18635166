//! people × (town, trade, pet, food, colour, instrument, friend): the facts of the world

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::words::with_article;

const WOMEN: [&str; 24] = [
    "Ada", "Anna", "Bella", "Clara", "Cora", "Edith", "Ella", "Grace", "Greta", "Iris", "Ivy",
    "Julia", "Kate", "Lucy", "Mary", "Nora", "Olive", "Paula", "Rose", "Sarah", "Tess", "Una",
    "Wendy", "Zoe",
];

const MEN: [&str; 24] = [
    "Arthur", "Ben", "Bruno", "Daniel", "David", "Felix", "Frank", "George", "Henry", "Hugo",
    "Jack", "Jonas", "Karl", "Leo", "Martin", "Noah", "Oscar", "Peter", "Robert", "Simon",
    "Thomas", "Victor", "Walter", "Yusuf",
];

const TOWNS: [Town; 8] = [
    Town { name: "Millbrook", known_for: "apple orchards" },
    Town { name: "Thornby", known_for: "stone bridge" },
    Town { name: "Ashford", known_for: "glass lamps" },
    Town { name: "Oakham", known_for: "tall clock tower" },
    Town { name: "Seaton", known_for: "fishing boats" },
    Town { name: "Fernley", known_for: "rose gardens" },
    Town { name: "Wickham", known_for: "winter fair" },
    Town { name: "Harwick", known_for: "wool market" },
];

/// Each trade with the place where it is done.
const TRADES: [Trade; 12] = [
    Trade { name: "baker", place: "at the bakery" },
    Trade { name: "farmer", place: "on the farm" },
    Trade { name: "teacher", place: "at the school" },
    Trade { name: "doctor", place: "at the clinic" },
    Trade { name: "miller", place: "at the mill" },
    Trade { name: "sailor", place: "in the harbour" },
    Trade { name: "gardener", place: "in the garden" },
    Trade { name: "painter", place: "in the studio" },
    Trade { name: "carpenter", place: "in the workshop" },
    Trade { name: "librarian", place: "in the library" },
    Trade { name: "potter", place: "at the pottery" },
    Trade { name: "blacksmith", place: "at the forge" },
];

const PET_KINDS: [&str; 8] = ["dog", "cat", "rabbit", "parrot", "goat", "pony", "duck", "mouse"];

const PET_NAMES: [&str; 48] = [
    "Acorn", "Biscuit", "Bramble", "Bubbles", "Button", "Clover", "Cocoa", "Daisy", "Dusty",
    "Echo", "Ember", "Feather", "Fudge", "Ginger", "Hazel", "Honey", "Inky", "Jasper", "Jingle",
    "Kipper", "Lucky", "Maple", "Marble", "Misty", "Muffin", "Nibbles", "Nutmeg", "Patch",
    "Pebble", "Pepper", "Pickle", "Pudding", "Quill", "Rocket", "Rusty", "Sandy", "Smudge",
    "Socks", "Sparkle", "Sunny", "Tinker", "Toffee", "Truffle", "Velvet", "Waffle", "Whisper",
    "Willow", "Ziggy",
];

const FOODS: [&str; 10] = [
    "soup",
    "bread",
    "cheese",
    "porridge",
    "pancakes",
    "stew",
    "noodles",
    "dumplings",
    "salad",
    "rice",
];

const COLORS: [&str; 8] = ["red", "blue", "green", "yellow", "purple", "orange", "white", "brown"];

const INSTRUMENTS: [&str; 8] =
    ["flute", "violin", "drum", "harp", "guitar", "piano", "trumpet", "fiddle"];

/// A place where people live.
pub struct Town {
    /// Its name.
    pub name: &'static str,
    /// What the town is known for, after "its".
    pub known_for: &'static str,
}

/// An occupation.
pub struct Trade {
    /// Its name.
    pub name: &'static str,
    /// The workplace: `"at the mill"`.
    pub place: &'static str,
}

/// A person with all facts about them.
pub struct Person {
    /// First name, unique.
    pub name: &'static str,
    /// `"She"` or `"He"`.
    pub pronoun: &'static str,
    /// Where they live.
    pub town: &'static Town,
    /// Their trade; no two people of a town share one.
    pub trade: &'static Trade,
    /// `"cat"`.
    pub pet_kind: &'static str,
    /// The pet's name, unique.
    pub pet_name: &'static str,
    /// Favourite food.
    pub food: &'static str,
    /// Favourite colour.
    pub color: &'static str,
    /// The instrument they play.
    pub instrument: &'static str,
    /// Best friend; always mutual.
    pub friend: &'static str,
}

/// A fact about a person, one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// Where they live.
    Home,
    /// What they do for a living.
    Trade,
    /// The pet, with its name.
    Pet,
    /// Favourite food.
    Food,
    /// Favourite colour.
    Color,
    /// The instrument they play.
    Instrument,
    /// The best friend.
    Friend,
}

impl Fact {
    /// All of them, in the order in which they are declared.
    pub const ALL: [Self; 7] = [
        Self::Home,
        Self::Trade,
        Self::Pet,
        Self::Food,
        Self::Color,
        Self::Instrument,
        Self::Friend,
    ];
}

impl Person {
    /// The fact as a sentence: `"Ada lives in Millbrook."`
    pub fn says(&self, fact: Fact) -> String {
        format!("{}{}", self.name, self.predicate(fact))
    }

    /// The fact as a sentence that opens with a pronoun: `"She lives in Millbrook."`
    pub fn says_of_pronoun(&self, fact: Fact) -> String {
        let possessive = if self.pronoun == "She" { "Her" } else { "His" };
        let predicate = self.predicate(fact);
        match predicate.strip_prefix("'s") {
            Some(rest) => format!("{possessive}{rest}"),
            None => format!("{}{predicate}", self.pronoun),
        }
    }

    /// The whole person in a sentence.
    pub fn introduction(&self) -> String {
        format!(
            "{} is {} from {} who plays the {} and has {} called {}.",
            self.name,
            with_article(self.trade.name),
            self.town.name,
            self.instrument,
            with_article(self.pet_kind),
            self.pet_name,
        )
    }

    fn predicate(&self, fact: Fact) -> String {
        match fact {
            Fact::Home => format!(" lives in {}.", self.town.name),
            Fact::Trade => format!(" is {}.", with_article(self.trade.name)),
            Fact::Pet => format!(" has {} called {}.", with_article(self.pet_kind), self.pet_name),
            Fact::Food => format!("'s favourite food is {}.", self.food),
            Fact::Color => format!("'s favourite colour is {}.", self.color),
            Fact::Instrument => format!(" plays the {}.", self.instrument),
            Fact::Friend => format!("'s best friend is {}.", self.friend),
        }
    }
}

/// All the people and towns.
pub struct World {
    /// Forty-eight people, in no particular order.
    pub people: Vec<Person>,
    /// Eight towns.
    pub towns: &'static [Town],
}

impl World {
    /// Assigns random facts to the people.
    pub fn new(rng: &mut impl Rng) -> Self {
        let mut names: Vec<_> = WOMEN
            .iter()
            .map(|name| (*name, "She"))
            .chain(MEN.iter().map(|name| (*name, "He")))
            .collect();
        names.shuffle(rng);
        let mut homes: Vec<_> =
            TOWNS.iter().flat_map(|town| TRADES.iter().map(move |trade| (town, trade))).collect();
        homes.shuffle(rng);
        let mut pet_names = PET_NAMES;
        pet_names.shuffle(rng);
        let pet_kinds = balanced_sample(&PET_KINDS, names.len(), rng);
        let foods = balanced_sample(&FOODS, names.len(), rng);
        let colors = balanced_sample(&COLORS, names.len(), rng);
        let instruments = balanced_sample(&INSTRUMENTS, names.len(), rng);
        let people = (0..names.len())
            .map(|index| Person {
                name: names[index].0,
                pronoun: names[index].1,
                town: homes[index].0,
                trade: homes[index].1,
                pet_kind: pet_kinds[index],
                pet_name: pet_names[index],
                food: foods[index],
                color: colors[index],
                instrument: instruments[index],
                // Neighbors in the shuffled order are friends: 0 and 1, 2 and 3, ...
                friend: names[index ^ 1].0,
            })
            .collect();
        Self { people, towns: &TOWNS }
    }

    /// The names of two different people.
    pub fn two_names(&self, rng: &mut impl Rng) -> [&'static str; 2] {
        let names: Vec<_> = self.people.iter().map(|person| person.name).collect();
        names.sample_array(rng).expect("more than two people")
    }
}

/// `count` items in random order; all items are equally frequent within one.
fn balanced_sample<T: Copy>(items: &[T], count: usize, rng: &mut impl Rng) -> Vec<T> {
    let mut sample: Vec<_> = items.iter().copied().cycle().take(count).collect();
    sample.shuffle(rng);
    sample
}
