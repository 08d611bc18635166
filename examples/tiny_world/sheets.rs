//! lessons ─► layout ─► a page of requests, with their answers or without.
//!
//! Hardly two pages look alike: a model that reads many of them learns to look for the request
//! wherever it stands, and that what follows may be its answer, or something else.

use rand::{Rng, RngExt};

use crate::corpus::village_news;
use crate::lessons::{PhrasingStyle, Task, Topic, pick};
use crate::world::World;

/// Labels of a request, of what it's about, and of its answer.
const LABELS: [[&str; 3]; 12] = [
    ["Question", "Text", "Answer"],
    ["Q", "About", "A"],
    ["Task", "Given", "Solution"],
    ["Riddle", "Clue", "Key"],
    ["Request", "Note", "Reply"],
    ["Exercise", "Words", "Result"],
    ["Problem", "Data", "Solution"],
    ["Asked", "Shown", "Told"],
    ["Front of the card", "Hint", "Back of the card"],
    ["Teacher", "Board", "Pupil"],
    ["Visitor", "Note", "Guide"],
    ["Wanted", "List", "Found"],
];

/// Opening lines; `LABEL` is the label of a request, `KEY` that of an answer.
const OPENINGS: [&str; 12] = [
    "Here is a page from the school book of TOWN.",
    "This page belongs to ONE.",
    "ONE wrote this for TWO in the library of TOWN.",
    "Read with care, and then look for the KEY.",
    "There is a KEY for each LABEL.",
    "The children of TOWN play this game on Sunday.",
    "Think first and write later, says ONE.",
    "A short page with more than one LABEL.",
    "Found in the school of TOWN, in the hand of ONE.",
    "ONE asks and TWO thinks.",
    "What follows was read aloud at the fair of TOWN.",
    "It is a quiet evening in TOWN, and ONE has a book.",
];

/// How a label is set apart from what it labels.
const MARKS: [[&str; 2]; 14] = [
    ["", ": "],
    ["", ":"],
    ["# ", ":"],
    ["## ", ":"],
    ["* ", ":"],
    ["", ":\n"],
    ["", "\n"],
    ["", ". "],
    ["", " - "],
    ["# ", "\n"],
    ["# ", ":\n"],
    ["## ", "\n"],
    ["* ", ": "],
    ["[", "] "],
];

/// What follows a request.
#[derive(Clone, Copy)]
enum Ending {
    /// The next request.
    Nothing,
    /// Its answer.
    Answer,
    /// Something else altogether.
    News,
    /// The name of who asked.
    Sender,
}

/// How often each ending occurs. Were it always the answer, the base would need no adapter.
const ENDINGS: [Ending; 8] = [
    Ending::Answer,
    Ending::Answer,
    Ending::Answer,
    Ending::Answer,
    Ending::Nothing,
    Ending::News,
    Ending::News,
    Ending::Sender,
];

