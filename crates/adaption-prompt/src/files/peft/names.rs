//! Names in PEFT's folder: files and methods.

/// File of the settings.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File of the tensors.
pub const TENSORS_FILE: &str = "adapter_model.safetensors";
/// File of the tensors in older versions of PEFT.
pub const PICKLE_FILE: &str = "adapter_model.bin";

/// LLaMA-Adapter's prompts.
pub(super) const PROMPT_METHOD: &str = "ADAPTION_PROMPT";
/// LoRA.
pub(super) const LORA_METHOD: &str = "LORA";
/// An adapter that PEFT cannot compute.
pub(super) const LLAMA_ADAPTER_METHOD: &str = "LLAMA_ADAPTER";
