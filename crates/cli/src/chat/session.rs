//! The state of a chat, its commands and its turns.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use adaption_prompt::{AdapterSet, AdapterStatus, PreparedAdapter};
use text::{PromptEncoder, PromptTemplate};

use crate::adapters::NO_ADAPTER;
use crate::conversation::Conversation;
use crate::failure::Result;
use crate::image_features::ImageConditioner;
use crate::interrupt::InterruptGuard;
use crate::output::{note, print};
use crate::prompt_template::PromptFormats;
use crate::response::ResponseGenerator;

const HELP: &str = "\
/help          show this help
/reset         clear the conversation
/adapters      list the adapters (* = active)
/use NAME      switch the adapter; `none` for the base model
/image FILE    set the input image; without FILE remove it
/system TEXT   set the system prompt and clear the conversation; without TEXT remove it
/quit          quit (also Ctrl-D)
Ctrl-C         stop the response";

/// A running chat.
pub struct ChatSession<'a> {
    generator: ResponseGenerator<'a>,
    adapters: AdapterSet<'a>,
    formats: PromptFormats,
    /// The format of the active adapter.
    prompt: PromptEncoder,
    /// Whether the end of a turn stops a response.
    stops_at_end: bool,
    conversation: Conversation,
    image_conditioner: ImageConditioner<'a>,
    image: Option<PathBuf>,
    /// The active adapter prepared with the image, for all turns.
    image_adapter: Option<PreparedAdapter>,
}

impl<'a> ChatSession<'a> {
    /// A chat without turns, system prompt and image.
    pub fn new(
        generator: ResponseGenerator<'a>,
        adapters: AdapterSet<'a>,
        formats: PromptFormats,
        stops_at_end: bool,
        image_conditioner: ImageConditioner<'a>,
    ) -> Result<Self> {
        let tokenizer = generator.tokenizer;
        let prompt = PromptEncoder::new(&formats.of(adapters.active(), tokenizer), tokenizer)?;
        let mut session = Self {
            generator,
            adapters,
            formats,
            prompt,
            stops_at_end,
            conversation: Conversation::default(),
            image_conditioner,
            image: None,
            image_adapter: None,
        };
        session.set_stop_tokens();
        Ok(session)
    }

    fn set_stop_tokens(&mut self) {
        if self.stops_at_end {
            self.generator.config.stop_tokens = self.prompt.stop_tokens(self.generator.tokenizer);
        }
    }

    fn is_multi_turn(&self) -> bool {
        self.prompt.format().template.is_multi_turn()
    }

    /// Sets the input image of the active adapter.
    pub fn set_image(&mut self, image: &Path) -> Result {
        let name = self.adapters.active().filter(|_| self.adapters.is_enabled());
        self.image_adapter = Some(self.image_conditioner.prepare(&self.adapters, name, image)?);
        self.image = Some(image.to_owned());
        note(&format!("(image: {})", image.display()));
        Ok(())
    }

    /// Sets the system prompt and clears the conversation.
    pub fn set_system(&mut self, text: &str) {
        self.conversation.reset();
        if self.is_multi_turn() {
            self.conversation.set_system(text);
            note("(system prompt set; conversation cleared)");
        } else {
            note("(ignored: a system prompt needs a chat template)");
        }
    }

    /// What a user should know about the prompt template.
    pub fn template_note(&self) -> String {
        match &self.prompt.format().template {
            PromptTemplate::Chat => "Chat template: the prompt includes all earlier turns.".into(),
            PromptTemplate::Alpaca => {
                "Alpaca template, as in training: each line is a separate instruction without \
                 earlier turns."
                    .into()
            }
            PromptTemplate::Raw => {
                "No template: each line is completed verbatim, without earlier turns.".into()
            }
            other => format!("Template {other}: the prompt includes all earlier turns."),
        }
    }

