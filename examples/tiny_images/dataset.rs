//! pairs of object and color, balanced ─► questions ─► rows of the train and test splits

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use serde_json::{Value, json};

use crate::drawing::{Color, Labels, Thing, draw};
use crate::questions::Question;

/// Both splits, shuffled.
pub struct DatasetSplits {
    /// Training rows.
    pub train: Vec<Value>,
    /// Test rows.
    pub test: Vec<Value>,
}

impl DatasetSplits {
    /// Draws images with questions.
    ///
    /// For each phrasing all objects, all colors, and yes and no are equally frequent answers: without
    /// the image no model is better than chance. Each image is in one row. Held-out pairs are in test
    /// rows only, tagged `new pair`.
    pub fn draw(rng: &mut impl Rng) -> Self {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for question in Question::ALL {
            let (n_train, n_test) = match question {
                Question::Both | Question::Thing => (48, 8),
                Question::Color => (48, 6),
                Question::IsThing => (24, 8),
                Question::IsColor => (24, 6),
            };
            let held_out: Vec<_> = pairs().filter(|pair| is_held_out(*pair)).collect();
            let mut train_pairs = training_pairs().cycle();
            let mut test_pairs = training_pairs().cycle();
            for phrased in PhrasedQuestion::all(question) {
                let pairs = train_pairs.by_ref().take(n_train).collect();
                train.extend(phrased.rows(pairs, "known pair", rng));
                let pairs = test_pairs.by_ref().take(n_test).collect();
                test.extend(phrased.rows(pairs, "known pair", rng));
                test.extend(phrased.rows(held_out.clone(), "new pair", rng));
            }
        }
        train.shuffle(rng);
        test.shuffle(rng);
        Self { train, test }
    }
}

type Pair = (Thing, Color);

/// All pairs. Each group of eight has every object once, and each group of six every color once.
fn pairs() -> impl Iterator<Item = Pair> + Clone {
    let colors = Color::ALL.len();
    (0..Thing::ALL.len() * colors).map(move |index| {
        // The cycles of 8 and 6 repeat after 24: shift the second half by one color.
        let color = (index + index / 24) % colors;
        (Thing::ALL[index % Thing::ALL.len()], Color::ALL[color])
    })
}

fn is_held_out((thing, color): Pair) -> bool {
    Labels { thing, color, position: 0 }.is_held_out_pair()
}

/// All pairs, with each held-out pair replaced by the next color of its object. This keeps the
/// balance, because the held-out pairs have six different colors and so do the replacements.
fn training_pairs() -> impl Iterator<Item = Pair> + Clone {
    pairs().map(|(thing, color)| {
        let next = Color::ALL[(color as usize + 1) % Color::ALL.len()];
        (thing, if is_held_out((thing, color)) { next } else { color })
    })
}

/// A question in one phrasing.
#[derive(Clone, Copy)]
struct PhrasedQuestion {
    question: Question,
    phrasing: &'static str,
    /// Whether the claim of a yes-or-no question is true.
    is_true: bool,
}

impl PhrasedQuestion {
    fn all(question: Question) -> impl Iterator<Item = Self> {
        let verdicts: &[bool] = if question.is_yes_no() { &[true, false] } else { &[true] };
        verdicts.iter().flat_map(move |&is_true| {
            question.phrasings().iter().map(move |phrasing| Self { question, phrasing, is_true })
        })
    }

    /// A row for each pair, each with its own image.
    fn rows(self, pairs: Vec<Pair>, tag: &str, rng: &mut impl Rng) -> Vec<Value> {
        let Self { question, phrasing, is_true } = self;
        let labels =
            pairs.into_iter().map(|(thing, color)| Labels::at_random_position(thing, color, rng));
        let labels: Vec<_> = labels.collect();
        let mut claims = vec![String::new(); labels.len()];
        if question.is_yes_no() {
            claims = labels.iter().map(|labels| question.true_claim(*labels)).collect();
            if !is_true {
                claims = derangement(&claims, rng);
            }
        }
        let row = |(labels, claim): (Labels, String)| {
            let image = STANDARD.encode(png(&draw(labels, rng)));
            json!({
                "instruction": phrasing.replace("{}", &claim),
                "input": "",
                "output": question.answer(labels, &claim),
                "image": format!("data:image/png;base64,{image}"),
                "options": question.options(),
                "tags": [question.tag(), tag],
            })
        };
        labels.into_iter().zip(claims).map(row).collect()
    }
}

/// A permutation in which no position keeps its value: false claims are as frequent as true ones.
///
/// Does not terminate if a value makes up more than half of the list.
fn derangement(words: &[String], rng: &mut impl Rng) -> Vec<String> {
    let mut moved = words.to_vec();
    moved.shuffle(rng);
    for at in 0..moved.len() {
        while moved[at] == words[at] {
            let other = rng.random_range(0..moved.len());
            // A swap must not undo a position that differs already.
            if moved[other] != words[at] && moved[at] != words[other] {
                moved.swap(at, other);
            }
        }
    }
    moved
}

