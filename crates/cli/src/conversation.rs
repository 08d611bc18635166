//! The turns of a chat, truncated to the model's context.

use text::Message;

/// A system prompt and the turns after it.
#[derive(Debug, Default)]
pub struct Conversation {
    system: Option<String>,
    /// User and assistant in turn, starting with the user.
    turns: Vec<Message>,
}

impl Conversation {
    /// Removes all turns and keeps the system prompt.
    pub fn reset(&mut self) {
        self.turns.clear();
    }

    /// Sets the system prompt; an empty text removes it.
    pub fn set_system(&mut self, text: &str) {
        self.system = (!text.is_empty()).then(|| text.to_owned());
    }

    /// Adds a message of the user.
    pub fn push_user(&mut self, text: &str) {
        self.turns.push(Message::new("user", text));
    }

    /// Adds a response of the model.
    pub fn push_assistant(&mut self, text: &str) {
        self.turns.push(Message::new("assistant", text));
    }

    /// Removes the last message, after a failed response.
    pub fn pop_last(&mut self) {
        self.turns.pop();
    }

    /// Encodes the conversation with `encode`. Drops the oldest turns until at most `max_tokens`
    /// tokens remain, and returns the tokens and the number of dropped turns.
    ///
    /// The last message is never dropped, even if it alone is too long.
    pub fn encode_within(
        &mut self,
        max_tokens: usize,
        encode: &dyn Fn(&[Message]) -> text::Result<Vec<u32>>,
    ) -> text::Result<(Vec<u32>, usize)> {
        let mut dropped = 0;
        loop {
            let tokens = encode(&self.messages())?;
            if tokens.len() <= max_tokens || self.turns.len() < 3 {
                return Ok((tokens, dropped));
            }
            // A turn is a message of the user and its response.
            self.turns.drain(..2);
            dropped += 1;
        }
    }

    fn messages(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", text));
        system.chain(self.turns.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token per message.
    #[expect(clippy::unnecessary_wraps, reason = "has the signature of an encoder, which can fail")]
    fn count(messages: &[Message]) -> text::Result<Vec<u32>> {
        Ok(vec![0; messages.len()])
    }

    fn conversation(turns: usize) -> Conversation {
        let mut conversation = Conversation::default();
        conversation.set_system("Be brief.");
        for turn in 0..turns {
            conversation.push_user(&format!("question {turn}"));
            conversation.push_assistant(&format!("answer {turn}"));
        }
        conversation.push_user("last");
        conversation
    }

    #[test]
    fn turns_that_fit_are_kept() {
        let (tokens, dropped) = conversation(3).encode_within(8, &count).unwrap();
        assert_eq!((tokens.len(), dropped), (8, 0));
    }

    #[test]
    fn the_oldest_turns_are_dropped_first_and_the_system_prompt_stays() {
        let mut conversation = conversation(3);
        let (tokens, dropped) = conversation.encode_within(5, &count).unwrap();
        assert_eq!((tokens.len(), dropped), (4, 2));
        let messages = conversation.messages();
        let found = messages.iter().map(|message| message.content.as_str());
        assert_eq!(found.collect::<Vec<_>>(), ["Be brief.", "question 2", "answer 2", "last"]);
    }

    #[test]
    fn the_last_message_is_never_dropped() {
        let (tokens, dropped) = conversation(1).encode_within(0, &count).unwrap();
        assert_eq!((tokens.len(), dropped), (2, 1));
    }
}
