//! Options of the fine-tuning method ─► [`FineTuningMethod`]

use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdaptionPromptConfig, Gate, GateActivation, LoraConfig, V2Config,
};
use clap::ValueEnum;
use llama::LinearName;
use train::FineTuningMethod;

use crate::choice::choice;
use crate::error::Error;

/// The fine-tuning method. Most options require some of the methods.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Adapter")]
pub struct MethodArgs {
    /// Fine-tuning method: adaption prompts (LLaMA-Adapter V1), Adapter V2 (scales, biases and
    /// norms), both, LoRA, or full fine-tuning.
    #[arg(long, value_enum, default_value_t)]
    pub method: MethodChoice,
    /// Prompt length: prompt tokens per adapted layer [default: 10].
    #[arg(long, value_name = "K")]
    adapter_len: Option<usize>,
    /// Number of adapted layers, counted from the last [default: all but the first two; built-in
    /// model: all but the first; lora: all].
    #[arg(long, value_name = "L", conflicts_with = "layers")]
    adapter_layers: Option<usize>,
    /// Indices of the adapted layers, zero-based and comma-separated, such as 2,5,6.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    layers: Vec<usize>,
    /// Gate shape: one per layer (PEFT-compatible) or one per attention head (as in the paper)
    /// [default: scalar].
    #[arg(long, value_enum)]
    gate: Option<GateChoice>,
    /// Apply tanh to the gates, as in the original release; not PEFT-compatible.
    #[arg(long)]
    tanh: bool,
    /// Add a trainable scalar per layer that multiplies its gates; not PEFT-compatible.
    #[arg(long)]
    gate_factor: bool,
    /// Standard deviation of the prompts' random init [default: 1].
    #[arg(long, alias = "prompt-std", value_name = "X", conflicts_with = "prompt_init_text")]
    prompt_init_std: Option<f64>,
    /// Initialize every layer's prompt from the token embeddings of this text.
    #[arg(long, alias = "prompt-text", value_name = "TEXT")]
    pub prompt_init_text: Option<String>,
    /// Standard deviation of the gates' random init; a value other than 0 disables zero-init, for
    /// experiments [default: 0].
    #[arg(long, alias = "gate-std", value_name = "X")]
    gate_init_std: Option<f64>,
    /// Adapter V2 variant: as in the paper; including the output head, as in lit-llama and LitGPT;
    /// input scale, as in the original 65B release; bias only, as in the original 7B release
    /// [default: paper].
    #[arg(long, alias = "v2-form", value_enum)]
    v2_variant: Option<V2Variant>,
    /// LoRA rank [default: 8].
    #[arg(long, value_name = "R")]
    lora_rank: Option<usize>,
    /// LoRA alpha; the update is scaled by alpha / rank [default: the rank].
    #[arg(long, value_name = "X")]
    lora_alpha: Option<f64>,
    /// Linear layers that get LoRA, comma-separated [default: query,value].
    #[arg(long, alias = "lora-linears", value_enum, value_name = "NAMES", value_delimiter = ',')]
    lora_target_modules: Vec<LoraTargetChoice>,
}

/// The values of `--method`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum MethodChoice {
    #[default]
    Prompts,
    V2,
    #[value(name = "prompts+v2")]
    PromptsAndV2,
    Lora,
    Full,
}

choice! {
    /// The values of `--gate`.
    enum GateChoice => Gate {
        Scalar => Self::Scalar,
        Head => Self::PerHead,
    }
}

choice! {
    /// The values of `--v2-variant`.
    enum V2Variant => V2Config {
        Paper => Self::paper(),
        Lit => Self::lit(),
        InputScale => Self::input_scale(),
        Bias => Self::bias_only(),
    }
}

choice! {
    /// The values of `--lora-target-modules`.
    enum LoraTargetChoice => LinearName {
        Query => Self::Query,
        Key => Self::Key,
        Value => Self::Value,
        Output => Self::Output,
        Gate => Self::Gate,
        Up => Self::Up,
        Down => Self::Down,
    }
}

