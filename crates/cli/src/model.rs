//! what `--model`, `--precision`, `--device` and `--threads` say ─► what they mean

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use device::OpenDevice;
use indicatif::ProgressBar;
use llama::{Llama, ModelSource, Precision};

use crate::check;
use crate::error::Error;
use crate::failure::{Doing, Result};
use crate::known::KnownModel;
use crate::output::note;

/// Files of the model that is part of this program.
pub mod built_in {
    pub const CONFIG: &str = include_str!("../../../assets/tiny-llama/config.json");
    pub const WEIGHTS: &[u8] = include_bytes!("../../../assets/tiny-llama/model.safetensors");
    pub const TOKENIZER: &[u8] = include_bytes!("../../../assets/tiny-llama/tokenizer.json");
    pub const TOKENIZER_CONFIG: &str =
        include_str!("../../../assets/tiny-llama/tokenizer_config.json");
}

/// Which base model, and where and how it is computed.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Base model")]
pub struct ModelArgs {
    /// The base model: a Hugging Face folder or one of Meta's, a .gguf file, the name of a fetched
    /// model (see `llama-adapter fetch`), or a Hugging Face id such as owner/name. Default: the
    /// tiny model that is built in.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Precision that the base's matrices are kept in. bf16 and f16 take half the memory, q8 and
    /// q4 (8 and 4 bits) about a quarter and a sixth; on CPUs the fewer bits, the faster it answers.
    /// A GGUF's matrices of so many bits or fewer are kept as they are stored. Sums, norms, softmax
    /// and adapters are f32 always. Default: f32 on CPUs; elsewhere what the file has, if the device
    /// computes in it.
    #[arg(long, alias = "dtype", value_parser = precisions())]
    pub precision: Option<Precision>,
    /// Where to compute: flex, ndarray, wgpu:0, cuda:1, ... among the backends of this build.
    /// Default: the first of them.
    /// See `llama-adapter devices`.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Threads that CPU backends compute with [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Do not check first whether the device computes rightly. CPU backends are never checked.
    #[arg(long)]
    pub skip_device_check: bool,
}

/// The choices of `--precision`.
fn precisions() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::ALL.iter().map(|(_, name)| *name))
        .try_map(|name| name.parse())
}

/// A loaded base model.
#[derive(Debug)]
pub struct Base {
    pub source: ModelSource,
    pub llama: Llama,
    pub device: Device,
}

impl ModelArgs {
    /// What was asked for, as a text for files and messages.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        self.model.as_ref().map(|model| model.to_string_lossy())
    }

    /// The name of the device, asked for or the default.
    pub fn device_name(&self) -> Result<&str> {
        match &self.device {
            Some(name) => Ok(name),
            None => Ok(device::default_name()?),
        }
    }

    /// Finds the model and reads its config; downloads it if it is an id of the Hub.
    pub fn source(&self) -> Result<ModelSource> {
        let Some(path) = &self.model else { return built_in_source() };
        if path.exists() {
            return Ok(ModelSource::open(path)?);
        }
        let name = path.to_string_lossy();
        if let Some(known) = KnownModel::find(&name) {
            return Ok(ModelSource::open(known.fetched()?)?);
        }
        from_hub(&name)
    }

    /// What was asked for, or what suits the device.
    fn suitable_precision(
        &self,
        source: &ModelSource,
        open: &OpenDevice,
    ) -> llama::Result<Precision> {
        match self.precision {
            Some(asked) => Ok(asked),
            // Rounding the weights is for the user to ask for.
            None if open.info.kind.is_cpu() => Ok(Precision::F32),
            None => {
                let stored = source.stored_precision()?;
                Ok(if stored.is_supported(&open.device) { stored } else { Precision::F32 })
            }
        }
    }

    /// Before the first computation: the threads are there for the whole run, and this one is among
    /// them, or it would go to sleep whenever the others work.
    fn set_threads(&self) -> Result {
        static SET: AtomicBool = AtomicBool::new(false);
        if SET.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let threads = self.threads.map_or(0, Into::into);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread();
        let failed = Error::system("threads to compute with could not be started");
        Ok(pool.build_global().map_err(failed)?)
    }

    /// Loads the model.
    pub fn load(&self) -> Result<Base> {
        self.load_with(&note)
    }

    /// Loads the model; `tell` hears what is worth a line. The device comes first: a wrong name
    /// should not cost a download.
    pub fn load_with(&self, tell: &dyn Fn(&str)) -> Result<Base> {
        self.set_threads()?;
        let open = device::open(self.device_name()?)?;
        if !self.skip_device_check {
            check::check_before_run(&open, tell)?;
        }
        let source = self.source()?;
        for unused in source.unused_settings() {
            tell(&format!("note: {unused}"));
        }
        let spinner = ProgressBar::new_spinner();
        spinner.enable_steady_tick(std::time::Duration::from_millis(120));
        spinner.set_message(format!("loading {}", source.path().display()));
        let precision = self.suitable_precision(&source, &open);
        let llama = precision.and_then(|precision| source.load(precision, &open.device));
        spinner.finish_and_clear();
        Ok(Base { llama: llama?, source, device: open.device })
    }
}

/// The model that is part of this program.
pub fn built_in_source() -> Result<ModelSource> {
    let source = ModelSource::embedded(built_in::CONFIG, built_in::WEIGHTS, built_in::TOKENIZER)?;
    Ok(source.with_tokenizer_config(built_in::TOKENIZER_CONFIG))
}

#[cfg(feature = "hub")]
fn from_hub(name: &str) -> Result<ModelSource> {
    use llama::hub::{FetchProgress, Hub};

    use crate::transfer::TransferProgress;

    // `models/some.gguf` has the form of an id too, and is meant as a path.
    let is_path = name.matches('/').count() < 2
        && Path::new(name).extension().is_some_and(|e| e == "gguf" || e == "safetensors");
    if is_path || !Hub::is_id(name) {
        return Err(Error::NoSuchModel { name: name.into(), more: "" }.into());
    }
    let mut current: Option<(String, TransferProgress)> = None;
    let mut progress = |now: &FetchProgress| {
        if current.as_ref().is_none_or(|(file, _)| *file != now.file) {
            current = Some((now.file.clone(), TransferProgress::new(&now.file, now.total)));
        }
        if let Some((_, transfer)) = &current {
            transfer.set(now.done);
        }
    };
    let path: PathBuf = Hub::from_env()?.fetch(name, &mut progress).doing(|| {
        format!("`{name}` is no folder or file here, and did not come from the Hugging Face Hub")
    })?;
    drop(current);
    Ok(ModelSource::open(path)?)
}

#[cfg(not(feature = "hub"))]
fn from_hub(name: &str) -> Result<ModelSource> {
    let more = " (and this build cannot ask the Hugging Face Hub: it lacks the feature `hub`)";
    Err(Error::NoSuchModel { name: name.into(), more }.into())
}
