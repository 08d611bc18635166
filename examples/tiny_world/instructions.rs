//! Instructions about the world, split so that no test row shares its subject with a training row.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::tasks::{PhrasingStyle, Task, Topic};
use crate::world::World;

const TRAIN_PER_TOPIC: usize = 48;
const TEST_PER_TOPIC: usize = 5;
/// Samples per topic: enough to find nearly all of its rows.
const MAX_DRAWS: usize = 1500;

/// The two sets, each shuffled.
pub struct Instructions {
    /// Training rows.
    pub train: Vec<Value>,
    /// Test rows.
    pub test: Vec<Value>,
}

impl Instructions {
    /// Samples rows of every topic.
    pub fn draw(world: &World, rng: &mut impl Rng) -> Self {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for topic in Topic::ALL {
            let mut by_subject: BTreeMap<String, BTreeSet<[String; 3]>> = BTreeMap::new();
            for _ in 0..MAX_DRAWS {
                let task = Task::draw(topic, PhrasingStyle::Instruction, world, rng);
                let row = [task.instruction, task.input.unwrap_or_default(), task.answer];
                by_subject.entry(task.subject).or_default().insert(row);
            }
            let mut subjects: Vec<_> = by_subject.into_values().collect();
            subjects.shuffle(rng);
            let held_out = subjects.split_off(subjects.len() - TEST_PER_TOPIC);
            for rows in held_out {
                let mut rows: Vec<_> = rows.into_iter().collect();
                rows.shuffle(rng);
                test.extend(rows.into_iter().take(1));
            }
            let mut rows: Vec<_> = subjects.into_iter().flatten().collect();
            rows.shuffle(rng);
            train.extend(rows.into_iter().take(TRAIN_PER_TOPIC));
        }
        train.shuffle(rng);
        test.shuffle(rng);
        let as_json = |[instruction, input, output]: [String; 3]| json!({ "instruction": instruction, "input": input, "output": output });
        Self {
            train: train.into_iter().map(as_json).collect(),
            test: test.into_iter().map(as_json).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::corpus;

    fn generate() -> (World, Instructions, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let world = World::new(&mut rng);
        let instructions = Instructions::draw(&world, &mut rng);
        (world, instructions, rng)
    }

    #[test]
    fn no_test_row_is_trained_on() {
        let (_, Instructions { train, test }, _) = generate();
        let question = |row: &Value| (row["instruction"].to_string(), row["input"].to_string());
        let trained: BTreeSet<_> = train.iter().map(question).collect();
        assert_eq!(trained.len(), train.len(), "a training row occurs twice");
        assert!(test.iter().all(|row| !trained.contains(&question(row))));
    }

    #[test]
    fn the_same_seed_draws_the_same_rows() {
        assert_eq!(generate().1.train, generate().1.train);
    }

    #[test]
    fn the_corpus_never_shows_the_form_of_an_instruction() {
        let (world, _, mut rng) = generate();
        for _ in 0..500 {
            let text = corpus::document(&world, &mut rng);
            assert!(!text.contains("###") && !text.contains("Response:"), "{text}");
        }
    }
}
