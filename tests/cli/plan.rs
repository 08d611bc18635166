//! `plan`: estimated memory of training and generation.

use serde_json::Value;

use crate::program::{Program, golden, keys};

fn json(args: &[&str]) -> Value {
    Program::new().run(&[&["plan", "--json"], args].concat()).json()
}

#[test]
fn a_plan_has_all_components_and_their_total() {
    let report =
        json(&["--device", "flex", "--batch-size", "4", "--seq-len", "64", "--memory", "1GiB"]);
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
        let estimate = &flex[what];
        assert_eq!(keys(estimate), parts);
        let sum = parts[..7].iter().map(|part| estimate[part].as_u64().unwrap()).sum::<u64>();
        assert_eq!(estimate["total"], sum);
        assert_eq!(estimate["fits"], true);
    }
    assert_eq!(flex["training"]["cache"], 0);
    assert!(flex["answering"]["cache"].as_u64().unwrap() > 0);
    assert_eq!(
        flex["training"]["optimizer"].as_u64(),
        flex["training"]["adapter"].as_u64().map(|a| 2 * a)
    );
}

#[test]
fn a_plan_for_ranks_divides_the_batch_and_predicts_the_step() {
    let args = ["--device", "flex", "--batch-size", "8", "--seq-len", "64"];
    let ranks = ["--ranks", "4", "--hosts", "2", "--token-ms", "2", "--latency", "100"];
    let report = json(&[&args[..], &ranks].concat());
    let (scale, training) = (&report["scale"], &report["devices"][0]["training"]);
    assert_eq!((&scale["rows_per_rank"], &report["batch"]), (&2.into(), &2.into()));
    let number = |value: &Value| value.as_f64().expect("a number");
    // A trainable value in f32, of which AdamW keeps two more.
    assert_eq!(number(&scale["all_reduce_bytes"]), number(&training["optimizer"]) / 2.0);
    // 2 rows of 64 tokens; two times log2(4) messages of 0.1 ms and the bytes.
    assert_eq!(number(&scale["step"]["compute_ms"]), 256.0);
    let bytes = number(&scale["all_reduce_bytes"]) * 1.5 * 8.0 / 10e6;
    assert!((number(&scale["all_reduce_ms"]) - 0.4 - bytes).abs() < 1e-9);
    assert_eq!(number(&scale["devices"][0]["host"]), 2.0 * number(&training["total"]));
    let text = Program::new().run(&[&["plan"], &args[..], &ranks].concat()).ok();
    assert!(text.contains("4 ranks on 2 hosts: 2 rows of a batch each"), "{text}");
    assert!(json(&args).get("scale").is_none());
}

#[test]
fn the_plan_has_the_size_of_the_frozen_prefix_cache() {
    let args = ["--device", "flex", "--seq-len", "64"];
    let cache = |more: &[&str]| json(&[&args[..], more].concat())["prefix_cache"].clone();
    let layers = ["--adapter-layers", "2"];
    let upper = |more: &[&str]| cache(&[&layers[..], more].concat());
    let [full, half] = [upper(&["--rows", "10"]), upper(&["--cache-precision", "bf16"])];
    assert_eq!(keys(&full), ["layers", "bytes_per_token", "bytes_per_row", "rows", "bytes"]);
    let number = |cache: &Value, key: &str| cache[key].as_u64().unwrap();
    assert!(number(&full, "layers") > 0);
    assert_eq!(number(&full, "bytes_per_token"), 2 * number(&half, "bytes_per_token"));
    assert_eq!(number(&full, "bytes"), 10 * number(&full, "bytes_per_row"));
    assert_eq!(half["bytes"], Value::Null);
    assert_eq!(cache(&["--method", "full"]), Value::Null);
}

