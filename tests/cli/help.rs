//! `--help` and `--version`.

use crate::program::Program;

#[test]
fn every_subcommand_has_help() {
    let program = Program::new();
    let subcommands = program.subcommands();
    assert!(subcommands[..2] == ["train", "eval"] && subcommands.len() > 10, "{subcommands:?}");
    for subcommand in subcommands {
        let own = program.run(&[&subcommand, "--help"]).ok();
        assert!(own.contains(&format!("Usage: llama-adapter {subcommand} ")), "{own}");
    }
}

#[test]
fn the_version_reports_the_build_and_the_cpu() {
    let program = Program::new();
    let short = program.run(&["-V"]).ok();
    assert_eq!(short, concat!("llama-adapter ", env!("CARGO_PKG_VERSION"), "\n"));
    let long = program.run(&["--version"]).ok();
    let (first, rest) = long.split_once('\n').expect("more than a line");
    assert_eq!(first, short.trim_end());
    let names = rest.lines().map(|line| line.split(' ').next().unwrap_or_default());
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["commit", "backends", "hub", "CPU", "kernels"],
        "{long}"
    );
    assert!(long.contains(&format!("\nbackends   {}\n", device::compiled())), "{long}");
    assert!(long.contains(": plain Rust"), "{long}");
    assert!(long.ends_with("\nkernels    fused layers on flex\n"), "{long}");
}

#[test]
fn the_options_of_generate() {
    insta::assert_snapshot!(Program::new().run(&["generate", "-h"]).ok(), @r"
    Generate responses to prompts or to an instruction, with or without an adapter

    Usage: llama-adapter generate [OPTIONS]

    Options:
          --json  Print one line of JSON per response: text, tokens, finish (stop or length),
                  prompt_tokens, seconds_prompt, seconds_decode
      -h, --help  Print help (see more with '--help')

    Adapters:
          --adapter <[NAME=]PATH>  An adapter or a mix: a folder, or a file of the original release,
                                   lit-llama or LitGPT. Without it the base model is used. Repeatable;
                                   NAME defaults to the folder name
          --force                  Use adapters on a different base model if the shapes match
          --use <NAMES>            Adapter by name, or `none` for the base model: one for all prompts or
                                   one per prompt, comma-separated [default: the first --adapter]

    Images:
          --image <FILE>          Input image for a multimodal adapter (JPEG, PNG or WebP): one for all
                                  prompts, or repeated, one per prompt
          --image-encoder <PATH>  Frozen image encoder: a Hugging Face CLIP or DINOv2 folder, an OpenAI
                                  CLIP checkpoint, or the built-in tiny-vit. For multimodal adapters the
                                  default is the encoder used in training, at its recorded path

    Prompt:
      -p, --prompt <TEXT>                Prompt. With an adapter it is formatted with the template of
                                         the adapter's training; without one, with the model's chat
                                         template, or used verbatim if there is none. Repeatable
      -i, --instruction <TEXT>           Instruction, formatted with the prompt template of the
                                         adapter's training; without an adapter, with the Alpaca
                                         template
          --input <TEXT>                 Input field of the instruction
          --raw                          Use the prompt verbatim, without a prompt template
          --prompt-template <NAME|FILE>  Prompt template: alpaca, chat (the model's own), chatml,
                                         llama-2, llama-3, mistral, raw (none), or a file with a chat
                                         template in Jinja
          --system <TEXT>                System prompt [default: that of the adapter's training]

    Sampling:
          --max-new-tokens <N>      Maximum number of new tokens; a token is about 3/4 of an English
                                    word [default: 256]
          --temperature <T>         Sampling temperature: 0 is greedy decoding, 1 samples from the
                                    model's distribution, higher values are more random [default: 0]
          --top-p <P>               Nucleus sampling: sample from the smallest set of most likely tokens
                                    with total probability P, 0 < P <= 1 [default: 1]
          --top-k <K>               Sample from the K most likely tokens; 0 disables top-k [default: 0]
          --repetition-penalty <R>  Penalty on tokens that occurred before; 1 is off, 1.1 is mild
                                    [default: 1]
          --seed <S>                Random seed: the same seed gives the same output [default: 0]
          --stop <TEXT>...          Stop string: generation stops before it; repeatable
          --ignore-eos              Ignore end-of-sequence tokens and generate up to --max-new-tokens

    Base model:
          --model <MODEL>          The base model: a Hugging Face or Meta checkpoint folder, a .gguf
                                   file, the name of a fetched model (see `llama-adapter fetch`), or a
                                   Hugging Face Hub id such as owner/name. Default: the built-in tiny
                                   model
          --precision <PRECISION>  Storage precision of the base model's weight matrices. bf16 and f16
                                   halve the memory; q8 and q4 (8- and 4-bit) take about 1/4 and 1/6. On
                                   CPUs, fewer bits decode faster. GGUF matrices of at most this many
                                   bits keep their stored quantization. Accumulation, norms, softmax and
                                   adapters always use f32. Default: f32 on CPUs; elsewhere the file's
                                   dtype if the device supports it [possible values: f32, bf16, f16, q8,
                                   q4]
          --device <DEVICE>        Device: flex, ndarray, wgpu:0, cuda:1, ..., depending on the backends
                                   in this build. Default: the first backend. See `llama-adapter
                                   devices`
          --threads <N>            Number of threads for CPU backends [default: one per core]
          --skip-device-check      Skip the numerical check of the device before the run. CPU backends
                                   are never checked
          --no-fused               Use no fused kernels on GPUs, only Burn's own operations: slower, and
                                   to find out whether a kernel is at fault
    ");
}
