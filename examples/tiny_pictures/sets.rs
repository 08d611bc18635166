//! pairs of thing and colour, dealt out evenly ─► questions ─► rows to train on and to test with.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use serde_json::{Value, json};

use crate::drawing::{Colour, Labels, Thing, draw};
use crate::questions::Question;

/// The two sets, each shuffled.
pub struct Sets {
    /// Rows to train on.
    pub train: Vec<Value>,
    /// Rows to test with.
    pub test: Vec<Value>,
}

impl Sets {
    /// Draws pictures and asks about them.
    ///
    /// Each wording has every thing, every colour, and yes and no equally often for an answer, so
    /// that nobody learns from them to do better than chance without a look at the picture. Each
    /// picture is asked about once. Training rows leave the new pairs out; test rows have them,
    /// marked.
    pub fn draw(rng: &mut impl Rng) -> Self {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for question in Question::ALL {
            let (to_learn, to_test) = match question {
                Question::Both | Question::Thing => (48, 8),
                Question::Colour => (48, 6),
                Question::IsThing => (24, 8),
                Question::IsColour => (24, 6),
            };
            let new: Vec<_> = pairs().filter(|pair| is_new(*pair)).collect();
            let mut learned_pairs = known_pairs().cycle();
            let mut tested_pairs = known_pairs().cycle();
            for form in Form::all(question) {
                let pairs = learned_pairs.by_ref().take(to_learn).collect();
                train.extend(form.ask(pairs, "known pair", rng));
                let pairs = tested_pairs.by_ref().take(to_test).collect();
                test.extend(form.ask(pairs, "known pair", rng));
                test.extend(form.ask(new.clone(), "new pair", rng));
            }
        }
        train.shuffle(rng);
        test.shuffle(rng);
        Self { train, test }
    }
}

type Pair = (Thing, Colour);

/// All pairs, in an order that has each thing once in any eight from a multiple of eight on, and
/// each colour once in any six from a multiple of six on.
fn pairs() -> impl Iterator<Item = Pair> + Clone {
    let colours = Colour::ALL.len();
    (0..Thing::ALL.len() * colours).map(move |index| {
        // After 24 the two would meet as before.
        let colour = (index + index / 24) % colours;
        (Thing::ALL[index % Thing::ALL.len()], Colour::ALL[colour])
    })
}

fn is_new((thing, colour): Pair) -> bool {
    Labels { thing, colour, place: 0 }.is_held_out_pair()
}

/// The same with each new pair replaced by the next colour of its thing, which keeps the balance:
/// the new pairs have six different colours, and so have those that take their places.
fn known_pairs() -> impl Iterator<Item = Pair> + Clone {
    pairs().map(|(thing, colour)| {
        let next = Colour::ALL[(colour as usize + 1) % Colour::ALL.len()];
        (thing, if is_new((thing, colour)) { next } else { colour })
    })
}

/// A question in one wording.
#[derive(Clone, Copy)]
struct Form {
    question: Question,
    phrasing: &'static str,
    /// Whether what a yes-or-no question says is true.
    is_true: bool,
}

impl Form {
    fn all(question: Question) -> impl Iterator<Item = Self> {
        let verdicts: &[bool] = if question.is_yes_no() { &[true, false] } else { &[true] };
        verdicts.iter().flat_map(move |&is_true| {
            question.phrasings().iter().map(move |phrasing| Self { question, phrasing, is_true })
        })
    }

    /// A row for each pair, with a picture of its own.
    fn ask(self, pairs: Vec<Pair>, tag: &str, rng: &mut impl Rng) -> Vec<Value> {
        let Self { question, phrasing, is_true } = self;
        let labels = pairs.into_iter().map(|(thing, colour)| Labels::anywhere(thing, colour, rng));
        let labels: Vec<_> = labels.collect();
        let mut claims = vec![String::new(); labels.len()];
        if question.is_yes_no() {
            claims = labels.iter().map(|labels| question.truth(*labels)).collect();
            if !is_true {
                claims = misplaced(&claims, rng);
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

/// The same words, none where it was: what is asked in vain is asked as often as what is true.
/// No word may make up more than half of them.
fn misplaced(words: &[String], rng: &mut impl Rng) -> Vec<String> {
    let mut moved = words.to_vec();
    moved.shuffle(rng);
    for at in 0..moved.len() {
        while moved[at] == words[at] {
            let other = rng.random_range(0..moved.len());
            // Where the other place is right already, it stays right.
            if moved[other] != words[at] && moved[at] != words[other] {
                moved.swap(at, other);
            }
        }
    }
    moved
}

/// The picture as a PNG file.
pub fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    // Plain areas are smallest without a filter.
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::NoFilter);
    picture.write_with_encoder(encoder).expect("memory takes every picture");
    bytes.into_inner()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::drawing::SIDE;

    fn drawn() -> Sets {
        Sets::draw(&mut ChaCha8Rng::seed_from_u64(1))
    }

    fn has_tag(row: &Value, tag: &str) -> bool {
        row["tags"].as_array().unwrap().iter().any(|one| one == tag)
    }

    /// How often each text occurs among the rows.
    fn counted<'a>(
        rows: impl IntoIterator<Item = &'a Value>,
        text: impl Fn(&Value) -> String,
    ) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        rows.into_iter().for_each(|row| *counts.entry(text(row)).or_default() += 1);
        counts
    }

