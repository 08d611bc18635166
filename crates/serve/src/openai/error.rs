//! Errors as OpenAI's API reports them: `{"error": {"message", "type", "param", "code"}}` and a status.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{LoadError, RequestError, SubmitError};

/// The longest message in bytes: a message may quote a value of the request.
const MAX_MESSAGE_BYTES: usize = 500;

/// An error of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The class of the error, such as `invalid_request_error`.
    pub kind: &'static str,
    /// What is wrong, what was found, and what is expected.
    pub message: String,
    /// The field of the request that is wrong.
    pub param: Option<String>,
    /// The error for programs, such as `context_length_exceeded`.
    pub code: Option<&'static str>,
    /// When another try makes sense.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        let message = shortened(message.into());
        Self { status, kind, message, param: None, code: None, retry_after: None }
    }

    /// 400: the request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// 400: a field of the request is wrong.
    pub fn invalid_param(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::invalid(message) }
    }

    /// 400: a feature that OpenAI's API has and this server lacks.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: Some("unsupported_parameter"), ..Self::invalid_param(param, message) }
    }

    /// 401: no key, or an unknown one.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self { code: Some("invalid_api_key"), ..Self::new(401, "authentication_error", message) }
    }

    /// 403: the key does not allow this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "permission_error", message)
    }

    /// 404: no model of this name.
    pub fn model_not_found(name: &str) -> Self {
        let message = format!(
            "the model `{}` does not exist: GET /v1/models lists the models",
            shortened(name.into())
        );
        Self {
            code: Some("model_not_found"),
            param: Some("model".into()),
            ..Self::new(404, "invalid_request_error", message)
        }
    }

    /// An error of the HTTP layer that is the client's fault: 404, 405, 408, 413, 415.
    pub fn http(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { code: Some(code), ..Self::new(status, "invalid_request_error", message) }
    }

    /// 429: too many requests.
    pub fn busy(code: &'static str, message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            code: Some(code),
            retry_after: Some(retry_after),
            ..Self::new(429, "rate_limit_error", message)
        }
    }

    /// 500: the server failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { code: Some("internal_error"), ..Self::new(500, "server_error", message) }
    }

    /// 503: the server does not answer at the moment.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(503, "server_error", message)
        }
    }

    /// The body of the response.
    pub fn to_json(&self) -> Value {
        let Self { message, kind, param, code, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::QueueFull { retry_after } => {
                Self::busy("queue_full", format!("{message}: try again later"), retry_after)
            }
            SubmitError::Draining => Self::unavailable("shutting_down", message),
            SubmitError::TooLong { .. } | SubmitError::LargerThanCache { .. } => {
                Self { code: Some("context_length_exceeded"), ..Self::invalid(message) }
            }
            SubmitError::UnknownAdapter(name) => Self::model_not_found(&name),
            SubmitError::NotMultimodal(_) => Self::invalid_param("messages", message),
            SubmitError::Request { field, .. } => Self::invalid_param(field, message),
            SubmitError::Invalid(_) => Self::invalid(message),
            SubmitError::Stopped => Self::unavailable("engine_stopped", message),
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        match error {
            RequestError::Adapter { name, source } if matches!(*source, LoadError::Unknown(_)) => {
                Self::model_not_found(&name)
            }
            RequestError::Adapter { .. } => {
                Self { code: Some("adapter_unavailable"), ..Self::internal(message) }
            }
            RequestError::NotMultimodal(_) => Self::invalid_param("messages", message),
            RequestError::TimedOut { .. } => Self::http(408, "request_timeout", message),
            RequestError::Aborted => Self::unavailable("shutting_down", message),
            RequestError::Model(_) | RequestError::Internal { .. } => Self::internal(message),
        }
    }
}

/// The text, or its beginning.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        text.truncate(text.floor_char_boundary(MAX_MESSAGE_BYTES));
        text += "...";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_openais_four_keys() {
        let error = ApiError::invalid_param("n", "n is 0, expected 1 to 16");
        let expected = json!({"error": {
            "message": "n is 0, expected 1 to 16", "type": "invalid_request_error",
            "param": "n", "code": null,
        }});
        assert_eq!(error.to_json(), expected);
    }

    #[test]
    fn a_quoted_value_does_not_make_a_long_message() {
        let error = ApiError::model_not_found(&"ä".repeat(1 << 20));
        assert!(error.message.len() < 2 * MAX_MESSAGE_BYTES, "{}", error.message.len());
    }
}
