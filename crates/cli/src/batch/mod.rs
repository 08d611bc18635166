//! `llama-adapter batch`: requests in OpenAI's batch format ─► responses

mod input;
mod output;
mod progress;

use std::path::PathBuf;

use serve::openai::{ApiError, BatchRequest, answer_batch};

use crate::engine_args::EngineArgs;
use crate::error::Error;
use crate::failure::Result;
use crate::interrupt::{self, InterruptGuard, StopSignals};
use crate::output::note;

use input::Requests;
use output::Responses;
use progress::BatchProgress;

/// Answer a file of requests in OpenAI's batch format.
///
/// Each line of IN is {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}},
/// or the same with /v1/completions; see `llama-adapter serve` for the bodies. Each response is a line of
/// OUT, written when it is complete: the order differs from that of IN. The same command continues an
/// interrupted batch: requests with a line in OUT are left out. Ctrl-C lets the running requests end; a
/// second one stops at once. The exit code is 1 if a request failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Requests, JSON Lines.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Responses, JSON Lines; created or continued.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Requests that are answered at the same time, at most. More than --max-rows keeps the batch full.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Ask again what failed before.
    #[arg(long)]
    retry_errors: bool,
    /// No progress.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub fn run(args: &Args) -> Result {
    let names = input::names(&args.input)?;
    let mut responses = Responses::open(&args.output, args.retry_errors)?;
    if let Some(custom_id) = responses.answered().iter().find(|name| !names.contains_key(*name)) {
        let (path, input) = (args.output.clone(), args.input.clone());
        return Err(Error::OtherBatch { path, input, custom_id: custom_id.clone() }.into());
    }
    let (total, done) = (names.len(), responses.answered().len());
    if done > 0 && !args.quiet {
        note(&format!("{done} of {total} requests have a response already"));
    }
    if done < total {
        answer(args, &mut responses, total)?;
    }
    match responses.failed() {
        0 => Ok(()),
        failed => {
            let path = args.output.clone();
            Err(Error::RequestsFailed { failed, requests: total, path }.into())
        }
    }
}

/// Answers the requests that have no response; ends the program if Ctrl-C was pressed.
fn answer(args: &Args, responses: &mut Responses, total: usize) -> Result {
    let engine = args.engine.start()?;
    let answered = responses.answered().clone();
    let mut progress = BatchProgress::new(args.quiet, total, answered.len(), responses.failed());
    interrupt::install_handler(StopSignals::CtrlCOrTerminate)?;
    let guard = InterruptGuard::begin();
    let is_open = |request: &Result<BatchRequest, Error>| match request {
        Ok(request) => !answered.contains(request.custom_id()),
        Err(_) => true,
    };
    let requests =
        Requests::open(&args.input)?.filter(is_open).take_while(|_| !guard.interrupted());
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(Error::system("cannot start the runtime"))?;
    let mut done = answered.len();
    runtime.block_on(answer_batch(
        &engine.service,
        requests,
        args.concurrency.into(),
        |response| {
            done += 1;
            responses.append(&response)?;
            progress.show(&response);
            Ok(())
        },
    ))?;
    drop(progress);
    if guard.interrupted() {
        note(&format!("stopped after {done} of {total} requests; the same command continues"));
        interrupt::exit();
    }
    Ok(())
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::BatchStopped { reason: error.message }
    }
}
