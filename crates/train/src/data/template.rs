//! Wording around an instruction. The only place that knows it.

use super::instruction::Instruction;

/// The Alpaca prompt, without a newline after `### Response:`.
///
/// Source: Stanford Alpaca; used unchanged by the original LLaMA-Adapter.
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
    /// The text that the answer follows.
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
