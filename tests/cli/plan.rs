//! `plan`: what training and answering would take.

use serde_json::Value;

use crate::program::{Program, golden, keys};

fn json(words: &[&str]) -> Value {
    Program::new().run(&[&["plan", "--json"], words].concat()).json()
}

#[test]
fn a_plan_adds_up_and_has_every_part() {
    let report = json(&["--device", "flex", "--batch", "4", "--seq", "64", "--memory", "1GiB"]);
    assert_eq!(
        (&report["batch"], &report["seq"], &report["labels"]),
        (&4.into(), &64.into(), &63.into())
    );
    let flex = &report["devices"][0];
    assert_eq!((&flex["device"], &flex["memory"]), (&"flex".into(), &(1_u64 << 30).into()));
    let parts = [
        "weights",
        "adapter",
        "gradients",
        "optimizer",
        "activations",
        "cache",
        "working_set",
        "total",
        "fits",
        "changes",
    ];
    for what in ["training", "answering"] {
        let need = &flex[what];
        assert_eq!(keys(need), parts);
        let sum = parts[..7].iter().map(|part| need[part].as_u64().unwrap()).sum::<u64>();
        assert_eq!(need["total"], sum);
        assert_eq!(need["fits"], true);
    }
    assert_eq!(flex["training"]["cache"], 0);
    assert!(flex["answering"]["cache"].as_u64().unwrap() > 0);
    assert_eq!(
        flex["training"]["optimizer"].as_u64(),
        flex["training"]["adapter"].as_u64().map(|a| 2 * a)
    );
}

#[test]
fn what_does_not_fit_gets_changes_that_make_it_fit() {
    let words = ["--device", "flex", "--batch", "64", "--seq", "128"];
    let total = |words: &[&str]| json(words)["devices"][0]["training"]["total"].as_u64().unwrap();
    let room = (total(&words) / 3).to_string();
    let report = json(&[&words[..], &["--memory", &room]].concat());
    let training = &report["devices"][0]["training"];
    assert_eq!(training["fits"], false);
    let changes = training["changes"].as_array().unwrap();
    let enough = changes.iter().filter(|change| change["fits"] == true).collect::<Vec<_>>();
    assert!(!enough.is_empty(), "{training}");
    for change in enough {
        // Each is an option of this very command, and does what it says.
        let change_words = change["change"].as_str().unwrap().split(' ').collect::<Vec<_>>();
        let kept = words.chunks(2).filter(|pair| pair[0] != change_words[0]).flatten().copied();
        let changed = kept.chain(change_words.iter().copied()).collect::<Vec<_>>();
        assert_eq!(Some(total(&changed)), change["total"].as_u64(), "{change}");
        assert!(change["total"].as_u64().unwrap() <= room.parse().unwrap(), "{change}");
    }
    let text = Program::new().run(&[&["plan"], &words[..], &["--memory", &room]].concat()).ok();
    assert!(text.contains("does not fit on flex; with one of these changes it takes\n"), "{text}");
}

#[test]
fn the_weights_are_those_that_inspect_counts() {
    let folder = golden("mistral-sw8/base");
    let plan = json(&["--model", &folder, "--seq", "16"]);
    let inspected = Program::new().run(&["inspect", "--json", &folder]).json();
    for device in plan["devices"].as_array().unwrap() {
        assert_eq!(device["training"]["weights"], inspected["memory"]["f32"]);
    }
    assert_eq!(
        plan["devices"].as_array().unwrap().len(),
        device::BACKENDS.iter().filter(|b| b.compiled).count()
    );
}

#[test]
fn the_table_of_one_device() {
    let words = ["plan", "--device", "flex", "--model", &golden("mistral-sw8/base")];
    let rest = ["--batch", "2", "--seq", "4", "--labels", "2", "--new-tokens", "8"];
    let rest = [&rest[..], &["--memory", "140KB"]].concat();
    let text = Program::new().run(&[&words[..], &rest].concat()).ok();
    let text = text.replace(testing::golden_folder().to_str().unwrap(), "[golden]");
    // A processor that multiplies bf16 numbers keeps some more of them.
    let text = text.lines().filter(|line| !line.contains("bf16")).map(|line| format!("{line}\n"));
    insta::assert_snapshot!(text.collect::<String>(), @r"
    [golden]/mistral-sw8/base in f32

    training: 2 rows of 4 tokens, 2 labels each
                                    flex
      weights                 122.88 KiB
      adapter                   1.25 KiB
      gradients                 1.25 KiB
      optimizer                 2.51 KiB
      activations               9.88 KiB
      working set               8.00 KiB
      total                   145.77 KiB
      there is                136.72 KiB

      does not fit on flex; with one of these changes it takes
      --seq 1                 136.30 KiB
      --precision q8           61.64 KiB
      --precision q4           46.39 KiB
      --batch 1             (137.45 KiB)
      (in brackets: still too much)

    answering: 2 prompts of 4 tokens, 8 new tokens each
                                    flex
      weights                 122.88 KiB
      adapter                   2.50 KiB
      cache                    12.00 KiB
      working set               6.50 KiB
      total                   143.88 KiB
      there is                136.72 KiB

      does not fit on flex; with one of these changes it takes
      --batch 1               134.63 KiB
      --precision q8           56.75 KiB
      --precision q4           41.50 KiB
      --seq 2               (140.63 KiB)
      (in brackets: still too much)

    flex: within 20 % of measured peaks.
    ");
}

#[test]
fn a_plan_that_makes_no_sense_is_wrong_usage() {
    let fails = |words: &[&str]| Program::new().run(&[&["plan"], words].concat()).fails(2);
    assert!(
        fails(&["--batch", "0"]).starts_with("error: the batch size is 0, expected at least 1")
    );
    assert!(fails(&["--seq", "1000000"]).contains("the model's context"));
    assert!(fails(&["--memory", "much"]).contains("8GiB"));
    assert!(fails(&["--method", "full", "--precision", "q8"]).contains("f32: all of the model's"));
    assert!(fails(&["--adapter-layers", "99"]).contains("the adapter has 99 adapted layers"));
    assert!(fails(&["--device", "tpu"]).contains("unknown device"));
}
