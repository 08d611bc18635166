//! [`Encoder`] ─► a folder in Hugging Face's DINOv2 format

use std::path::Path;

use burn::tensor::{DType, TensorData};
use checkpoint::settings::Fields;
use llama::read_back;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::config::{Activation, EncoderConfig, EncoderFamily};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::preprocess::Preprocessing;
use crate::tensor_names::{CheckpointLayout, TensorNames};
use crate::tensors::{Parameter, encoder_tensors};

impl Encoder {
    /// Writes a folder that [`EncoderSource::open`](crate::EncoderSource::open) reads: weights in f32
    /// or f16, `config.json` and `preprocessor_config.json`. The image size of the config is
    /// [`image_size`](Self::image_size).
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for other families than DINOv2, other precisions, and
    /// sizes without a representation in `config.json`; [`Error::Files`](crate::Error::Files).
    pub fn save(
        &self,
        folder: &Path,
        preprocessing: &Preprocessing,
        precision: DType,
    ) -> Result<()> {
        let invalid = |field: &str, found: String, expected: &str| {
            Fields::new(folder, &Value::Null).unsupported(field, found, expected)
        };
        let dtype = match precision {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            other => return Err(invalid("precision", format!("{other:?}"), "F32 or F16").into()),
        };
        if self.config.family != EncoderFamily::Dinov2 {
            let found = format!("{:?}", self.config.family);
            return Err(invalid("family of the encoder to save", found, "Dinov2").into());
        }
        let config = EncoderConfig { image_size: self.image_size, ..self.config.clone() };
        let config_text = to_pretty_json(&config_json(&config, precision));
        if EncoderConfig::parse(folder, &config_text)? != config {
            let expected = "a size with a representation in config.json";
            return Err(invalid("d_ff", config.d_ff.to_string(), expected).into());
        }
        std::fs::create_dir_all(folder)
            .map_err(|source| checkpoint::Error::Write { path: folder.into(), source })?;

        let tensors = self.tensors(&config, precision)?;
        let views = tensors.iter().map(|(name, shape, data)| {
            let view = TensorView::new(dtype, shape.clone(), data.as_bytes())
                .expect("the shape has as many elements as the data");
            (name.as_str(), view)
        });
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let weights = safetensors::serialize(views, Some(metadata)).expect("names are distinct");
        let preprocessing = to_pretty_json(&preprocessing_json(preprocessing));
        for (name, bytes) in [
            ("model.safetensors", &weights[..]),
            ("preprocessor_config.json", preprocessing.as_bytes()),
            ("config.json", config_text.as_bytes()),
        ] {
            checkpoint::files::write(&folder.join(name), bytes)?;
        }
        Ok(())
    }

    /// Name, shape and values of every tensor.
    fn tensors(
        &self,
        config: &EncoderConfig,
        precision: DType,
    ) -> Result<Vec<(String, Vec<usize>, TensorData)>> {
        let names = TensorNames::new(CheckpointLayout::Dinov2, "");
        // Copies the handles of the tensors, not their values.
        let mut encoder = self.clone();
        let tensors = encoder_tensors(&names, config).into_iter().map(|tensor| {
            let data = match tensor.parameter(&mut encoder) {
                Parameter::Matrix(weight) => read_back(weight.to_dense()),
                Parameter::Vector(vector) => read_back(vector.val()),
                Parameter::Embedding(embedding) => read_back(embedding.val()),
            };
            Ok((tensor.spec.name, tensor.spec.shape, data?.convert_dtype(precision)))
        });
        tensors.collect()
    }
}

fn to_pretty_json(json: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(json).expect("JSON without special values"))
}

fn config_json(config: &EncoderConfig, precision: DType) -> Value {
    let is_gated = config.activation == Activation::SwiGlu;
    // The ratio is that of the MLP without a gate, which is wider by half.
    let ungated_d_ff = if is_gated { config.d_ff * 3 / 2 } else { config.d_ff };
    let activation = if config.activation == Activation::QuickGelu { "quick_gelu" } else { "gelu" };
    json!({
        "architectures": ["Dinov2Model"],
        "hidden_act": activation,
        "hidden_size": config.d_model,
        "image_size": config.image_size,
        "layer_norm_eps": config.norm_eps,
        "mlp_ratio": ungated_d_ff as f64 / config.d_model as f64,
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
    // The shortest decimal of an f32: 0.485, not 0.48500001430511475.
    let exact_f64 = |x: f32| x.to_string().parse::<f64>().expect("a number");
    json!({
        "crop_size": {"height": image_size, "width": image_size},
        "do_center_crop": true,
        "do_convert_rgb": true,
        "do_normalize": true,
        "do_rescale": true,
        "do_resize": true,
        "image_mean": mean.map(exact_f64),
        "image_processor_type": "BitImageProcessor",
        "image_std": std.map(exact_f64),
        "resample": 3,
        "rescale_factor": 1.0 / 255.0,
        "size": {"shortest_edge": shortest_edge},
    })
}