/// The look of one page.
struct Layout {
    /// One row of [`LABELS`].
    labels: [&'static str; 3],
    /// Whether the request, and what follows it, go without a label.
    bare: [bool; 2],
    /// What stands before a label and after it.
    mark: [&'static str; 2],
    /// Between the parts of one lesson.
    gap: &'static str,
    /// Between lessons.
    between: &'static str,
    /// The opening is repeated for each lesson.
    opening_each: bool,
}

/// A page of lessons, two at least.
pub fn sheet(world: &World, rng: &mut impl Rng) -> String {
    let layout = Layout::draw(rng);
    let opening = opening(layout.labels, world, rng);
    let ending = pick(&ENDINGS, rng);
    let mut lessons: Vec<_> = lessons(world, rng)
        .iter()
        .map(|lesson| {
            let text = layout.write(lesson, ending, world, rng);
            if layout.opening_each { format!("{opening}{text}") } else { text }
        })
        .collect();
    if !layout.opening_each {
        lessons[0].insert_str(0, &opening);
    }
    lessons.join(layout.between)
}

/// Two people, one of whom asks.
pub fn conversation(world: &World, rng: &mut impl Rng) -> String {
    let [one, two] = world.two_names(rng);
    let script: bool = rng.random();
    let lines: Vec<_> = lessons(world, rng)
        .iter()
        .map(|lesson| {
            let line = in_a_line(lesson, rng);
            if script {
                return format!("{one}: {line}\n{two}: {}", lesson.answer);
            }
            let verb = if line.ends_with('?') { "asked" } else { "said" };
            let (line, answer) = (spoken(&line), spoken(&lesson.answer));
            format!("\"{line}\" {verb} {one}. \"{answer}\" said {two}.")
        })
        .collect();
    lines.join("\n")
}

/// Two to five lessons; half of the time of one topic.
fn lessons(world: &World, rng: &mut impl Rng) -> Vec<Task> {
    let topic = rng.random::<bool>().then(|| any_topic(rng));
    (0..rng.random_range(2..=5))
        .map(|_| {
            let topic = topic.unwrap_or_else(|| any_topic(rng));
            Task::draw(topic, PhrasingStyle::Corpus, world, rng)
        })
        .collect()
}

/// A topic; those that take a small model longest to learn come up more often.
fn any_topic(rng: &mut impl Rng) -> Topic {
    if rng.random_range(0..3) == 0 { pick(&Topic::HARD, rng) } else { pick(&Topic::ALL, rng) }
}

impl Layout {
    fn draw(rng: &mut impl Rng) -> Self {
        Self {
            labels: pick(&LABELS, rng),
            bare: pick(&[[false, false], [false, false], [true, false], [true, true]], rng),
            mark: pick(&MARKS, rng),
            gap: pick(&["\n", "\n\n"], rng),
            between: pick(&["\n", "\n\n"], rng),
            opening_each: rng.random_range(0..3) == 0,
        }
    }

    fn write(&self, lesson: &Task, ending: Ending, world: &World, rng: &mut impl Rng) -> String {
        let [ask_label, given_label, answer_label] = self.labels;
        let [bare_ask, bare] = self.bare;
        let mut parts = Vec::new();
        match &lesson.given {
            Some(given) if rng.random() => {
                parts.push(self.part(ask_label, &lesson.ask, bare_ask));
                parts.push(self.part(given_label, given, bare_ask));
            }
            _ => parts.push(self.part(ask_label, &in_a_line(lesson, rng), bare_ask)),
        }
        match ending {
            Ending::Nothing => {}
            Ending::Answer => parts.push(self.part(answer_label, &lesson.answer, bare)),
            Ending::News => parts.push(self.part("News", &village_news(1, world, rng), bare)),
            Ending::Sender => parts.push(self.part("Sent by", world.two_names(rng)[0], bare)),
        }
        parts.join(self.gap)
    }

    fn part(&self, label: &str, text: &str, bare: bool) -> String {
        let [before, after] = self.mark;
        if bare { text.to_owned() } else { format!("{before}{label}{after}{text}") }
    }
}

/// A few lines before the first request, or nothing.
fn opening([ask, _, answer]: [&str; 3], world: &World, rng: &mut impl Rng) -> String {
    let line = match rng.random_range(0..4) {
        0 => return String::new(),
        1 => village_news(rng.random_range(1..=2), world, rng),
        _ => {
            let town = world.towns[rng.random_range(0..world.towns.len())].name;
            let [one, two] = world.two_names(rng);
            pick(&OPENINGS, rng)
                .replace("TOWN", town)
                .replace("ONE", one)
                .replace("TWO", two)
                .replace("LABEL", &ask.to_lowercase())
                .replace("KEY", &answer.to_lowercase())
        }
    };
    format!("{line}{}", pick(&["\n", "\n\n"], rng))
}

/// The request and what it is about in one line.
fn in_a_line(lesson: &Task, rng: &mut impl Rng) -> String {
    let Task { ask, given, .. } = lesson;
    match given {
        None => ask.clone(),
        Some(story) if story.ends_with('.') && rng.random() => format!("{story} {ask}"),
        Some(given) => format!("{ask} {given}"),
    }
}

/// A sentence as it stands between quotation marks, before the speaker's name.
fn spoken(line: &str) -> String {
    match line.strip_suffix('.') {
        Some(rest) => format!("{rest},"),
        None if line.ends_with('?') => line.to_owned(),
        None => format!("{line},"),
    }
}
