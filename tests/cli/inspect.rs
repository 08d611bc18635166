//! `inspect`.

use crate::program::{Program, golden, keys};

fn inspect(name: &str) -> String {
    let text = Program::new().run(&["inspect", &golden(name)]).ok();
    text.replace(testing::golden_folder().to_str().unwrap(), "[golden]")
}

fn json(name: &str) -> serde_json::Value {
    Program::new().run(&["inspect", "--json", &golden(name)]).json()
}

#[test]
fn a_model_folder() {
    insta::assert_snapshot!(inspect("mistral-sw8/base"), @r"
    model       [golden]/mistral-sw8/base
    layers      3, d_model 32, d_ff 48
    attention   4 heads, 2 KV heads, head dim 8
    vocabulary  128 tokens, output head untied
    context     64 tokens, RoPE theta 10000, sliding window 8
    parameters  31,456
    on disk     125.83 KiB
    memory      122.88 KiB with --precision f32, 61.88 KiB with bf16 or f16; KV cache 384 B per token
    chat        no template

    tensors (30)
      lm_head.weight                                  [128, 32]       f32
      model.embed_tokens.weight                       [128, 32]       f32
      model.layers.*.input_layernorm.weight           [32]            f32   x 3
      model.layers.*.mlp.down_proj.weight             [32, 48]        f32   x 3
      model.layers.*.mlp.gate_proj.weight             [48, 32]        f32   x 3
      model.layers.*.mlp.up_proj.weight               [48, 32]        f32   x 3
      model.layers.*.post_attention_layernorm.weight  [32]            f32   x 3
      model.layers.*.self_attn.k_proj.weight          [16, 32]        f32   x 3
      model.layers.*.self_attn.o_proj.weight          [32, 32]        f32   x 3
      model.layers.*.self_attn.q_proj.weight          [32, 32]        f32   x 3
      model.layers.*.self_attn.v_proj.weight          [16, 32]        f32   x 3
      model.norm.weight                               [32]            f32
    ");
    let report = json("mistral-sw8/base");
    let expected = [
        "kind",
        "path",
        "config",
        "parameters",
        "bytes",
        "memory",
        "chat_template",
        "misfits",
        "tensors",
    ];
    assert_eq!(keys(&report), expected);
    assert_eq!(report["kind"], "model");
    assert_eq!(keys(&report["memory"]), ["f32", "bf16", "cache_per_token"]);
    assert_eq!(report["tensors"].as_array().unwrap().len(), 30);
    assert_eq!(report["misfits"], serde_json::Value::Null);
}

#[test]
fn a_model_folder_of_another_family() {
    let text = inspect("gpt2/base");
    assert!(text.contains("context     64 tokens, learned position embeddings\n"), "{text}");
    assert!(text.contains("  transformer.h.*.attn.c_attn.weight "), "{text}");
    let report = json("gpt2/base");
    assert_eq!(report["config"]["architecture"], "gpt2");
    assert_eq!(report["misfits"], serde_json::Value::Null);
}

#[test]
fn an_adapter_folder() {
    insta::assert_snapshot!(inspect("llama-gqa-tied/adapter"), @r"
    adapter     [golden]/llama-gqa-tied/adapter (peft)
    base model  llama-gqa-tied (d_model 32)
    template    alpaca (the default)
    prompts     prompt length 5, 2 adapted layers (1 to 2)
    gates       one per layer; from -0.3997 to -0.1827, mean -0.2912
    parameters  322
    on disk     1.74 KiB

    layer  gate min  gate max  gate mean  prompt rms
        1   -0.1827   -0.1827    -0.1827      1.0549
        2   -0.3997   -0.3997    -0.3997      0.9085

    layer     gate
        1  -0.1827                                  ▐███████████████████████████
        2  -0.3997  ████████████████████████████████████████████████████████████
    ");
    let report = json("llama-gqa-tied/adapter");
    let expected = [
        "kind",
        "path",
        "format",
        "bytes",
        "base_model",
        "prompts",
        "v2",
        "lora",
        "image",
        "n_parameters",
        "gates",
    ];
    assert_eq!(keys(&report), expected);
    let prompts = &report["prompts"];
    assert_eq!(prompts["gate"], "scalar");
    assert_eq!(keys(&report["gates"]), ["min", "max", "mean"]);
    let expected = ["adapter_len", "d_model", "gate", "activation", "layers"];
    assert_eq!(keys(prompts), expected);
    assert_eq!(keys(&prompts["layers"][0]), ["layer", "gates", "prompt_rms"]);
}

#[test]
fn a_gguf_file() {
    let text = inspect("gguf/tiny-llama.gguf");
    assert!(text.starts_with("GGUF        [golden]/gguf/tiny-llama.gguf (version 3)\n"), "{text}");
    assert!(text.contains("\nattention   4 heads, 2 KV heads, head dim 8\n"), "{text}");
    let report = json("gguf/tiny-llama.gguf");
    assert_eq!(report["kind"], "gguf");
    assert_eq!(report["config"]["n_kv_heads"], 2);
    assert_eq!(report["metadata"]["general.architecture"], "\"llama\"");
}

#[test]
fn a_gguf_file_without_a_model() {
    let report = json("gguf/quants.gguf");
    assert!(report["config"].is_null() && report["unusable"].is_string());
    assert_eq!(report["parameters"], 11 * 1024);
    let types = report["tensors"].as_array().unwrap().iter().map(|t| t["dtype"].as_str().unwrap());
    assert!(types.into_iter().any(|name| name == "q4_k"));
}

#[test]
fn a_weight_file() {
    let report = json("llama-mha/adapter/adapter_model.safetensors");
    assert_eq!(keys(&report), ["kind", "path", "parameters", "bytes", "tensors"]);
    assert_eq!((&report["kind"], &report["parameters"]), (&"safetensors".into(), &322.into()));
}

#[test]
fn file_kind_is_detected_from_contents() {
    let program = Program::new();
    for (from, kind) in [
        ("gguf/tiny-llama.gguf", "gguf"),
        ("llama-mha/adapter/adapter_model.safetensors", "safetensors"),
        ("torch/zip.pth", "torch"),
    ] {
        let to = program.folder().join("file");
        std::fs::copy(golden(from), &to).unwrap();
        let report = program.run(&["inspect", "--json", to.to_str().unwrap()]).json();
        assert_eq!(report["kind"], kind, "{from}");
    }
}

#[test]
fn a_split_gguf_is_shown_as_one() {
    let report = json("gguf/tiny-split-00001-of-00002.gguf");
    assert_eq!(report["tensors"].as_array().unwrap().len(), 11);
    assert_eq!(report["config"]["n_layers"], 1);
    let error = Program::new().run(&["inspect", &golden("gguf/tiny-split-00002-of-00002.gguf")]);
    assert!(error.fails(1).contains("it is part 2 of 2: give the first"));
}

#[test]
fn an_untied_head_overrides_the_config() {
    let program = Program::new();
    let model = program.folder().join("model");
    std::fs::create_dir(&model).unwrap();
    let base = std::path::PathBuf::from(golden("llama-mha/base"));
    std::fs::copy(base.join("model.safetensors"), model.join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(base.join("config.json")).unwrap();
    let config = config.replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    std::fs::write(model.join("config.json"), config).unwrap();
    let report = program.run(&["inspect", "--json", model.to_str().unwrap()]).json();
    assert_eq!(report["config"]["tied_head"], false);
    assert_eq!(report["parameters"], json("llama-mha/base")["parameters"]);
    assert_eq!(report["misfits"], serde_json::Value::Null);
}

#[test]
fn a_pytorch_file() {
    let report = json("torch/legacy.pth");
    assert_eq!(keys(&report), ["kind", "path", "parameters", "bytes", "tensors"]);
    assert_eq!(report["kind"], "torch");
    insta::assert_snapshot!(inspect("torch/hostile.pth"), @r"
    file        [golden]/torch/hostile.pth
    parameters  2
    on disk     1.60 KiB

    tensors (1)
      weight  [2]             f32
    ");
}

#[test]
fn a_meta_checkpoint() {
    let report = json("meta");
    assert_eq!((&report["kind"], &report["parameters"]), (&"model".into(), &43_744.into()));
    assert!(report["misfits"].is_null(), "{}", report["misfits"]);
    let text = inspect("meta");
    assert!(text.starts_with("model       [golden]/meta\nlayers      3, d_model 32, "), "{text}");
    let merged = "\n  model.embed_tokens.weight                       [320, 32]       f16\n";
    assert!(text.contains(merged), "{text}");
}

#[test]
fn the_built_in_model() {
    let report = Program::new().run(&["inspect", "--json"]).json();
    assert_eq!((&report["kind"], &report["path"]), (&"model".into(), &"the built-in model".into()));
    assert!(report["misfits"].is_null(), "{}", report["misfits"]);
}

#[test]
fn paths_that_cannot_be_inspected_are_errors() {
    let program = Program::new();
    let error = program.run(&["inspect", "no/such/place"]).fails(1);
    assert!(error.starts_with("error: no/such/place: no such file or folder\nhint: "));
    let error = program.run(&["inspect", &golden("README.md")]).fails(1);
    assert!(
        error.contains("not a model, an adapter or a weight file\nhint: `inspect` takes"),
        "{error}"
    );
    let cut = program.folder().join("cut.gguf");
    std::fs::write(&cut, "GGUF").unwrap();
    let error = program.run(&["inspect", cut.to_str().unwrap()]).fails(1);
    assert!(error.contains("not a valid GGUF file"), "{error}");
}
