//! `--model`, `--precision`, `--device` and `--threads` ─► a loaded base model

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use device::OpenDevice;
use indicatif::ProgressBar;
use llama::{Llama, ModelSource, Precision};

use crate::cache::fetched_path;
use crate::device_check::check_before_run;
use crate::error::Error;
use crate::failure::Result;
use crate::known_models::KnownModel;
use crate::output::note;

/// The base model, its precision and its device.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Base model")]
pub struct ModelArgs {
    /// The base model: a Hugging Face or Meta checkpoint folder, a .gguf file, the name of a fetched
    /// model (see `llama-adapter fetch`), or a Hugging Face Hub id such as owner/name. Default: the
    /// built-in tiny model.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Storage precision of the base model's weight matrices. bf16 and f16 halve the memory; q8 and
    /// q4 (8- and 4-bit) take about 1/4 and 1/6. On CPUs, fewer bits decode faster. GGUF matrices of
    /// at most this many bits keep their stored quantization. Accumulation, norms, softmax and
    /// adapters always use f32. Default: f32 on CPUs; elsewhere the file's dtype if the device
    /// supports it.
    #[arg(long, alias = "dtype", value_parser = precision_parser())]
    pub precision: Option<Precision>,
    /// Device: flex, ndarray, wgpu:0, cuda:1, ..., depending on the backends in this build. Default:
    /// the first backend. See `llama-adapter devices`.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Number of threads for CPU backends [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Skip the numerical check of the device before the run. CPU backends are never checked.
    #[arg(long)]
    pub skip_device_check: bool,
    /// Use no fused kernels on GPUs, only Burn's own operations: slower, and to find out whether a
    /// kernel is at fault.
    #[arg(long)]
    pub no_fused: bool,
}

/// The values of `--precision`.
fn precision_parser() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::ALL.iter().map(|(_, name)| *name))
        .try_map(|name| name.parse())
}

/// A loaded base model.
#[derive(Debug)]
pub struct BaseModel {
    pub source: ModelSource,
    pub llama: Llama,
    pub device: Device,
}

impl ModelArgs {
    /// A model without further options.
    pub fn of(model: Option<PathBuf>) -> Self {
        Self {
            model,
            precision: None,
            device: None,
            threads: None,
            skip_device_check: false,
            no_fused: false,
        }
    }

    /// The value of `--model` as text for files and messages.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        self.model.as_ref().map(|model| model.to_string_lossy())
    }

    /// The name of the requested or default device.
    pub fn device_name(&self) -> Result<&str> {
        match &self.device {
            Some(name) => Ok(name),
            None => Ok(device::default_name()?),
        }
    }

    /// Finds the model and reads its config; downloads a model of the Hugging Face Hub.
    pub fn open_source(&self) -> Result<ModelSource> {
        let Some(path) = &self.model else { return Ok(built_in::model()?) };
        if path.exists() {
            return Ok(ModelSource::open(path)?);
        }
        let name = path.to_string_lossy();
        if let Some(known) = KnownModel::find(&name) {
            return Ok(ModelSource::open(fetched_path(known)?)?);
        }
        from_hub(&name)
    }

    /// Whether the model has a chat template. The device is opened first: a wrong name must not cost a
    /// download.
    pub fn has_chat_template(&self) -> Result<bool> {
        device::open(self.device_name()?)?;
        Ok(self.open_source()?.tokenizer()?.chat_template.is_some())
    }

    /// The requested precision, or the default of the device.
    fn resolve_precision(
        &self,
        source: &ModelSource,
        open: &OpenDevice,
    ) -> llama::Result<Precision> {
        match self.precision {
            Some(requested) => Ok(requested),
            // On CPUs the weights are rounded on request only.
            None if open.info.kind.is_cpu() => Ok(Precision::F32),
            None => {
                let stored = source.stored_precision()?;
                Ok(if stored.is_supported(&open.device) { stored } else { Precision::F32 })
            }
        }
    }

    /// Starts the thread pool, once, before the first computation. The current thread is part of the
    /// pool: otherwise it would sleep while the others compute.
    fn set_threads(&self) -> Result {
        static SET: AtomicBool = AtomicBool::new(false);
        if SET.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let threads = self.threads.map_or(0, Into::into);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread();
        Ok(pool.build_global().map_err(Error::system("cannot start the thread pool"))?)
    }

    /// Loads the model; notes go to stderr.
    pub fn load(&self) -> Result<BaseModel> {
        self.load_with(&note)
    }

    /// Loads the model; notes go to `notify`. The device is opened first: a wrong name must not cost
    /// a download.
    pub fn load_with(&self, notify: &dyn Fn(&str)) -> Result<BaseModel> {
        self.set_threads()?;
        kernels::enable_gpu_kernels(!self.no_fused);
        let open = device::open(self.device_name()?)?;
        if !self.skip_device_check {
            check_before_run(&open, notify)?;
        }
        let source = self.open_source()?;
        for unused in source.unused_settings() {
            notify(&format!("note: {unused}"));
        }
        let spinner = ProgressBar::new_spinner();
        spinner.enable_steady_tick(std::time::Duration::from_millis(120));
        spinner.set_message(format!("loading {}", source.path().display()));
        let precision = self.resolve_precision(&source, &open);
        let llama = precision.and_then(|precision| source.load(precision, &open.device));
        spinner.finish_and_clear();
        Ok(BaseModel { llama: llama?, source, device: open.device })
    }
}

#[cfg(feature = "hub")]
fn from_hub(name: &str) -> Result<ModelSource> {
    use std::path::Path;

    use llama::hub::Hub;

    use crate::failure::ErrorContext;
    use crate::transfer_progress::show_files;

    // `models/some.gguf` is a valid id, but meant as a path.
    let is_path = name.matches('/').count() < 2
        && Path::new(name).extension().is_some_and(|e| e == "gguf" || e == "safetensors");
    if is_path || !Hub::is_id(name) {
        return Err(Error::NoSuchModel { name: name.into(), more: "" }.into());
    }
    let fetched = Hub::from_env()?.fetch(name, &mut show_files()).with_context(|| {
        format!(
            "`{name}` is not a local folder or file, and cannot be fetched from the Hugging Face \
             Hub"
        )
    });
    Ok(ModelSource::open(fetched?)?)
}

#[cfg(not(feature = "hub"))]
fn from_hub(name: &str) -> Result<ModelSource> {
    let more = " (this build has no Hugging Face Hub support: feature `hub`)";
    Err(Error::NoSuchModel { name: name.into(), more }.into())
}