impl MethodArgs {
    /// The method; options replace the values of `defaults`.
    pub fn method(&self, defaults: AdaptionPromptConfig) -> FineTuningMethod {
        let adapter = match self.method {
            MethodChoice::Full => return FineTuningMethod::Full,
            MethodChoice::Prompts => self.prompts(defaults).into(),
            MethodChoice::V2 => self.v2().into(),
            MethodChoice::PromptsAndV2 => {
                AdapterConfig { v2: Some(self.v2()), ..self.prompts(defaults).into() }
            }
            MethodChoice::Lora => self.lora().into(),
        };
        FineTuningMethod::Adapter(adapter)
    }

    fn adapted_layers(&self) -> Option<AdaptedLayers> {
        match &self.layers[..] {
            [] => self.adapter_layers.map(AdaptedLayers::Last),
            layers => Some(AdaptedLayers::Chosen(layers.to_vec())),
        }
    }

    fn prompts(&self, defaults: AdaptionPromptConfig) -> AdaptionPromptConfig {
        let mut config = defaults;
        config.adapter_len = self.adapter_len.unwrap_or(config.adapter_len);
        config.layers = self.adapted_layers().unwrap_or(config.layers);
        config.gate = self.gate.map_or(Gate::Scalar, Into::into);
        if self.tanh {
            config.activation = GateActivation::Tanh;
        }
        config.factor = self.gate_factor;
        config.init.prompt_std = self.prompt_init_std.unwrap_or(config.init.prompt_std);
        config.init.gate_std = self.gate_init_std.unwrap_or(config.init.gate_std);
        config
    }

    fn v2(&self) -> V2Config {
        self.v2_variant.unwrap_or(V2Variant::Paper).into()
    }

    fn lora(&self) -> LoraConfig {
        let defaults = LoraConfig::default();
        let rank = self.lora_rank.unwrap_or(defaults.rank);
        let linears = self.lora_target_modules.iter().copied().map(LinearName::from);
        let linears = linears.collect::<Vec<_>>();
        LoraConfig {
            rank,
            alpha: self.lora_alpha.unwrap_or(rank as f64),
            linears: if linears.is_empty() { defaults.linears } else { linears },
            layers: self.adapted_layers(),
        }
    }

    /// Refuses options of other methods.
    pub fn validate(&self) -> Result<(), Error> {
        use MethodChoice::{Lora, Prompts, PromptsAndV2, V2};
        let prompts = [
            ("--adapter-len", self.adapter_len.is_some()),
            ("--gate", self.gate.is_some()),
            ("--tanh", self.tanh),
            ("--gate-factor", self.gate_factor),
            ("--prompt-init-std", self.prompt_init_std.is_some()),
            ("--prompt-init-text", self.prompt_init_text.is_some()),
            ("--gate-init-std", self.gate_init_std.is_some()),
        ];
        let v2 = [("--v2-variant", self.v2_variant.is_some())];
        let lora = [
            ("--lora-rank", self.lora_rank.is_some()),
            ("--lora-alpha", self.lora_alpha.is_some()),
            ("--lora-target-modules", !self.lora_target_modules.is_empty()),
        ];
        let layers = [
            ("--adapter-layers", self.adapter_layers.is_some()),
            ("--layers", !self.layers.is_empty()),
        ];
        self.require_method(&prompts, &[Prompts, PromptsAndV2])?;
        self.require_method(&v2, &[V2, PromptsAndV2])?;
        self.require_method(&lora, &[Lora])?;
        self.require_method(&layers, &[Prompts, PromptsAndV2, Lora])
    }

    /// Refuses given options unless the method is one of `methods`. `options` are names and whether
    /// they are given.
    fn require_method(
        &self,
        options: &[(&str, bool)],
        methods: &[MethodChoice],
    ) -> Result<(), Error> {
        let given = options.iter().find(|(_, given)| *given);
        let Some((option, _)) = given.filter(|_| !methods.contains(&self.method)) else {
            return Ok(());
        };
        let name = |method: &MethodChoice| {
            method.to_possible_value().map_or(String::new(), |value| value.get_name().into())
        };
        let names = methods.iter().map(name).collect::<Vec<_>>().join(", ");
        Err(Error::usage_with_hint(
            format!("{option} cannot be used with --method {}", name(&self.method)),
            format!("{option} requires --method {names}"),
        ))
    }
}
