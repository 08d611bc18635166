//! Multimodal adapters: training, generation, chat, evaluation, errors.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Outcome, Program, golden, run_to_end};

const PHOTOS: [&str; 2] = ["astronaut.png", "coffee.webp"];

fn photo(name: &str) -> String {
    golden(&format!("vision/photos/{name}"))
}

fn encoder() -> String {
    golden("vision/dinov2-small")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// Rows about two photos and one about none.
fn rows(folder: &Path) -> String {
    let row = |image: &str, output: &str| {
        json!({
            "instruction": "What is in the picture?", "image": image, "output": output,
            "options": ["It is a hat.", "It is a boot."], "tags": ["thing"],
        })
    };
    let plain = json!({
        "instruction": "Name a colour.", "output": "It is red.", "options": ["It is red.", "It is blue."],
        "tags": ["text"],
    });
    let rows = [row("astronaut.png", "It is a boot."), row("coffee.webp", "It is a hat."), plain];
    let rows = rows.iter().map(|row| format!("{row}\n")).collect::<String>().repeat(2);
    let path = folder.join("rows.jsonl");
    std::fs::write(&path, rows).expect("written");
    text(&path).to_owned()
}

impl Program {
    fn train(&self, more: &[&str]) -> Outcome {
        let data = rows(self.folder());
        let (folder, output) = (golden("vision/photos"), self.folder().join("multimodal"));
        let mut args = vec!["train", "--data", &data, "--eval-fraction", "0", "--seed", "1"];
        args.extend(["--image-folder", &folder, "--output", text(&output)]);
        args.extend(more);
        self.run(&args)
    }

    /// Trains an adapter that distinguishes the two photos.
    fn train_multimodal(&self) -> String {
        let encoder = encoder();
        let more = ["--image-encoder", &encoder, "--image-size", "28", "--epochs", "80", "--quiet"];
        let line = self.train(&more).json();
        assert!(line["train_loss"].as_f64().unwrap() < 0.2, "{line}");
        text(&self.folder().join("multimodal")).to_owned()
    }
}

#[test]
fn a_multimodal_adapter_answers_about_each_image() {
    let program = Program::new();
    let adapter = program.train_multimodal();
    let ask = |more: &[&str]| {
        let mut args = vec!["generate", "--adapter", &adapter];
        args.extend(["--instruction", "What is in the picture?"]);
        args.extend(more);
        program.run(&args).ok().trim().to_owned()
    };
    let images = PHOTOS.map(photo);
    assert_eq!(ask(&["--image", &images[0]]), "It is a boot.");
    assert_eq!(ask(&["--image", &images[1]]), "It is a hat.");

    // Two prompts with an image each, in one batch.
    let both = ["generate", "--adapter", &adapter, "-p", "What is in the picture?"];
    let both = [&both[..], &["-p", "What is in the picture?"]].concat();
    let both = [&both[..], &["--image", &images[1], "--image", &images[0]]].concat();
    assert_eq!(program.run(&both).ok(), "It is a hat.\n\nIt is a boot.\n");

    // In a chat the image can be changed.
    let args = ["chat", "--adapter", &adapter, "--image", &images[0]];
    let lines = format!(
        "What is in the picture?\n/image {}\nWhat is in the picture?\n/use none\n",
        images[1]
    );
    let chat = program.run_with_input(&args, &lines);
    assert!(chat.stderr.contains("(the base model does not support images; image removed)"));
    assert_eq!(chat.ok(), "It is a boot.\nIt is a hat.\n");

    let shown = program.run(&["inspect", &adapter]).ok();
    assert!(shown.contains("images      global features, hidden size "), "{shown}");
    assert!(shown.contains("input 28 x 28 pixels, features 3, 6, 9, normed"), "{shown}");
}

#[test]
fn multiple_choice_compares_the_models() {
    let program = Program::new();
    let adapter = program.train_multimodal();
    let (data, folder) = (rows(program.folder()), golden("vision/photos"));
    let mut args =
        vec!["eval", "--task", "multiple-choice", "--data", &data, "--image-folder", &folder];
    args.extend(["--train-data", &data, "--adapter", &adapter]);
    let table = program.run(&[&args[..], &["--confusion-matrix"]].concat()).ok();
    assert!(table.starts_with("6 rows, 2 images; accuracy in %\n"), "{table}");
    assert!(table.contains("\nmajority baseline "), "{table}");
    assert!(table.contains("multimodal - base: "), "{table}");
    assert!(table.contains("\nthing:\nwanted"), "{table}");

    for (scoring, json_value) in [("likelihood", "likelihood"), ("generation", "answer")] {
        let report =
            program.run(&[&args[..], &["--json", "--choice-scoring", scoring]].concat()).json();
        assert_eq!(
            (report["rows"].clone(), report["choosing"].clone()),
            (json!(6), json!(json_value))
        );
        let models = report["models"].as_array().unwrap();
        let names = models.iter().map(|own| own["name"].as_str().unwrap()).collect::<Vec<_>>();
        let common = ["most common answer", "most common of the question"];
        assert_eq!(names, [&common[..], &["base", "multimodal"]].concat());
        assert_eq!(models[3]["accuracy"], json!(1.0), "{scoring}");
        assert_eq!((&models[3]["right"], &models[3]["by_row"]), (&json!(6), &json!(vec![true; 6])));
        let tags = &models[3]["by_tag"];
        assert_eq!((&tags[0][0], &tags[0][1]["rows"]), (&json!("thing"), &json!(4)));
        // Without the images the same question has one answer for both.
        assert_eq!(models[0]["accuracy"].as_f64().map(|x| x < 0.7), Some(true));
    }
    let plain = program
        .run(&["eval", "--data", &data, "--image-folder", &folder, "--adapter", &adapter, "--json"])
        .json();
    assert_eq!(plain["adapter"]["exact_match"], json!(1.0));
}

#[test]
fn rows_with_a_broken_image_fail_the_run_or_are_skipped() {
    let program = Program::new();
    let data = program.folder().join("broken.jsonl");
    std::fs::write(program.folder().join("bad.png"), "no picture").expect("written");
    let row = |image: &str| json!({"instruction": "a", "output": "b", "image": image});
    let whole = std::fs::read(photo("coffee.jpg")).expect("a photo");
    std::fs::write(program.folder().join("cut.jpg"), &whole[..whole.len() * 2 / 3])
        .expect("written");
    let broken = ["bad.png", "gone.png", "bad.png", "cut.jpg"].map(row);
    let rows = [&[row(&photo("coffee.jpg"))][..], &broken].concat();
    std::fs::write(&data, Value::from(rows).to_string()).expect("written");
    let encoder = encoder();
    let output = program.folder().join("out");
    let mut args = vec!["train", "--data", text(&data), "--eval-fraction", "0", "--max-steps", "1"];
    args.extend(["--image-encoder", &encoder, "--image-size", "28", "--output", text(&output)]);
    let error = program.run(&args).fails(2);
    assert!(error.starts_with("error: 3 of 4 images cannot be read\n"), "{error}");
    assert!(error.contains("cut.jpg: cannot read the image: the file is cut short"), "{error}");
    assert!(error.contains("bad.png: cannot read the image: it is neither JPEG"), "{error}");
    assert!(error.contains("gone.png: cannot read the image: No such file"), "{error}");
    assert!(error.contains("hint: --broken-images skip"), "{error}");
    assert!(!output.exists(), "the run was not started");

    args.extend(["--broken-images", "skip"]);
    let outcome = program.run(&args);
    assert!(outcome.stderr.contains("4 of 5 rows skipped"), "{}", outcome.stderr);
    assert_eq!(outcome.json()["rows"]["left_out"], json!({"broken_image": 4}));
}

#[test]
fn unsupported_image_options_are_usage_errors() {
    let program = Program::new();
    let image = photo(PHOTOS[0]);
    let refused = program.run(&["generate", "-p", "a", "--image", &image]).fails(2);
    assert!(refused.starts_with("error: the base model does not support images"), "{refused}");
    let base = golden("llama-gqa-tied/base");
    let encoder = encoder();
    let train = |more: &[&str]| {
        let outcome = program.train(more);
        let code = outcome.code.unwrap_or_default();
        assert!([1, 2].contains(&code), "{}", outcome.stderr);
        outcome.fails(code)
    };
    let refused = train(&["--image-projector", "queries"]);
    assert!(refused.contains("--image-encoder"), "{refused}");
    let refused = train(&["--image-encoder", &encoder, "--image-size", "50"]);
    assert!(
        refused.contains("the image size 50 is not a multiple of the patch size 14"),
        "{refused}"
    );
    let refused = train(&["--image-encoder", &encoder, "--image-feature-layers", "13"]);
    assert!(refused.contains("Layer(13), expected a layer from 0 to 12"), "{refused}");
    let refused = train(&["--image-encoder", &base]);
    assert!(refused.contains("no image encoder here: `model_type` is `llama`"), "{refused}");
    let early = ["--image-encoder", &encoder, "--image-size", "28", "--early-fusion-layers", "2"];
    let refused = train(&[&early[..], &["--adapter-layers", "5"]].concat());
    assert!(refused.contains("below the first adapted layer"), "{refused}");
}

#[test]
fn images_without_an_encoder_are_reported_as_ignored() {
    let program = Program::new();
    let outcome = program.train(&["--max-steps", "1", "--exact-match-rows", "0"]);
    assert!(
        outcome.stderr.contains("4 rows have images, which are ignored without --image-encoder"),
        "{}",
        outcome.stderr
    );
    outcome.ok();
}

#[test]
fn an_adapter_is_trained_in_two_stages() {
    let program = Program::new();
    let encoder = encoder();
    let image = ["--image-encoder", &encoder, "--image-size", "28", "--early-fusion-layers", "2"];
    let stage = ["--image-projector", "queries", "--trainable", "image", "--max-steps", "3"];
    program.train(&[&image[..], &stage].concat()).ok();
    let first = program.folder().join("multimodal");
    let data = rows(program.folder());
    let (folder, output) = (golden("vision/photos"), program.folder().join("second"));
    let mut args = vec!["train", "--data", &data, "--eval-fraction", "0", "--max-steps", "3"];
    args.extend(["--image-folder", &folder, "--output", text(&output)]);
    args.extend(["--from-adapter", text(&first), "--trainable", "prompts"]);
    program.run(&args).ok();
    let shown = program.run(&["inspect", text(&output)]).ok();
    assert!(shown.contains("early fusion in the first 2 layers"), "{shown}");
    let refused = program
        .run(&[&args[..], &["--image-projector", "global", "--image-encoder", &encoder]].concat());
    assert!(
        refused.fails(2).contains("the image options are fixed by the adapter in --from-adapter")
    );
}

#[test]
fn scienceqa_is_read_and_scored() {
    let program = Program::new();
    let folder = program.folder().join("scienceqa");
    let image = folder.join("images/test/2");
    std::fs::create_dir_all(&image).expect("made");
    std::fs::copy(photo(PHOTOS[0]), image.join("image.png")).expect("copied");
    let problem = |question: &str, hint: &str, image: Option<&str>, subject: &str, grade: &str| {
        json!({
            "question": question, "choices": ["rock", "metal"], "answer": 1, "hint": hint,
            "image": image, "task": "closed choice", "grade": grade, "subject": subject,
            "topic": "t", "category": "c", "skill": "s", "lecture": "", "solution": "",
            "split": "test",
        })
    };
    let problems = json!({
        "1": problem("Which one shines?", "", None, "natural science", "grade2"),
        "2": problem("Which one is it?", "Look.", Some("image.png"), "social science", "grade8"),
    });
    std::fs::write(folder.join("problems.json"), problems.to_string()).expect("written");
    let splits = json!({"train": [], "val": [], "test": ["1", "2"]});
    std::fs::write(folder.join("pid_splits.json"), splits.to_string()).expect("written");
    let args = ["eval", "--task", "scienceqa", "--data", text(&folder), "--json"];
    let report = program.run(&args).json();
    assert_eq!((&report["rows"], &report["choosing"]), (&json!(2), &json!("answer")));
    let tags = report["models"][0]["by_tag"].as_array().unwrap();
    let tags = tags.iter().map(|own| own[0].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(tags, ["NAT", "SOC", "TXT", "IMG", "NO", "G1-6", "G7-12"]);
    let table = program.run(&["eval", "--task", "scienceqa", "--data", text(&folder)]).ok();
    assert!(table.contains("    NAT     SOC     TXT     IMG      NO    G1-6   G7-12"), "{table}");
    let refused = program.run(&["eval", "--task", "scienceqa", "--data", &rows(program.folder())]);
    assert!(refused.fails(2).contains("not a ScienceQA folder: problems.json is missing"));
}

#[test]
fn the_built_in_model_trains_on_the_built_in_images() {
    let program = Program::new();
    let output = program.folder().join("built-in");
    let args = ["train", "--image-encoder", "tiny-vit", "--max-steps", "3", "--output"];
    let args = [&args[..], &[text(&output), "--exact-match-rows", "4"]].concat();
    let outcome = program.run(&args);
    assert!(outcome.stderr.contains("encoding 848 images"), "{}", outcome.stderr);
    // The sample responses have different tags.
    for question in ["Is the thing in the picture purple?", "Name the thing in the picture."] {
        assert!(outcome.stderr.contains(&format!("\n  {question} (")), "{}", outcome.stderr);
    }
    assert_eq!(outcome.json()["steps"], json!(3));
    // The adapter records the name of the built-in encoder.
    let adapter = text(&output);
    let ask = ["generate", "--adapter", adapter, "--instruction", "Name the thing in the picture."];
    let answer = program.run(&[&ask[..], &["--image", &photo(PHOTOS[0])]].concat()).ok();
    assert!(!answer.trim().is_empty());
    let shown = program.run(&["inspect", adapter]).ok();
    assert!(shown.contains("tiny-vit"), "{shown}");

    // The built-in data are the image questions then.
    let eval = ["eval", "--adapter", adapter, "--max-rows", "4", "--task", "multiple-choice"];
    let table = program.run(&eval).ok();
    assert!(table.starts_with("4 rows, 4 images; accuracy in %\n"), "{table}");
    let further = text(program.folder()).to_owned() + "/further";
    let args = ["train", "--from-adapter", adapter, "--max-steps", "1", "--output", &further];
    let outcome = program.run(&[&args[..], &["--exact-match-rows", "0"]].concat());
    assert!(outcome.stderr.contains("encoding 848 images"), "{}", outcome.stderr);

    // An existing folder of that name takes precedence.
    let folder = program.folder().join("tiny-vit");
    std::fs::create_dir(&folder).expect("a new folder");
    let mut command = program.command(&["train", "--image-encoder", "tiny-vit"]);
    command.current_dir(program.folder());
    let refused = run_to_end(command, "").fails(1);
    assert!(refused.contains("no image encoder here: it has no config.json"), "{refused}");
}
