//! `llama-adapter chat`: lines ─► answers, with what was said before in mind
//!
//! On a terminal with an editor and a prompt; from a pipe, one line is one turn.

use std::io::{BufRead, IsTerminal, stdin, stdout};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use adaption_prompt::{AdapterSet, AdapterStatus, PreparedAdapter};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::adapters::{AdapterArgs, NO_ADAPTER};
use crate::answer::Answering;
use crate::conversation::Conversation;
use crate::error::Error;
use crate::failure::{Failure, Result};
use crate::images::{EncoderArgs, ImageConditioner};
use crate::interrupt::{self, Writing};
use crate::model::ModelArgs;
use crate::output::{note, print};
use crate::sampling::SamplingArgs;
use crate::wording::Wording;

/// Talk with a model, with or without an adapter.
///
/// Answers appear as they are written. Ctrl-C stops an answer, Ctrl-D ends the chat. From a pipe,
/// each line is one turn; one that cannot be answered is reported on stderr and the next goes on, and
/// the exit code is 1 in the end. Type /help for the commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What stands around each line. Default: alpaca with an adapter; without one, chat if the
    /// model has a chat template, else raw. Only chat remembers earlier turns.
    #[arg(long, value_enum)]
    wording: Option<Wording>,
    /// A system text, for models whose chat template has a place for it.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// An image that the adapter sees, JPEG, PNG or WebP; /image shows it another one.
    #[arg(long, value_name = "FILE", help_heading = "Images")]
    image: Option<PathBuf>,
    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    adapters: AdapterArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    model: ModelArgs,
}

const HELP: &str = "\
/help          show this
/reset         forget what was said
/adapters      show the adapters, the active one with a star
/use NAME      answer with another adapter; `none` for the base model
/image FILE    show the adapter an image; without FILE take it away
/system TEXT   set a system text and start anew; without TEXT take it away
/quit          end, as does Ctrl-D
Ctrl-C         stop the answer";

pub fn run(args: &Args) -> Result {
    args.sampling.sampling()?;
    let base = args.model.load()?;
    let adapters = args.adapters.load(&base)?;
    let tokenizer = base.source.tokenizer()?;
    let fitting = Wording::fitting(args.adapters.any(), &tokenizer);
    let answering = Answering {
        llama: &base.llama,
        tokenizer: &tokenizer,
        config: args.sampling.config(&tokenizer)?,
        stop: &args.sampling.stop,
    };
    let wording = args.wording.unwrap_or(fitting);
    if args.system.is_some() && !wording.remembers() {
        return Err(Error::Usage {
            message: "--system needs a chat template to stand in".into(),
            hint: Some("give a model that has one, and --wording chat beside an adapter".into()),
        }
        .into());
    }
    let mut chat = Chat {
        answering,
        adapters,
        wording,
        conversation: Conversation::default(),
        looker: ImageConditioner::new(&args.encoder, &base),
        image: None,
        seeing: None,
    };
    interrupt::watch()?;
    let mut lines = Lines::open()?;
    if lines.is_interactive() {
        note(&format!("{} (/help shows the commands)", base.source.path().display()));
        note(chat.manner());
    }
    if let Some(text) = &args.system {
        chat.system(text);
    }
    if let Some(image) = &args.image {
        chat.show(image)?;
    }
    let (mut count, mut failed) = (0, 0);
    while let Some(line) = lines.next()? {
        count += 1;
        match line.and_then(|line| chat.line(line.trim())) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(error) if error.is_output_error() => return Err(error),
            // A person can try another line, and so may a script; but that should hear of it in the end.
            Err(error) if lines.is_interactive() => {
                error.report();
            }
            Err(error) => {
                failed += 1;
                Failure::with_context(format!("line {count}"), error).report();
            }
        }
    }
    if failed > 0 {
        return Err(Error::LinesFailed { failed, lines: count }.into());
    }
    Ok(())
}

struct Chat<'a> {
    answering: Answering<'a>,
    adapters: AdapterSet<'a>,
    wording: Wording,
    conversation: Conversation,
    looker: ImageConditioner<'a>,
    image: Option<PathBuf>,
    /// The active adapter with the image, made ready once for all turns.
    seeing: Option<PreparedAdapter>,
}

