//! Events of the libraries ─► lines on stderr

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use super::LogFormat;
use crate::error::Error;
use crate::failure::Result;

/// Environment variable that selects events.
const VARIABLE: &str = "LLAMA_ADAPTER_LOG";

/// Events that are logged by default.
const DEFAULT: &str = "warn,serve=info,llama_adapter=info";

/// Writes the events of the whole process to stderr.
pub fn install(format: LogFormat) -> Result {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| {
            Error::usage_with_hint(
                format!("{VARIABLE} is `{}`: {error}", text.escape_debug()),
                "use a level (error, warn, info, debug, trace) or MODULE=LEVEL, comma-separated",
            )
        })?,
        _ => EnvFilter::new(DEFAULT),
    };
    let subscriber = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => subscriber.with_target(false).with_ansi(false).try_init(),
        // A request is the only span: once a line is enough.
        LogFormat::Json => subscriber.json().flatten_event(true).with_span_list(false).try_init(),
    };
    Ok(installed.map_err(Error::system("the log is already written elsewhere"))?)
}