    #[test]
    fn the_same_seed_draws_the_same_rows() {
        assert_eq!(drawn().train, drawn().train);
    }

    #[test]
    fn no_picture_is_asked_about_twice() {
        let Sets { train, test } = drawn();
        let pictures = train.iter().chain(&test).map(|row| row["image"].as_str().unwrap());
        assert_eq!(pictures.collect::<BTreeSet<_>>().len(), train.len() + test.len());
    }

    #[test]
    fn the_picture_of_a_row_is_a_small_png_file() {
        for row in drawn().test {
            let text = row["image"].as_str().unwrap();
            let bytes = STANDARD.decode(text.strip_prefix("data:image/png;base64,").unwrap());
            let bytes = bytes.unwrap();
            assert!(bytes.len() < 600, "{} bytes", bytes.len());
            let picture = image::load_from_memory(&bytes).unwrap();
            assert_eq!((picture.width(), picture.height()), (SIDE, SIDE));
        }
    }

    #[test]
    fn an_output_is_one_of_the_options() {
        let Sets { train, test } = drawn();
        for row in train.iter().chain(&test) {
            assert!(row["options"].as_array().unwrap().contains(&row["output"]), "{row}");
        }
    }

    #[test]
    fn every_wording_asks_for_each_thing_or_colour_equally_often() {
        let Sets { train, test } = drawn();
        for tag in ["thing", "colour"] {
            for rows in [&train, &test] {
                let rows =
                    rows.iter().filter(|row| has_tag(row, tag) && has_tag(row, "known pair"));
                let asked =
                    counted(rows, |row| format!("{} {}", row["instruction"], row["output"]));
                let counts: BTreeSet<_> = asked.values().collect();
                assert_eq!(counts.len(), 1, "{asked:?}");
            }
        }
    }

    #[test]
    fn every_thing_is_asked_about_whole_equally_often() {
        let Sets { train, .. } = drawn();
        let rows = train.iter().filter(|row| has_tag(row, "both")).collect::<Vec<_>>();
        for at in [2, 3] {
            let words = counted(rows.iter().copied(), |row| {
                let answer = row["output"].as_str().unwrap().trim_end_matches('.');
                answer.split(' ').nth(at + 1).unwrap().to_owned()
            });
            assert_eq!(words.values().collect::<BTreeSet<_>>().len(), 1, "{words:?}");
        }
    }

    #[test]
    fn every_yes_or_no_question_is_as_often_true_as_not() {
        let Sets { train, test } = drawn();
        for rows in [train, test] {
            let rows = rows.iter().filter(|row| has_tag(row, "yes-no")).collect::<Vec<_>>();
            let instruction = |row: &Value| row["instruction"].to_string();
            let (yes, no): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|row| row["output"] == "Yes.");
            assert_eq!(counted(yes, instruction), counted(no, instruction));
        }
    }

    #[test]
    fn a_new_pair_is_tested_and_never_trained_on() {
        let Sets { train, test } = drawn();
        let new = pairs()
            .filter(|pair| is_new(*pair))
            .map(|(thing, colour)| Question::Both.answer(Labels { thing, colour, place: 0 }, ""));
        let new = new.collect::<BTreeSet<_>>();
        let answers = |rows: &[Value], tag: &str| -> BTreeSet<_> {
            let rows = rows.iter().filter(|row| has_tag(row, "both") && has_tag(row, tag));
            rows.map(|row| row["output"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(new.len(), 6);
        assert_eq!(answers(&test, "new pair"), new);
        assert!(answers(&train, "new pair").is_empty());
        let known = answers(&train, "known pair");
        assert_eq!(known.len(), 42);
        assert!(known.is_disjoint(&new) && answers(&test, "known pair").is_subset(&known));
    }
}
