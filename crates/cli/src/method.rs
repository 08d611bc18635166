//! `train`'s options for what learns ─► [`Method`]

use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdaptionPromptConfig, Gate, GateActivation, LoraConfig, V2Config,
};
use clap::ValueEnum;
use llama::LinearName;
use train::FineTuningMethod;

use crate::error::Error;

/// What learns. Each option belongs to some of the methods.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Adapter")]
pub struct MethodArgs {
    /// What learns: gated prompts; Adapter V2's scales, biases and norms; both; or, to compare
    /// with, LoRA or the whole model.
    #[arg(long, value_enum, default_value_t)]
    pub method: MethodChoice,
    /// Prompt tokens of an adapted layer [default: 10].
    #[arg(long, value_name = "K")]
    adapter_len: Option<usize>,
    /// Layers to adapt, counted from the last [default: all but the first two; of the
    /// built-in model all but the first; with lora: all].
    #[arg(long, value_name = "L", conflicts_with = "layers")]
    adapter_layers: Option<usize>,
    /// The layers to adapt, counted from 0 and separated by commas, such as 2,5,6.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    layers: Vec<usize>,
    /// One gate a layer, which PEFT can load, or one a head, as in the paper [default: scalar].
    #[arg(long, value_enum)]
    gate: Option<GateChoice>,
    /// Pass the gates through tanh, as the original release does; PEFT cannot load that.
    #[arg(long)]
    tanh: bool,
    /// Learn one more number a layer, which multiplies its gates; PEFT cannot load that.
    #[arg(long)]
    gate_factor: bool,
    /// Deviation of the numbers that prompts start from [default: 1].
    #[arg(long, value_name = "X", conflicts_with = "prompt_text")]
    prompt_std: Option<f64>,
    /// Start every layer's prompt from the embeddings of this text.
    #[arg(long, value_name = "TEXT")]
    pub prompt_init_text: Option<String>,
    /// Deviation of the numbers that gates start from; with any but 0 a fresh adapter disturbs the
    /// model: for experiments [default: 0].
    #[arg(long, value_name = "X")]
    gate_std: Option<f64>,
    /// Form of Adapter V2: as in the paper; with the output head, as in lit-llama and litgpt; scale
    /// on the input, as in the original 65B model; biases alone, as in the original 7B model
    /// [default: paper].
    #[arg(long, value_enum)]
    v2_form: Option<V2Form>,
    /// Inner width of LoRA's products [default: 8].
    #[arg(long, value_name = "R")]
    lora_rank: Option<usize>,
    /// LoRA's products are multiplied by this and divided by their inner width [default: the inner
    /// width].
    #[arg(long, value_name = "X")]
    lora_alpha: Option<f64>,
    /// Linear layers with LoRA, separated by commas [default: query,value].
    #[arg(long, value_enum, value_name = "NAMES", value_delimiter = ',')]
    lora_linears: Vec<LinearChoice>,
}

/// The choices of `--method`.
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

/// The choices of `--gate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GateChoice {
    Scalar,
    Head,
}

/// The choices of `--v2-form`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum V2Form {
    Paper,
    Lit,
    InputScale,
    Bias,
}

