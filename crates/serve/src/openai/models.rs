//! Model ids: `NAME` is the base model, `NAME:ADAPTER` is the base model with an adapter

use serde_json::{Value, json};
use text::{PromptFormat, PromptTemplate};

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
            "prompt_template": self.prompt_template_name(adapter),
            "sees_images": sees_images,
            "examples": self.options().examples,
        })
    }

    /// The name of the prompt template of the base model or of an adapter; null if the adapter's files
    /// cannot be read.
    fn prompt_template_name(&self, adapter: Option<&AdapterInfo>) -> Option<String> {
        let choice = adapter
            .map_or(AdapterChoice::Base, |adapter| AdapterChoice::Named(adapter.name.clone()));
        self.prompt_format(&choice).ok().map(|format| format.template.to_string())
    }

    /// The prompt format of the base model or of adapters: what was set for it, else what the files of the
    /// adapter say, else the default. A mix has that of the first adapter that says something.
    ///
    /// # Errors
    /// If the files of an adapter cannot be read.
    pub(crate) fn prompt_format(&self, adapter: &AdapterChoice) -> Result<PromptFormat, ApiError> {
        // A mix has no name of its own: it is as any adapter that is not listed.
        let (name, adapters) = match adapter {
            AdapterChoice::Base => (None, Vec::new()),
            AdapterChoice::Named(name) => (Some(name.as_str()), vec![name]),
            AdapterChoice::Mix(parts) => (Some(""), parts.iter().map(|(name, _)| name).collect()),
        };
        let mut format = None;
        for adapter in adapters {
            let own = self.engine().prompt_format(adapter);
            let own = own.map_err(|error| ApiError {
                code: Some("adapter_unavailable"),
                ..ApiError::internal(error.to_string())
            })?;
            format = format.or(own);
        }
        let default =
            || PromptTemplate::default_for(name.is_some(), &self.engine().model().tokenizer).into();
        let mut format = format.unwrap_or_else(default);
        if let Some(template) = self.options().prompt_templates.of(name) {
            format.template = template;
        }
        Ok(format)
    }
}
