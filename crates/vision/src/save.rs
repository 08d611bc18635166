//! [`Encoder`] ─► a folder as Hugging Face has a DINOv2.

use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use llama::model::{Linear, Norm};
use llama::read_back;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::block::Block;
use crate::config::{Activation, EncoderConfig, EncoderFamily};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::names::{Layout, Names};
use crate::preprocess::Preprocessing;

impl Encoder {
    /// Writes it into a folder that [`EncoderSource::open`](crate::EncoderSource::open) opens, in f32
    /// or f16, with the way that its pictures are prepared. Its own size of pictures is that of the
    /// places in the files.
    ///
    /// # Errors
    /// [`Error::Config`] for another family than DINOv2, another precision, and sizes that its
    /// `config.json` cannot say; [`Error::Files`].
    pub fn save(
        &self,
        folder: &Path,
        preprocessing: &Preprocessing,
        precision: DType,
    ) -> Result<()> {
        let wrong = |field: &str, found: String, expected: &str| Error::Config {
            path: folder.into(),
            field: field.into(),
            found,
            expected: expected.into(),
        };
        let dtype = match precision {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            other => return Err(wrong("precision", format!("{other:?}"), "F32 or F16")),
        };
        if self.config.family != EncoderFamily::Dinov2 {
            let found = format!("{:?}", self.config.family);
            return Err(wrong("family of the encoder to save", found, "Dinov2"));
        }
        let config = EncoderConfig { image_size: self.image_size, ..self.config.clone() };
        let config_text = pretty(&config_json(&config, precision));
        if EncoderConfig::parse(folder, &config_text)? != config {
            return Err(wrong("d_ff", config.d_ff.to_string(), "a size that config.json can say"));
        }
        std::fs::create_dir_all(folder)
            .map_err(|source| checkpoint::Error::Write { path: folder.into(), source })?;

        let tensors = Saving::new(precision).encoder(self)?;
        let views = tensors.iter().map(|(name, data)| {
            let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
                .expect("shape and bytes belong together");
            (name.as_str(), view)
        });
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let weights = safetensors::serialize(views, Some(metadata)).expect("names differ");
        for (name, bytes) in [
            ("model.safetensors", &weights[..]),
            ("preprocessor_config.json", pretty(&preprocessing_json(preprocessing)).as_bytes()),
            ("config.json", config_text.as_bytes()),
        ] {
            checkpoint::files::write(&folder.join(name), bytes)?;
        }
        Ok(())
    }
}

fn pretty(json: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(json).expect("plain JSON"))
}

fn config_json(config: &EncoderConfig, precision: DType) -> Value {
    let is_gated = config.activation == Activation::SwiGlu;
    // Of a gated feed-forward the files name the width that it would have without the gate.
    let inner = if is_gated { config.d_ff * 3 / 2 } else { config.d_ff };
    let activation = if config.activation == Activation::QuickGelu { "quick_gelu" } else { "gelu" };
    json!({
        "architectures": ["Dinov2Model"],
        "hidden_act": activation,
        "hidden_size": config.d_model,
        "image_size": config.image_size,
        "layer_norm_eps": config.norm_eps,
        "mlp_ratio": inner as f64 / config.d_model as f64,
        "model_type": "dinov2",
        "num_attention_heads": config.n_heads,
        "num_channels": 3,
        "num_hidden_layers": config.n_layers,
        "patch_size": config.patch_size,
        "qkv_bias": true,
        "torch_dtype": if precision == DType::F16 { "float16" } else { "float32" },
        "use_swiglu_ffn": is_gated,
    })
}

fn preprocessing_json(settings: &Preprocessing) -> Value {
    let Preprocessing { shortest_edge, image_size, mean, std } = settings;
    // As short as an f32 is written.
    let numbers = |of: &[f32; 3]| of.map(|x| x.to_string().parse::<f64>().expect("a number"));
    json!({
        "crop_size": {"height": image_size, "width": image_size},
        "do_center_crop": true,
        "do_convert_rgb": true,
        "do_normalize": true,
        "do_rescale": true,
        "do_resize": true,
        "image_mean": numbers(mean),
        "image_processor_type": "BitImageProcessor",
        "image_std": numbers(std),
        "resample": 3,
        "rescale_factor": 1.0 / 255.0,
        "size": {"shortest_edge": shortest_edge},
    })
}

struct Saving {
    names: Names,
    precision: DType,
    tensors: Vec<(String, TensorData)>,
}

impl Saving {
    fn new(precision: DType) -> Self {
        Self { names: Names::new(Layout::Dinov2, ""), precision, tensors: Vec::new() }
    }

    fn tensor<const D: usize>(&mut self, name: String, tensor: Tensor<D>) -> Result<()> {
        let data = read_back(tensor)?.convert_dtype(self.precision);
        self.tensors.push((name, data));
        Ok(())
    }

    fn linear(&mut self, name: &str, linear: &Linear) -> Result<()> {
        self.tensor(format!("{name}.weight"), linear.weight.to_dense())?;
        self.bias(name, linear)
    }

    fn bias(&mut self, name: &str, linear: &Linear) -> Result<()> {
        let bias = linear.bias.as_ref().expect("every product of a DINOv2 has a bias");
        self.tensor(format!("{name}.bias"), bias.val())
    }

    fn norm(&mut self, name: &str, norm: &Norm) -> Result<()> {
        self.tensor(format!("{name}.weight"), norm.weight.val())?;
        let bias = norm.bias.as_ref().expect("layer norms have a bias");
        self.tensor(format!("{name}.bias"), bias.val())
    }

    fn block(&mut self, layer: usize, block: &Block) -> Result<()> {
        let names = self.names.block(layer, block.mlp.activation);
        let [query, key, value] = names.qkv.expect("a DINOv2 has them apart");
        self.norm(&names.attention_norm, &block.attention_norm)?;
        self.linear(&query, &block.attention.query)?;
        self.linear(&key, &block.attention.key)?;
        self.linear(&value, &block.attention.value)?;
        self.linear(&names.output, &block.attention.output)?;
        self.norm(&names.mlp_norm, &block.mlp_norm)?;
        self.linear(&names.up, &block.mlp.up)?;
        self.linear(&names.down, &block.mlp.down)?;
        let scales = [
            (names.attention_layer_scale, &block.attention_layer_scale),
            (names.mlp_layer_scale, &block.mlp_layer_scale),
        ];
        for (name, scale) in scales {
            let name_and_scale = name.zip(scale.as_ref());
            let (name, scale) = name_and_scale.expect("every block of a DINOv2 has scales");
            self.tensor(name, scale.val())?;
        }
        Ok(())
    }

    fn encoder(mut self, encoder: &Encoder) -> Result<Vec<(String, TensorData)>> {
        let EncoderConfig { d_model, patch_size, .. } = encoder.config;
        self.tensor(self.names.class_token(), encoder.class_token.val())?;
        self.tensor(self.names.positions(), encoder.positions.val())?;
        let patches = self.names.patches();
        let weight = encoder.patches.weight.to_dense();
        let weight = weight.reshape([d_model, 3, patch_size, patch_size]);
        self.tensor(format!("{patches}.weight"), weight)?;
        self.bias(&patches, &encoder.patches)?;
        for (layer, block) in encoder.blocks.iter().enumerate() {
            self.block(layer, block)?;
        }
        self.norm(&self.names.final_norm(), &encoder.final_norm)?;
        Ok(self.tensors)
    }
}
