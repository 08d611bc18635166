//! What was said so far, cut to what the model can read.

use text::Message;

/// A system text and the turns after it.
#[derive(Debug, Default)]
pub struct Conversation {
    system: Option<String>,
    /// User and assistant by turns; the user's first.
    turns: Vec<Message>,
}

impl Conversation {
    /// Forgets the turns; the system text stays.
    pub fn reset(&mut self) {
        self.turns.clear();
    }

    /// Sets the system text; an empty one takes it away.
    pub fn set_system(&mut self, text: &str) {
        self.system = (!text.is_empty()).then(|| text.to_owned());
    }

    /// Adds what the user says.
    pub fn ask(&mut self, text: &str) {
        self.turns.push(Message::new("user", text));
    }

    /// Adds the model's answer.
    pub fn answered(&mut self, text: &str) {
        self.turns.push(Message::new("assistant", text));
    }

    /// Takes the last question back: it got no answer.
    pub fn pop_last(&mut self) {
        self.turns.pop();
    }

    /// Tokens for the model, by `encode`, after dropping as many of the oldest turns as it takes
    /// to stay within `room` tokens; and how many turns that was.
    ///
    /// The last question is never dropped, even if it alone is too long.
    pub fn fit(
        &mut self,
        room: usize,
        encode: &dyn Fn(&[Message]) -> text::Result<Vec<u32>>,
    ) -> text::Result<(Vec<u32>, usize)> {
        let mut dropped = 0;
        loop {
            let tokens = encode(&self.messages())?;
            if tokens.len() <= room || self.turns.len() < 3 {
                return Ok((tokens, dropped));
            }
            // A question and its answer.
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

    /// One token for each message.
    #[expect(clippy::unnecessary_wraps, reason = "stands in for an encoder, which can fail")]
    fn count(messages: &[Message]) -> text::Result<Vec<u32>> {
        Ok(vec![0; messages.len()])
    }

    fn conversation(turns: usize) -> Conversation {
        let mut conversation = Conversation::default();
        conversation.set_system("Be brief.");
        for turn in 0..turns {
            conversation.ask(&format!("question {turn}"));
            conversation.answered(&format!("answer {turn}"));
        }
        conversation.ask("last");
        conversation
    }

    #[test]
    fn what_fits_is_kept() {
        let (tokens, dropped) = conversation(3).fit(8, &count).unwrap();
        assert_eq!((tokens.len(), dropped), (8, 0));
    }

    #[test]
    fn the_oldest_turns_go_first_and_the_system_text_stays() {
        let mut conversation = conversation(3);
        let (tokens, dropped) = conversation.fit(5, &count).unwrap();
        assert_eq!((tokens.len(), dropped), (4, 2));
        let messages = conversation.messages();
        let found = messages.iter().map(|message| message.content.as_str());
        assert_eq!(found.collect::<Vec<_>>(), ["Be brief.", "question 2", "answer 2", "last"]);
    }

    #[test]
    fn the_last_question_is_never_dropped() {
        let (tokens, dropped) = conversation(1).fit(0, &count).unwrap();
        assert_eq!((tokens.len(), dropped), (2, 1));
    }
}