#[test]
fn suggested_changes_make_the_workload_fit() {
    let args = ["--device", "flex", "--batch", "64", "--seq", "128"];
    let total = |args: &[&str]| json(args)["devices"][0]["training"]["total"].as_u64().unwrap();
    let memory = (total(&args) / 3).to_string();
    let report = json(&[&args[..], &["--memory", &memory]].concat());
    let training = &report["devices"][0]["training"];
    assert_eq!(training["fits"], false);
    let changes = training["changes"].as_array().unwrap();
    let enough = changes.iter().filter(|change| change["fits"] == true).collect::<Vec<_>>();
    assert!(!enough.is_empty(), "{training}");
    for change in enough {
        // Each change is an option of this command, by its first name, and has the estimated effect.
        let change_words = change["change"].as_str().unwrap().split(' ').collect::<Vec<_>>();
        let kept = args.chunks(2).filter(|pair| pair[0] != change_words[0]).flatten().copied();
        let changed = kept.chain(change_words.iter().copied()).collect::<Vec<_>>();
        assert_eq!(Some(total(&changed)), change["total"].as_u64(), "{change}");
        assert!(change["total"].as_u64().unwrap() <= memory.parse().unwrap(), "{change}");
    }
    let text = Program::new().run(&[&["plan"], &args[..], &["--memory", &memory]].concat()).ok();
    assert!(text.contains("does not fit on flex; total with one of these changes:\n"), "{text}");
}

#[test]
fn the_weights_are_those_that_inspect_counts() {
    let folder = golden("mistral-sw8/base");
    let plan = json(&["--model", &folder, "--seq-len", "16"]);
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
    let args = ["plan", "--device", "flex", "--model", &golden("mistral-sw8/base")];
    let rest =
        ["--batch-size", "2", "--seq-len", "4", "--label-tokens", "2", "--max-new-tokens", "8"];
    let rest = [&rest[..], &["--memory", "140KB"]].concat();
    let text = Program::new().run(&[&args[..], &rest].concat()).ok();
    let text = text.replace(testing::golden_folder().to_str().unwrap(), "[golden]");
    // The suggested bf16 total depends on the CPU.
    let text = text.lines().filter(|line| !line.contains("bf16")).map(|line| format!("{line}\n"));
    insta::assert_snapshot!(text.collect::<String>(), @r"
    [golden]/mistral-sw8/base, precision f32

    training: batch size 2, sequence length 4, 2 label tokens each
                                            flex
      weights                         122.88 KiB
      adapter                           1.25 KiB
      gradients                         1.25 KiB
      optimizer                         2.51 KiB
      activations                       7.38 KiB
      working set                       9.75 KiB
      total                           145.02 KiB
      available                       136.72 KiB

      does not fit on flex; total with one of these changes:
      --precision q8                   59.89 KiB
      --precision q4                   44.64 KiB
      --batch-size 1                (137.08 KiB)
      --seq-len 2                   (141.08 KiB)
      (in parentheses: still does not fit)

      frozen-prefix cache below layer 2, in host memory or on disk: 128 B per token, 520 B per row

    generation: batch size 2, prompt length 4, 8 new tokens each
                                            flex
      weights                         122.88 KiB
      adapter                           2.50 KiB
      cache                            24.00 KiB
      working set                       6.50 KiB
      total                           155.88 KiB
      available                       136.72 KiB

      does not fit on flex; total with one of these changes:
      --precision q8                   68.75 KiB
      --precision q4                   53.50 KiB
      --batch-size 1                (140.63 KiB)
      --seq-len 2                   (152.63 KiB)
      (in parentheses: still does not fit)

    flex: within 20 % of measured peaks.
    ");
}

#[test]
fn invalid_plan_settings_are_usage_errors() {
    let fails = |args: &[&str]| Program::new().run(&[&["plan"], args].concat()).fails(2);
    assert!(
        fails(&["--batch-size", "0"])
            .starts_with("error: the batch size is 0, expected at least 1")
    );
    assert!(fails(&["--seq-len", "1000000"]).contains("the model's context"));
    assert!(fails(&["--memory", "much"]).contains("8GiB"));
    assert!(
        fails(&["--method", "full", "--precision", "q8"])
            .contains("f32: all weights of the model are trained")
    );
    assert!(fails(&["--adapter-layers", "99"]).contains("the adapter has 99 adapted layers"));
    assert!(fails(&["--device", "tpu"]).contains("unknown device"));
}
