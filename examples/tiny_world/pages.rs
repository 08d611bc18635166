//! tasks ─► layout ─► a page of instructions, with or without answers
//!
//! The layouts vary: a model trained on many of them learns to find the instruction anywhere on the page,
//! and that its answer or another text may follow.

use rand::{Rng, RngExt};

use crate::corpus::village_news;
use crate::tasks::{PhrasingStyle, Task, Topic, pick};
use crate::world::World;

/// Labels of an instruction, its input and its answer.
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

/// Opening lines; `LABEL` stands for the label of an instruction, `KEY` for that of an answer.
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

/// The texts before and after a label.
const LABEL_DELIMITERS: [[&str; 2]; 14] = [
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

/// What follows an instruction.
#[derive(Clone, Copy)]
enum Ending {
    /// The next instruction.
    Nothing,
    /// Its answer.
    Answer,
    /// An unrelated text.
    News,
    /// The name of the sender.
    Sender,
}

/// The frequencies of the endings. If all were answers, the base model would need no adapter.
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

/// The layout of one page.
struct Layout {
    /// One row of [`LABELS`].
    labels: [&'static str; 3],
    /// Whether the instruction and the ending have no label.
    bare: [bool; 2],
    /// The texts before and after a label.
    mark: [&'static str; 2],
    /// Separator of the parts of a task.
    gap: &'static str,
    /// Separator of tasks.
    between: &'static str,
    /// Whether the opening is repeated for each task.
    opening_each: bool,
}

/// A page of at least two tasks.
pub fn page(world: &World, rng: &mut impl Rng) -> String {
    let layout = Layout::draw(rng);
    let opening = opening(layout.labels, world, rng);
    let ending = pick(&ENDINGS, rng);
    let mut tasks: Vec<_> = sample_tasks(world, rng)
        .iter()
        .map(|task| {
            let text = layout.write(task, ending, world, rng);
            if layout.opening_each { format!("{opening}{text}") } else { text }
        })
        .collect();
    if !layout.opening_each {
        tasks[0].insert_str(0, &opening);
    }
    tasks.join(layout.between)
}

/// Two people; one asks, the other answers.
pub fn conversation(world: &World, rng: &mut impl Rng) -> String {
    let [one, two] = world.two_names(rng);
    let script: bool = rng.random();
    let lines: Vec<_> = sample_tasks(world, rng)
        .iter()
        .map(|task| {
            let line = single_line(task, rng);
            if script {
                return format!("{one}: {line}\n{two}: {}", task.answer);
            }
            let verb = if line.ends_with('?') { "asked" } else { "said" };
            let (line, answer) = (spoken(&line), spoken(&task.answer));
            format!("\"{line}\" {verb} {one}. \"{answer}\" said {two}.")
        })
        .collect();
    lines.join("\n")
}

/// Two to five tasks; half of the time of one topic.
fn sample_tasks(world: &World, rng: &mut impl Rng) -> Vec<Task> {
    let topic = rng.random::<bool>().then(|| any_topic(rng));
    (0..rng.random_range(2..=5))
        .map(|_| {
            let topic = topic.unwrap_or_else(|| any_topic(rng));
            Task::draw(topic, PhrasingStyle::Corpus, world, rng)
        })
        .collect()
}

/// A random topic; the hard ones are more frequent.
fn any_topic(rng: &mut impl Rng) -> Topic {
    if rng.random_range(0..3) == 0 { pick(&Topic::HARD, rng) } else { pick(&Topic::ALL, rng) }
}

impl Layout {
    fn draw(rng: &mut impl Rng) -> Self {
        Self {
            labels: pick(&LABELS, rng),
            bare: pick(&[[false, false], [false, false], [true, false], [true, true]], rng),
            mark: pick(&LABEL_DELIMITERS, rng),
            gap: pick(&["\n", "\n\n"], rng),
            between: pick(&["\n", "\n\n"], rng),
            opening_each: rng.random_range(0..3) == 0,
        }
    }

    fn write(&self, task: &Task, ending: Ending, world: &World, rng: &mut impl Rng) -> String {
        let [instruction_label, input_label, answer_label] = self.labels;
        let [bare_instruction, bare] = self.bare;
        let mut parts = Vec::new();
        match &task.input {
            Some(input) if rng.random() => {
                parts.push(self.labeled(instruction_label, &task.instruction, bare_instruction));
                parts.push(self.labeled(input_label, input, bare_instruction));
            }
            _ => parts.push(self.labeled(
                instruction_label,
                &single_line(task, rng),
                bare_instruction,
            )),
        }
        match ending {
            Ending::Nothing => {}
            Ending::Answer => parts.push(self.labeled(answer_label, &task.answer, bare)),
            Ending::News => parts.push(self.labeled("News", &village_news(1, world, rng), bare)),
            Ending::Sender => parts.push(self.labeled("Sent by", world.two_names(rng)[0], bare)),
        }
        parts.join(self.gap)
    }

    fn labeled(&self, label: &str, text: &str, bare: bool) -> String {
        let [before, after] = self.mark;
        if bare { text.to_owned() } else { format!("{before}{label}{after}{text}") }
    }
}

/// An opening before the first instruction; may be empty.
fn opening([instruction, _, answer]: [&str; 3], world: &World, rng: &mut impl Rng) -> String {
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
                .replace("LABEL", &instruction.to_lowercase())
                .replace("KEY", &answer.to_lowercase())
        }
    };
    format!("{line}{}", pick(&["\n", "\n\n"], rng))
}

/// Instruction and input in one line.
fn single_line(task: &Task, rng: &mut impl Rng) -> String {
    let Task { instruction, input, .. } = task;
    match input {
        None => instruction.clone(),
        Some(story) if story.ends_with('.') && rng.random() => format!("{story} {instruction}"),
        Some(input) => format!("{instruction} {input}"),
    }
}

/// A sentence between quotation marks, before the name of the speaker.
fn spoken(line: &str) -> String {
    match line.strip_suffix('.') {
        Some(rest) => format!("{rest},"),
        None if line.ends_with('?') => line.to_owned(),
        None => format!("{line},"),
    }
}