/// The image as a PNG file.
pub fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    // Uniform areas are smallest without a filter.
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::NoFilter);
    image.write_with_encoder(encoder).expect("memory accepts every image");
    bytes.into_inner()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::drawing::SIDE;

    fn generate() -> DatasetSplits {
        DatasetSplits::draw(&mut ChaCha8Rng::seed_from_u64(1))
    }

    fn has_tag(row: &Value, tag: &str) -> bool {
        row["tags"].as_array().unwrap().iter().any(|one| one == tag)
    }

    /// Number of rows for each value of `text`.
    fn count_by<'a>(
        rows: impl IntoIterator<Item = &'a Value>,
        text: impl Fn(&Value) -> String,
    ) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        rows.into_iter().for_each(|row| *counts.entry(text(row)).or_default() += 1);
        counts
    }

    #[test]
    fn the_same_seed_draws_the_same_rows() {
        assert_eq!(generate().train, generate().train);
    }

    #[test]
    fn every_image_is_used_once() {
        let DatasetSplits { train, test } = generate();
        let images = train.iter().chain(&test).map(|row| row["image"].as_str().unwrap());
        assert_eq!(images.collect::<BTreeSet<_>>().len(), train.len() + test.len());
    }

    #[test]
    fn row_image_is_a_small_png() {
        for row in generate().test {
            let text = row["image"].as_str().unwrap();
            let bytes = STANDARD.decode(text.strip_prefix("data:image/png;base64,").unwrap());
            let bytes = bytes.unwrap();
            assert!(bytes.len() < 600, "{} bytes", bytes.len());
            let image = image::load_from_memory(&bytes).unwrap();
            assert_eq!((image.width(), image.height()), (SIDE, SIDE));
        }
    }

    #[test]
    fn an_output_is_one_of_the_options() {
        let DatasetSplits { train, test } = generate();
        for row in train.iter().chain(&test) {
            assert!(row["options"].as_array().unwrap().contains(&row["output"]), "{row}");
        }
    }

    #[test]
    fn every_phrasing_has_each_answer_equally_often() {
        let DatasetSplits { train, test } = generate();
        for tag in ["thing", "colour"] {
            for rows in [&train, &test] {
                let rows =
                    rows.iter().filter(|row| has_tag(row, tag) && has_tag(row, "known pair"));
                let counts =
                    count_by(rows, |row| format!("{} {}", row["instruction"], row["output"]));
                let distinct: BTreeSet<_> = counts.values().collect();
                assert_eq!(distinct.len(), 1, "{counts:?}");
            }
        }
    }

    #[test]
    fn full_answers_name_each_thing_and_color_equally_often() {
        let DatasetSplits { train, .. } = generate();
        let rows = train.iter().filter(|row| has_tag(row, "both")).collect::<Vec<_>>();
        for at in [2, 3] {
            let words = count_by(rows.iter().copied(), |row| {
                let answer = row["output"].as_str().unwrap().trim_end_matches('.');
                answer.split(' ').nth(at + 1).unwrap().to_owned()
            });
            assert_eq!(words.values().collect::<BTreeSet<_>>().len(), 1, "{words:?}");
        }
    }

    #[test]
    fn yes_and_no_are_equally_frequent_for_each_claim() {
        let DatasetSplits { train, test } = generate();
        for rows in [train, test] {
            let rows = rows.iter().filter(|row| has_tag(row, "yes-no")).collect::<Vec<_>>();
            let instruction = |row: &Value| row["instruction"].to_string();
            let (yes, no): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|row| row["output"] == "Yes.");
            assert_eq!(count_by(yes, instruction), count_by(no, instruction));
        }
    }

    #[test]
    fn held_out_pairs_are_in_test_rows_only() {
        let DatasetSplits { train, test } = generate();
        let held_out = pairs()
            .filter(|pair| is_held_out(*pair))
            .map(|(thing, color)| Question::Both.answer(Labels { thing, color, position: 0 }, ""));
        let held_out = held_out.collect::<BTreeSet<_>>();
        let answers = |rows: &[Value], tag: &str| -> BTreeSet<_> {
            let rows = rows.iter().filter(|row| has_tag(row, "both") && has_tag(row, tag));
            rows.map(|row| row["output"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(held_out.len(), 6);
        assert_eq!(answers(&test, "new pair"), held_out);
        assert!(answers(&train, "new pair").is_empty());
        let known = answers(&train, "known pair");
        assert_eq!(known.len(), 42);
        assert!(known.is_disjoint(&held_out) && answers(&test, "known pair").is_subset(&known));
    }
}