    /// Runs a command or a turn; breaks on `/quit`.
    pub fn handle_line(&mut self, line: &str) -> Result<ControlFlow<()>> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => {}
            "/help" => note(HELP),
            "/quit" | "/exit" => return Ok(ControlFlow::Break(())),
            "/reset" => {
                self.conversation.reset();
                note("(conversation cleared)");
            }
            "/system" => self.set_system(rest.trim()),
            "/adapters" => self.print_adapters(),
            "/use" => self.use_adapter(rest.trim()),
            "/image" if rest.trim().is_empty() => {
                (self.image, self.image_adapter) = (None, None);
                note("(image removed)");
            }
            "/image" => self.set_image(Path::new(rest.trim()))?,
            _ if word.starts_with('/') => note(&format!("unknown command `{word}`; see /help")),
            _ => self.handle_turn(line)?,
        }
        Ok(ControlFlow::Continue(()))
    }

    fn print_adapters(&self) {
        let adapters = self.adapters.statuses();
        if adapters.is_empty() {
            note("(no adapters loaded; use --adapter)");
        }
        for AdapterStatus { name, active, parts, layers, adapter_len, parameters, .. } in adapters {
            let star = if active && self.adapters.is_enabled() { '*' } else { ' ' };
            let parts = parts.join(" + ");
            let prompts = match layers.len() {
                0 => String::new(),
                count => format!(", prompt length {adapter_len} in {count} layers"),
            };
            note(&format!("{star} {name}: {parts}{prompts}, {parameters} parameters"));
        }
    }

    fn use_adapter(&mut self, name: &str) {
        self.activate(name);
        if let Err(error) = self.use_prompt_format() {
            note(&format!("({error}; the prompt template stays)"));
        }
        // The image stays if the new adapter supports images.
        self.image_adapter = None;
        if let Some(image) = self.image.take()
            && let Err(error) = self.set_image(&image)
        {
            note(&format!("({error}; image removed)"));
        }
    }

    /// Changes to the prompt format of the active adapter.
    fn use_prompt_format(&mut self) -> Result {
        let tokenizer = self.generator.tokenizer;
        let name = self.adapters.active().filter(|_| self.adapters.is_enabled());
        let format = self.formats.of(name, tokenizer);
        if format != *self.prompt.format() {
            self.prompt = PromptEncoder::new(&format, tokenizer)?;
            self.set_stop_tokens();
            note(&format!("(prompt template: {})", format.template));
        }
        Ok(())
    }

    fn activate(&mut self, name: &str) {
        if name == NO_ADAPTER {
            self.adapters.disable();
            return note("(using the base model)");
        }
        match self.adapters.activate(name) {
            Ok(()) => {
                self.adapters.enable();
                note(&format!("(using {name})"));
            }
            Err(error) => note(&error.to_string()),
        }
    }

    fn handle_turn(&mut self, text: &str) -> Result {
        self.conversation.push_user(text);
        match self.respond() {
            Ok(response) => {
                self.conversation.push_assistant(&response);
                Ok(())
            }
            Err(error) => {
                self.conversation.pop_last();
                Err(error)
            }
        }
    }

    fn respond(&mut self) -> Result<String> {
        let ResponseGenerator { llama, tokenizer, config, .. } = &self.generator;
        let context = llama.config().max_positions;
        // Reserves room for the response, but at most half of the context.
        let max_tokens = context - config.max_new_tokens.min(context / 2);
        let encode = |messages: &[text::Message]| self.prompt.prompt(tokenizer, messages);
        let (prompt, dropped) = self.conversation.encode_within(max_tokens, &encode)?;
        if dropped > 0 && self.is_multi_turn() {
            let turns = if dropped == 1 { "turn".into() } else { format!("{dropped} turns") };
            note(&format!("(dropped the oldest {turns}: the context is {context} tokens)"));
        }
        let interrupt = InterruptGuard::begin();
        let response = self.generator.generate(&self.active_adapter(), prompt, &mut |piece| {
            print(piece)?;
            Ok(if interrupt.interrupted() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        print("\n")?;
        if interrupt.interrupted() {
            note("(stopped)");
        }
        Ok(response.text)
    }

    /// The active adapter with its image, or the base model.
    fn active_adapter(&self) -> PreparedAdapter {
        self.image_adapter.clone().unwrap_or_else(|| self.adapters.active_or_base())
    }
}
