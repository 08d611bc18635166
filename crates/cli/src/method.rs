//! `train`'s options for what learns ─► [`Method`]

use adaption_prompt::{
    Activation, AdapterConfig, AdaptionPromptConfig, Gate, Layers, LoraConfig, V2Config,
};
use clap::ValueEnum;
use llama::LinearName;
use train::Method;

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
    /// One gate a layer, which PEFT can load, or one a head, as in the paper.
    #[arg(long, value_enum, default_value_t)]
    gate: GateChoice,
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
    pub prompt_text: Option<String>,
    /// Deviation of the numbers that gates start from; with any but 0 a fresh adapter disturbs the
    /// model: for experiments [default: 0].
    #[arg(long, value_name = "X")]
    gate_std: Option<f64>,
    /// Form of Adapter V2: as in the paper; with the output head, as in lit-llama and litgpt; scale
    /// on the input, as in the original 65B model; biases alone, as in the original 7B model.
    #[arg(long, value_enum, default_value_t)]
    v2_form: V2Form,
    /// Inner width of LoRA's products.
    #[arg(long, value_name = "R", default_value_t = 8)]
    lora_rank: usize,
    /// LoRA's products are multiplied by this and divided by their inner width [default: the inner
    /// width].
    #[arg(long, value_name = "X")]
    lora_alpha: Option<f64>,
    /// Linear layers with LoRA, separated by commas.
    #[arg(long, value_enum, value_name = "NAMES", value_delimiter = ',', default_values_t = [LinearChoice::Query, LinearChoice::Value])]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum GateChoice {
    #[default]
    Scalar,
    Head,
}

/// The choices of `--v2-form`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum V2Form {
    #[default]
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
    pub fn method(&self, recipe: AdaptionPromptConfig) -> Method {
        let adapter = match self.method {
            MethodChoice::Full => return Method::Full,
            MethodChoice::Prompts => self.prompts(recipe).into(),
            MethodChoice::V2 => self.v2().into(),
            MethodChoice::PromptsAndV2 => {
                AdapterConfig { v2: Some(self.v2()), ..self.prompts(recipe).into() }
            }
            MethodChoice::Lora => self.lora().into(),
        };
        Method::Adapter(adapter)
    }

    fn chosen_layers(&self) -> Option<Layers> {
        match &self.layers[..] {
            [] => self.adapter_layers.map(Layers::Last),
            layers => Some(Layers::Chosen(layers.to_vec())),
        }
    }

    fn prompts(&self, recipe: AdaptionPromptConfig) -> AdaptionPromptConfig {
        let mut config = recipe;
        config.adapter_len = self.adapter_len.unwrap_or(config.adapter_len);
        config.layers = self.chosen_layers().unwrap_or(config.layers);
        config.gate = match self.gate {
            GateChoice::Scalar => Gate::Scalar,
            GateChoice::Head => Gate::PerHead,
        };
        if self.tanh {
            config.activation = Activation::Tanh;
        }
        config.factor = self.gate_factor;
        config.init.prompt_std = self.prompt_std.unwrap_or(config.init.prompt_std);
        config.init.gate_std = self.gate_std.unwrap_or(config.init.gate_std);
        config
    }

    fn v2(&self) -> V2Config {
        match self.v2_form {
            V2Form::Paper => V2Config::paper(),
            V2Form::Lit => V2Config::lit(),
            V2Form::InputScale => V2Config::input_scale(),
            V2Form::Bias => V2Config::bias_only(),
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
        LoraConfig {
            rank: self.lora_rank,
            alpha: self.lora_alpha.unwrap_or(self.lora_rank as f64),
            linears: linears.collect(),
            layers: self.chosen_layers(),
        }
    }
}
