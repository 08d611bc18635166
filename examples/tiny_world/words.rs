//! Word lists without a relation to people: things, opposites, verbs, numbers.

/// A category of things, with its members as `(singular, plural)`.
#[derive(Clone, Copy)]
pub struct Category {
    /// The name of a member: `"fruit"`.
    pub name: &'static str,
    /// The members.
    pub things: &'static [(&'static str, &'static str)],
}

/// The things in lists and plurals.
pub const CATEGORIES: [Category; 5] = [
    Category {
        name: "fruit",
        things: &[
            ("apple", "apples"),
            ("pear", "pears"),
            ("plum", "plums"),
            ("cherry", "cherries"),
            ("lemon", "lemons"),
            ("fig", "figs"),
            ("peach", "peaches"),
            ("grape", "grapes"),
        ],
    },
    Category {
        name: "animal",
        things: &[
            ("fox", "foxes"),
            ("cow", "cows"),
            ("sheep", "sheep"),
            ("goose", "geese"),
            ("wolf", "wolves"),
            ("bear", "bears"),
            ("horse", "horses"),
            ("owl", "owls"),
        ],
    },
    Category {
        name: "tool",
        things: &[
            ("hammer", "hammers"),
            ("saw", "saws"),
            ("spade", "spades"),
            ("needle", "needles"),
            ("rake", "rakes"),
            ("axe", "axes"),
            ("brush", "brushes"),
            ("knife", "knives"),
        ],
    },
    Category {
        name: "garment",
        things: &[
            ("hat", "hats"),
            ("coat", "coats"),
            ("scarf", "scarves"),
            ("glove", "gloves"),
            ("boot", "boots"),
            ("shirt", "shirts"),
            ("dress", "dresses"),
            ("apron", "aprons"),
        ],
    },
    Category {
        name: "vegetable",
        things: &[
            ("carrot", "carrots"),
            ("onion", "onions"),
            ("bean", "beans"),
            ("leek", "leeks"),
            ("turnip", "turnips"),
            ("potato", "potatoes"),
            ("cabbage", "cabbages"),
            ("radish", "radishes"),
        ],
    },
];

/// Adjectives and their opposites.
pub const OPPOSITES: [(&str, &str); 20] = [
    ("hot", "cold"),
    ("big", "small"),
    ("old", "young"),
    ("fast", "slow"),
    ("loud", "quiet"),
    ("full", "empty"),
    ("light", "dark"),
    ("early", "late"),
    ("happy", "sad"),
    ("wet", "dry"),
    ("rich", "poor"),
    ("soft", "hard"),
    ("near", "far"),
    ("clean", "dirty"),
    ("strong", "weak"),
    ("tall", "short"),
    ("wide", "narrow"),
    ("open", "closed"),
    ("brave", "afraid"),
    ("thick", "thin"),
];

/// What people do every day: `(present, past)`.
pub const ACTIONS: [(&str, &str); 16] = [
    ("walks to the river", "walked to the river"),
    ("sings a song", "sang a song"),
    ("bakes a cake", "baked a cake"),
    ("writes a letter", "wrote a letter"),
    ("reads a book", "read a book"),
    ("runs up the hill", "ran up the hill"),
    ("paints the door", "painted the door"),
    ("sweeps the floor", "swept the floor"),
    ("drinks a cup of tea", "drank a cup of tea"),
    ("waters the garden", "watered the garden"),
    ("rides to the market", "rode to the market"),
    ("mends the fence", "mended the fence"),
    ("swims in the lake", "swam in the lake"),
    ("tells a story", "told a story"),
    ("feeds the hens", "fed the hens"),
    ("catches the coach", "caught the coach"),
];

/// What a person may do to a thing in a story: `(infinitive, past)`.
pub const EVENTS: [(&str, &str); 6] = [
    ("buy", "bought"),
    ("find", "found"),
    ("draw", "drew"),
    ("sell", "sold"),
    ("lose", "lost"),
    ("bring", "brought"),
];

/// Days on which stories happen.
pub const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Where stories happen.
pub const PLACES: [&str; 4] = ["at the market", "near the school", "by the river", "at the fair"];

/// The number words up to six.
pub const NUMBERS: [&str; 7] = ["none", "one", "two", "three", "four", "five", "six"];

/// The word with its article: `"an apple"`.
pub fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}

/// The text with its first letter in upper case.
pub fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The items as English lists them: `"a, b and c"`.
pub fn join_with_and(items: &[&str]) -> String {
    match items {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
