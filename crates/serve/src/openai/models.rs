//! Model ids: `NAME` is the base model, `NAME:ADAPTER` is the base model with an adapter

use serde_json::{Value, json};
use text::PromptTemplate;

use super::error::ApiError;
use super::parameters::Parameters;
use super::service::Service;
use crate::engine::{AdapterChoice, AdapterInfo};

/// Stands for the model's name.
const BASE: &str = "base";

/// The model of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelChoice {
    /// The id in responses.
    pub id: String,
    pub adapter: AdapterChoice,
}

impl Service {
    /// The model and the adapters that a request asks for.
    ///
    /// # Errors
    /// 404 for an unknown model, 400 for a wrong mix.
    pub(crate) fn choose_model(&self, parameters: &Parameters) -> Result<ModelChoice, ApiError> {
        let Some(id) = &parameters.model else {
            let message = "model is missing: GET /v1/models lists the models";
            return Err(ApiError { message: message.into(), ..ApiError::model_not_found("") });
        };
        let choice = self.find_model(id)?;
        let Some(parts) = &parameters.adapters else { return Ok(choice) };
        let wrong = |message: String| Err(ApiError::invalid_param("adapters", message));
        if choice.adapter != AdapterChoice::Base {
            return wrong(format!("adapters is only for the model `{}` itself", self.model_name()));
        }
        let mut mix = Vec::new();
        for part in &parts.0 {
            if !self.has_adapter(&part.name) {
                return wrong(format!("adapters: no adapter is called `{}`", part.name));
            }
            mix.push((part.name.clone(), part.weight));
        }
        if mix.is_empty() {
            return Ok(choice);
        }
        Ok(ModelChoice { adapter: AdapterChoice::Mix(mix), ..choice })
    }

    /// The model of an id.
    fn find_model(&self, id: &str) -> Result<ModelChoice, ApiError> {
        let suffix = |name: &str| {
            let rest = id.strip_prefix(name)?;
            if rest.is_empty() { Some(None) } else { rest.strip_prefix(':').map(Some) }
        };
        let adapter = match suffix(self.model_name()).or_else(|| suffix(BASE)) {
            Some(None) => AdapterChoice::Base,
            Some(Some(name)) if self.has_adapter(name) => AdapterChoice::Named(name.into()),
            _ => return Err(ApiError::model_not_found(id)),
        };
        Ok(ModelChoice { id: id.into(), adapter })
    }

    fn model_name(&self) -> &str {
        &self.engine().model().name
    }

    fn has_adapter(&self, name: &str) -> bool {
        self.engine().adapters().iter().any(|adapter| adapter.name == name)
    }

    /// The response to `GET /v1/models`.
    pub fn models(&self) -> Value {
        let adapters = self.engine().adapters();
        let all = [None].into_iter().chain(adapters.iter().map(Some));
        let models = all.map(|adapter| self.model_json(adapter));
        json!({ "object": "list", "data": models.collect::<Value>() })
    }

    /// The response to `GET /v1/models/{id}`.
    ///
    /// # Errors
    /// 404 for an unknown model.
    pub fn model(&self, id: &str) -> Result<Value, ApiError> {
        match self.find_model(id)?.adapter {
            AdapterChoice::Named(name) => {
                let adapters = self.engine().adapters();
                let adapter = adapters.iter().find(|adapter| adapter.name == name);
                // It may have been removed just now.
                adapter.map_or(Err(ApiError::model_not_found(id)), |adapter| {
                    Ok(self.model_json(Some(adapter)))
                })
            }
            _ => Ok(self.model_json(None)),
        }
    }

    fn model_json(&self, adapter: Option<&AdapterInfo>) -> Value {
        let model = self.engine().model();
        let id = match adapter {
            None => model.name.clone(),
            Some(adapter) => format!("{}:{}", model.name, adapter.name),
        };
        let sees_images = match adapter {
            Some(adapter) if model.has_image_encoders => adapter.sees_images,
            _ => Some(false),
        };
        json!({
            "id": id,
            "object": "model",
            "created": self.created(),
            "owned_by": "llama-adapter",
            "parent": adapter.map(|_| &model.name),
            "context": model.context,
            "prompt_template": self.prompt_template(adapter.map(|adapter| adapter.name.as_str())),
            "sees_images": sees_images,
            "examples": self.options().examples,
        })
    }

    /// The prompt template of the base model or of an adapter.
    pub(crate) fn prompt_template(&self, adapter: Option<&str>) -> PromptTemplate {
        let default =
            || PromptTemplate::default_for(adapter.is_some(), &self.engine().model().tokenizer);
        self.options().prompt_templates.of(adapter).unwrap_or_else(default)
    }
}
