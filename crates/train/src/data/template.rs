//! The prompt template: the text around an instruction.

use super::instruction::Instruction;

/// The Alpaca prompt, without a newline after `### Response:`.
///
/// Source: Stanford Alpaca; the original LLaMA-Adapter uses it unchanged.
pub fn alpaca(instruction: &str, input: &str) -> String {
    if input.is_empty() {
        format!(
            "Below is an instruction that describes a task. Write a response that appropriately \
             completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:"
        )
    } else {
        format!(
            "Below is an instruction that describes a task, paired with an input that provides \
             further context. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
        )
    }
}

impl Instruction {
    /// The prompt: instruction and input in the [`alpaca`] template.
    pub fn prompt(&self) -> String {
        alpaca(&self.instruction, &self.input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_template_is_alpacas() {
        assert_eq!(
            alpaca("Sum.", "1 2"),
            "Below is an instruction that describes a task, paired with an input that provides \
             further context. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\nSum.\n\n### Input:\n1 2\n\n### Response:"
        );
        assert!(
            alpaca("Sum.", "").ends_with("request.\n\n### Instruction:\nSum.\n\n### Response:")
        );
    }
}