impl Chat<'_> {
    /// Lets the active adapter see an image from now on.
    fn show(&mut self, image: &Path) -> Result {
        let name = self.adapters.active().filter(|_| self.adapters.is_enabled());
        self.seeing = Some(self.looker.prepare(&self.adapters, name, image)?);
        self.image = Some(image.to_owned());
        note(&format!("(looking at {})", image.display()));
        Ok(())
    }

    /// What answers now.
    fn current(&self) -> PreparedAdapter {
        self.seeing.clone().unwrap_or_else(|| self.adapters.active_or_base())
    }

    /// What a user should know about the wording.
    fn manner(&self) -> &'static str {
        match self.wording {
            Wording::Chat => "The model sees everything said so far.",
            Wording::Alpaca => {
                "Each line is an instruction of its own (Alpaca wording, as in training): earlier \
                 lines are not seen."
            }
            Wording::Raw => {
                "No wording: the model goes on with each line as it is, and sees no earlier ones."
            }
        }
    }

    /// Does what a line says: a command, or a turn.
    fn line(&mut self, line: &str) -> Result<ControlFlow<()>> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => {}
            "/help" => note(HELP),
            "/quit" | "/exit" => return Ok(ControlFlow::Break(())),
            "/reset" => {
                self.conversation.reset();
                note("(forgotten)");
            }
            "/system" => self.system(rest.trim()),
            "/adapters" => self.list(),
            "/use" => self.switch(rest.trim()),
            "/image" if rest.trim().is_empty() => {
                (self.image, self.seeing) = (None, None);
                note("(no image)");
            }
            "/image" => self.show(Path::new(rest.trim()))?,
            _ if word.starts_with('/') => note(&format!("no command `{word}`; /help shows them")),
            _ => self.turn(line)?,
        }
        Ok(ControlFlow::Continue(()))
    }

    fn list(&self) {
        let adapters = self.adapters.statuses();
        if adapters.is_empty() {
            note("(no adapters; give some with --adapter)");
        }
        for AdapterStatus { name, active, parts, layers, adapter_len, parameters, .. } in adapters {
            let star = if active && self.adapters.is_enabled() { '*' } else { ' ' };
            let parts = parts.join(" + ");
            let prompts = match layers.len() {
                0 => String::new(),
                count => format!(", {adapter_len} tokens in each of {count} layers"),
            };
            note(&format!("{star} {name}: {parts}{prompts}, {parameters} numbers"));
        }
    }

    fn switch(&mut self, name: &str) {
        self.activate(name);
        // What is shown stays in sight, if the one that answers now can see.
        self.seeing = None;
        if let Some(image) = self.image.take()
            && let Err(error) = self.show(&image)
        {
            note(&format!("({error}; the image is put away)"));
        }
    }

    fn activate(&mut self, name: &str) {
        if name == NO_ADAPTER {
            self.adapters.disable();
            return note("(the base model answers)");
        }
        match self.adapters.activate(name) {
            Ok(()) => {
                self.adapters.enable();
                note(&format!("({name} answers)"));
            }
            Err(error) => note(&format!("{error}")),
        }
    }

    fn system(&mut self, text: &str) {
        self.conversation.reset();
        self.conversation.set_system(text);
        if self.wording.remembers() {
            note("(system text set; starting anew)");
        } else {
            note("(only a chat template has a place for a system text: it will not be seen)");
        }
    }

    fn turn(&mut self, text: &str) -> Result {
        self.conversation.ask(text);
        let answered = self.answer();
        match &answered {
            Ok(answer) => self.conversation.answered(answer),
            Err(_) => self.conversation.pop_last(),
        }
        answered.map(|_answer| ())
    }

    fn answer(&mut self) -> Result<String> {
        let Answering { llama, tokenizer, config, .. } = &self.answering;
        let context = llama.config().max_positions;
        // Room for the answer, but never more than half of everything.
        let room = context - config.max_new_tokens.min(context / 2);
        let encode = |messages: &[text::Message]| self.wording.encode(tokenizer, messages);
        let (prompt, dropped) = self.conversation.fit(room, &encode)?;
        if dropped > 0 && self.wording.remembers() {
            let turns = if dropped == 1 { "turn" } else { "turns" };
            note(&format!(
                "(the oldest {dropped} {turns} dropped: the model reads {context} tokens at most)"
            ));
        }
        let writing = Writing::begin();
        let answer = self.answering.answer(&self.current(), prompt, &mut |piece| {
            print(piece)?;
            Ok(if writing.interrupted() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        print("\n")?;
        if writing.interrupted() {
            note("(stopped)");
        }
        Ok(answer.text)
    }
}

/// Where the lines come from.
enum Lines {
    Editor(Box<DefaultEditor>),
    Pipe,
}

impl Lines {
    fn open() -> Result<Self> {
        if stdin().is_terminal() && stdout().is_terminal() {
            let editor = DefaultEditor::new().map_err(Error::system("cannot use the terminal"))?;
            return Ok(Self::Editor(Box::new(editor)));
        }
        Ok(Self::Pipe)
    }

    fn is_interactive(&self) -> bool {
        matches!(self, Self::Editor(_))
    }

    /// The next line, or why it is none; `None` at the end.
    fn next(&mut self) -> Result<Option<Result<String>>> {
        match self {
            Self::Editor(editor) => loop {
                match editor.readline("> ") {
                    Ok(line) => {
                        // A line that can't be recalled is no reason to stop.
                        let _ = editor.add_history_entry(&line);
                        return Ok(Some(Ok(line)));
                    }
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(ReadlineError::Interrupted) => note("(Ctrl-D or /quit ends)"),
                    Err(error) => {
                        return Err(Error::system("cannot read from the terminal")(error).into());
                    }
                }
            },
            Self::Pipe => {
                let mut line = Vec::new();
                let len = stdin().lock().read_until(b'\n', &mut line);
                let len = len.map_err(Error::system("cannot read stdin"))?;
                let text = String::from_utf8(line)
                    .map_err(|error| Error::InvalidUtf8 { reason: error.utf8_error() }.into());
                Ok((len > 0).then_some(text))
            }
        }
    }
}
