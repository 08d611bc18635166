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
    Answer prompts or an instruction, with or without an adapter

    Usage: llama-adapter generate [OPTIONS]

    Options:
          --json  Write one line of JSON for each answer: text, tokens, finish (stop or length),
                  prompt_tokens, seconds_prompt, seconds_decode
      -h, --help  Print help (see more with '--help')

    Adapters:
          --adapter <[NAME=]PATH>  An adapter, or a mix of some: a folder, or a file of the original
                                   release, lit-llama or litgpt. Without it the base model is used. May
                                   be given several times; NAME is how to call it, by default the name
                                   of the folder
          --force                  Use adapters on a model they were not made for, if only their sizes
                                   fit
          --use <NAMES>            Which adapter answers, by its name, or `none`: one for all prompts,
                                   or one for each, separated by commas [default: the first --adapter]

    Images:
          --image <FILE>          An image that the adapter sees, JPEG, PNG or WebP: one for all
                                  prompts, or, given several times, one for each
          --image-encoder <PATH>  The frozen encoder that looks at images: a folder of a CLIP or a
                                  DINOv2 as Hugging Face has them, a file in OpenAI's layout, or
                                  tiny-vit, which is built in. With an adapter that sees images the
                                  default is the one that it learned with, where it was then

    Request:
      -p, --prompt <TEXT>       A text for the model. With an adapter it is put as an instruction;
                                without one it goes through the model's chat template, or, if the model
                                has none, is continued as it is. May be given several times
      -i, --instruction <TEXT>  An instruction, put in the Alpaca wording that adapters are trained with
          --input <TEXT>        What the instruction is about, if it needs something to work on
          --raw                 Take the prompt exactly as it is, without any wording around it

    Answer:
          --max-new-tokens <N>      Most tokens to write; a token is about three quarters of an English
                                    word [default: 256]
          --temperature <T>         0 always takes the likeliest token; 1 draws as the model says; more
                                    is wilder [default: 0]
          --top-p <P>               Draw among the likeliest tokens that together have this probability,
                                    0 < P <= 1 [default: 1]
          --top-k <K>               Draw among this many of the likeliest tokens; 0 for all [default: 0]
          --repetition-penalty <R>  Weaken tokens that were said already; 1 is off, 1.1 is a little
                                    [default: 1]
          --seed <S>                Start of the random numbers: the same seed gives the same answer
                                    [default: 0]
          --stop <TEXT>...          End the answer before this text; may be given several times
          --ignore-eos              Go on behind the model's own tokens for the end of a text, up to
                                    --max-new-tokens

    Base model:
          --model <MODEL>          The base model: a Hugging Face folder or one of Meta's, a .gguf file,
                                   the name of a fetched model (see `llama-adapter fetch`), or a Hugging
                                   Face id such as owner/name. Default: the tiny model that is built in
          --precision <PRECISION>  Precision that the base's matrices are kept in. bf16 and f16 take
                                   half the memory, q8 and q4 (8 and 4 bits) about a quarter and a
                                   sixth; on CPUs the fewer bits, the faster it answers. A GGUF's
                                   matrices of so many bits or fewer are kept as they are stored. Sums,
                                   norms, softmax and adapters are f32 always. Default: f32 on CPUs;
                                   elsewhere what the file has, if the device computes in it [possible
                                   values: f32, bf16, f16, q8, q4]
          --device <DEVICE>        Where to compute: flex, ndarray, wgpu:0, cuda:1, ... among the
                                   backends of this build. Default: the first of them. See
                                   `llama-adapter devices`
          --threads <N>            Threads that CPU backends compute with [default: one for each core]
          --skip-device-check      Do not check first whether the device computes rightly. CPU backends
                                   are never checked
    ");
}