/// The choices of `--lora-linears`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LinearChoice {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl MethodArgs {
    /// The method with what was asked for in place of the recipe's prompts.
    pub fn method(&self, recipe: AdaptionPromptConfig) -> FineTuningMethod {
        let adapter = match self.method {
            MethodChoice::Full => return FineTuningMethod::Full,
            MethodChoice::Prompts => self.prompts(recipe).into(),
            MethodChoice::V2 => self.v2().into(),
            MethodChoice::PromptsAndV2 => {
                AdapterConfig { v2: Some(self.v2()), ..self.prompts(recipe).into() }
            }
            MethodChoice::Lora => self.lora().into(),
        };
        FineTuningMethod::Adapter(adapter)
    }

    fn chosen_layers(&self) -> Option<AdaptedLayers> {
        match &self.layers[..] {
            [] => self.adapter_layers.map(AdaptedLayers::Last),
            layers => Some(AdaptedLayers::Chosen(layers.to_vec())),
        }
    }

    fn prompts(&self, recipe: AdaptionPromptConfig) -> AdaptionPromptConfig {
        let mut config = recipe;
        config.adapter_len = self.adapter_len.unwrap_or(config.adapter_len);
        config.layers = self.chosen_layers().unwrap_or(config.layers);
        config.gate = match self.gate {
            None | Some(GateChoice::Scalar) => Gate::Scalar,
            Some(GateChoice::Head) => Gate::PerHead,
        };
        if self.tanh {
            config.activation = GateActivation::Tanh;
        }
        config.factor = self.gate_factor;
        config.init.prompt_std = self.prompt_std.unwrap_or(config.init.prompt_std);
        config.init.gate_std = self.gate_std.unwrap_or(config.init.gate_std);
        config
    }

    fn v2(&self) -> V2Config {
        match self.v2_form {
            None | Some(V2Form::Paper) => V2Config::paper(),
            Some(V2Form::Lit) => V2Config::lit(),
            Some(V2Form::InputScale) => V2Config::input_scale(),
            Some(V2Form::Bias) => V2Config::bias_only(),
        }
    }

    fn lora(&self) -> LoraConfig {
        let linears = self.lora_linears.iter().map(|linear| match linear {
            LinearChoice::Query => LinearName::Query,
            LinearChoice::Key => LinearName::Key,
            LinearChoice::Value => LinearName::Value,
            LinearChoice::Output => LinearName::Output,
            LinearChoice::Gate => LinearName::Gate,
            LinearChoice::Up => LinearName::Up,
            LinearChoice::Down => LinearName::Down,
        });
        let defaults = LoraConfig::default();
        let rank = self.lora_rank.unwrap_or(defaults.rank);
        let linears = linears.collect::<Vec<_>>();
        LoraConfig {
            rank,
            alpha: self.lora_alpha.unwrap_or(rank as f64),
            linears: if linears.is_empty() { defaults.linears } else { linears },
            layers: self.chosen_layers(),
        }
    }

    /// Refuses options that the method has no use for.
    pub fn check(&self) -> Result<(), Error> {
        use MethodChoice::{Lora, Prompts, PromptsAndV2, V2};
        let prompts = [
            ("--adapter-len", self.adapter_len.is_some()),
            ("--gate", self.gate.is_some()),
            ("--tanh", self.tanh),
            ("--gate-factor", self.gate_factor),
            ("--prompt-std", self.prompt_std.is_some()),
            ("--prompt-text", self.prompt_init_text.is_some()),
            ("--gate-std", self.gate_std.is_some()),
        ];
        let v2 = [("--v2-form", self.v2_form.is_some())];
        let lora = [
            ("--lora-rank", self.lora_rank.is_some()),
            ("--lora-alpha", self.lora_alpha.is_some()),
            ("--lora-linears", !self.lora_linears.is_empty()),
        ];
        let layers = [
            ("--adapter-layers", self.adapter_layers.is_some()),
            ("--layers", !self.layers.is_empty()),
        ];
        self.only_with(&prompts, &[Prompts, PromptsAndV2])?;
        self.only_with(&v2, &[V2, PromptsAndV2])?;
        self.only_with(&lora, &[Lora])?;
        self.only_with(&layers, &[Prompts, PromptsAndV2, Lora])
    }

    /// Refuses options, each with whether it was given, under other methods than these.
    fn only_with(&self, options: &[(&str, bool)], methods: &[MethodChoice]) -> Result<(), Error> {
        let given = options.iter().find(|(_, given)| *given);
        let Some((option, _)) = given.filter(|_| !methods.contains(&self.method)) else {
            return Ok(());
        };
        let name = |method: &MethodChoice| {
            method.to_possible_value().map_or(String::new(), |own| own.get_name().into())
        };
        let known = methods.iter().map(name).collect::<Vec<_>>().join(", ");
        Err(Error::Usage {
            message: format!("--method {} has no use for {option}", name(&self.method)),
            hint: Some(format!("{option} belongs to the methods {known}")),
        })
    }
}
