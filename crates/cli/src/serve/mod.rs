//! `llama-adapter serve`: a model and its adapters over HTTP

mod access;
mod logging;
mod shutdown;

use std::net::SocketAddr;
use std::time::Duration;

use ::serve::http::{ApiKeys, Server, ServerOptions};
use ::serve::openai::{RequestLimits, Service};
use clap::ValueEnum;
use tokio::net::TcpListener;

use crate::engine_args::{EngineArgs, RequestSettings, StartedEngine, describe_cache};
use crate::error::Error;
use crate::failure::Result;
use crate::memory_size::parse_size;
use crate::output::note;

use access::AccessArgs;
use shutdown::Shutdown;

/// Serve a model and its adapters over HTTP, as OpenAI's API and as a chat page.
///
/// Requests of all adapters run in one batch. Without options it serves the built-in model and its
/// adapter on http://127.0.0.1:8080. Paths: /v1/chat/completions, /v1/completions, /v1/models; / is the
/// chat page; /health/live, /health/ready, /metrics; /admin/adapters for administrators. SIGTERM and
/// Ctrl-C let running requests end; a second one ends the program at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessArgs,

    /// Requests that wait beyond --max-rows; more are refused (429).
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Limits")]
    max_queue: usize,
    /// Connections at the same time.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = at_least_one, help_heading = "Limits")]
    max_connections: usize,
    /// Size of a request's body.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "10MiB", help_heading = "Limits")]
    max_body: u64,
    /// Text of a request's messages or prompts.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "4MiB", help_heading = "Limits")]
    max_prompt: u64,
    /// Seconds from a request's arrival to the end of its answer [default: unlimited].
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    request_seconds: Option<u64>,
    /// Seconds for running requests to end after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "S", default_value_t = 30, help_heading = "Limits")]
    drain_seconds: u64,

    /// Form of the log on stderr. LLAMA_ADAPTER_LOG selects events, such as `debug` or
    /// `serve::http=debug`.
    #[arg(long, value_enum, default_value_t, help_heading = "Log")]
    log: LogFormat,
    /// Log the texts of prompts.
    #[arg(long, help_heading = "Log")]
    log_prompts: bool,

    #[command(flatten)]
    engine: EngineArgs,
}

/// The values of `--log`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// An object of JSON a line.
    Json,
}

pub fn run(args: &Args) -> Result {
    let options = args.server_options()?;
    let keys = options.keys.clone();
    let address = args.access.address(&options)?;
    logging::install(args.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Each thread that has converted a large request keeps some of its memory.
        .max_blocking_threads(4)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(Error::system("cannot start the server's threads"))?;
    // The port first: loading a model for a port that is taken would be in vain.
    let listener = runtime.block_on(TcpListener::bind(address));
    let cannot_listen = |source| Error::Listen { address, source };
    let listener = listener.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let shutdown = Shutdown::install(&runtime)?;
    let server = Server::new(options);
    let serving = runtime.spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    args.tell(&format!("listening on http://{address}, loading {}", args.engine.model_label()));
    let settings = RequestSettings {
        max_queue: Some(args.max_queue),
        request_time: args.request_seconds.map(Duration::from_secs),
        limits: RequestLimits {
            prompt_bytes: to_usize(args.max_prompt),
            ..RequestLimits::default()
        },
        log_prompts: args.log_prompts,
    };
    let StartedEngine { engine, service } = args.engine.start_with(settings, server.observer())?;
    server.set_service(service.clone());
    args.tell_ready(address, &keys, &service);
    shutdown.wait(&runtime);
    args.tell("stopping: running requests end first; once more to stop at once");
    let report = server.shut_down(&engine, Duration::from_secs(args.drain_seconds));
    // A panic of the server's task has been reported.
    let _ = runtime.block_on(serving);
    if report.aborted > 0 {
        let seconds = args.drain_seconds;
        args.tell(&format!("{} requests did not end within {seconds} s", report.aborted));
    }
    Ok(())
}

impl Args {
    fn server_options(&self) -> Result<ServerOptions> {
        Ok(ServerOptions {
            keys: self.access.keys()?,
            max_connections: self.max_connections,
            max_body: to_usize(self.max_body),
            max_bodies: to_usize(self.max_body).max(ServerOptions::default().max_bodies),
            cors_origins: self.access.cors_origin.clone(),
            adapter_roots: self.access.adapter_root.clone(),
            page: !self.access.no_page,
            ..ServerOptions::default()
        })
    }

    /// Writes a line for people, or an event of the log.
    fn tell(&self, text: &str) {
        match self.log {
            LogFormat::Text => note(text),
            LogFormat::Json => tracing::info!("{text}"),
        }
    }

    /// What a user needs to know first.
    fn tell_ready(&self, address: SocketAddr, keys: &ApiKeys, service: &Service) {
        let url = format!("http://{address}");
        let engine = service.engine();
        let name = &engine.model().name;
        let adapters =
            engine.adapters().into_iter().map(|adapter| format!("{name}:{}", adapter.name));
        let models = [name.clone()].into_iter().chain(adapters).collect::<Vec<_>>();
        let cache = describe_cache(service);
        let rows = self.engine.max_rows();
        if self.log == LogFormat::Json {
            return tracing::info!(url, models = models.join(" "), cache, rows, "ready");
        }
        note(&format!("models   {}", shown(&models)));
        note(&format!("cache    {cache}; up to {rows} answers at a time"));
        note(&format!("access   {}", AccessArgs::describe(address, keys)));
        if !self.access.no_page {
            note(&format!("page     {url}/"));
        }
        let header = if keys.is_empty() { "" } else { " -H 'Authorization: Bearer KEY'" };
        let last = models.last().unwrap_or(name);
        let question = &self.engine.examples()[0];
        note(&format!(
            "try      curl {url}/v1/chat/completions -H 'Content-Type: application/json'{header} -d \
             '{{\"model\": \"{last}\", \"messages\": [{{\"role\": \"user\", \"content\": \"{question}\"}}]}}'"
        ));
        note("ready");
    }
}

/// The first models of a list, and how many more there are.
fn shown(models: &[String]) -> String {
    const MOST: usize = 8;
    let first = models.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    match models.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number of at least 1".into()),
        Ok(number) => Ok(number),
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
