//! Turns the [`Advice`] of an error into a hint that names the options of the command line.

use diagnostic::Advice;

/// The text of a hint. Libraries do not know the options, so their own text is neutral.
pub fn hint_text(advice: &Advice) -> String {
    let text = match advice {
        Advice::GiveModel => {
            "pass a folder with config.json and *.safetensors, or with params.json and \
             consolidated.*.pth, a .gguf file, or the name of a fetched model (`llama-adapter fetch`)"
        }
        Advice::GiveBaseModel => "pass the base model with --model",
        Advice::UseAsAdapter => "pass this with --adapter and its base model with --model",
        Advice::UseAsModel => "pass this with --model and an adapter with --adapter",
        Advice::UseMatchingBase => {
            "use the base model it was trained on, or --force to skip this check"
        }
        Advice::GiveEncoder => "pass that encoder with --image-encoder",
        Advice::AllowLossyConversion => "--lossy converts anyway and reports what is lost",
        Advice::FewerLayers => "reduce --adapter-layers",
        Advice::WiderPrecision => {
            "the adapter or the weights may be corrupted, or overflow in --precision: try f32"
        }
        Advice::OtherPrecision => {
            "`llama-adapter devices` lists the dtypes of each device; every device supports \
             --precision f32, q8 and q4"
        }
        Advice::ReduceMemory => {
            "probably out of memory: try a smaller --batch-size, shorter sequences, or --precision \
             f16 or q8; `llama-adapter plan` estimates the memory"
        }
        Advice::CheckSequenceLength => "check the data file and --max-len",
        Advice::ForceFormat => {
            "rows of plain text need --format text (by paragraph) or --format lines"
        }
        Advice::LowerLearningRate { suggested } => {
            return format!(
                "the last checkpoint is kept; try --learning-rate {suggested} or --max-gradient-norm \
                 1; `--learning-rate find` measures a good one"
            );
        }
        Advice::OtherOutput => "choose a new or empty --output",
        Advice::WaitOrOtherOutput => "wait for it or stop it, or choose another --output",
        Advice::OtherOutputOrResume => {
            "choose a new or empty --output; --resume continues an interrupted run"
        }
        Advice::StartNewRun => "start a new run without --resume in a new or empty --output",
        Advice::ResumeRun => "everything is saved: the same command with --resume continues",
        Advice::ResumeWithSameSettings { adapter_folder: Some(folder) } => {
            return format!(
                "resume with the settings in run.json; for other settings start a new run with \
                 --from-adapter {} and another --output",
                folder.display()
            );
        }
        Advice::ResumeWithSameSettings { adapter_folder: None } => {
            "resume with the settings in run.json, or start a new run in another --output"
        }
        Advice::Feature(name) => return format!("build with `--features {name}`"),
        other => return other.to_string(),
    };
    text.to_owned()
}
