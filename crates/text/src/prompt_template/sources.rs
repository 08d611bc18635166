//! Chat templates of well-known formats, with `{% generation %}` around what the assistant writes.
//!
//! Sources: the `chat_template` of OpenAI's ChatML as models on the Hugging Face Hub have it, and of
//! Llama-2-7b-chat-hf, Meta-Llama-3-8B-Instruct and Mistral-7B-Instruct-v0.1. A system message, which
//! Mistral's has no place for, precedes the first message of the user, as in Mistral's later templates.

/// `<|im_start|>role`, a line break, the content and `<|im_end|>`.
pub(super) const CHATML: &str = "\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}
{%- else -%}
{{ message['content'] + '<|im_end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";

/// `[INST] <<SYS>>...<</SYS>> ... [/INST] ... </s>`; every pair of turns begins with `<s>`.
pub(super) const LLAMA_2: &str = "\
{%- set bos = bos_token if bos_token is defined else '' -%}
{%- set eos = eos_token if eos_token is defined else '' -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set loop_messages = messages[1:] -%}
{%- set system_message = messages[0]['content'] -%}
{%- else -%}
{%- set loop_messages = messages -%}
{%- set system_message = false -%}
{%- endif -%}
{%- for message in loop_messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('the roles must alternate: user, assistant, user, assistant, ...') }}
{%- endif -%}
{%- if loop.index0 == 0 and system_message != false -%}
{%- set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] -%}
{%- else -%}
{%- set content = message['content'] -%}
{%- endif -%}
{%- if message['role'] == 'user' -%}
{{ bos + '[INST] ' + content.strip() + ' [/INST]' }}
{%- else -%}
{%- generation -%}{{ ' ' + content.strip() + ' ' + eos }}{%- endgeneration -%}
{%- endif -%}
{%- endfor -%}";

/// `<|start_header_id|>role<|end_header_id|>`, an empty line, the content and `<|eot_id|>`.
pub(super) const LLAMA_3: &str = "\
{%- for message in messages -%}
{%- if loop.index0 == 0 -%}{{ bos_token if bos_token is defined else '' }}{%- endif -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ message['content'] | trim + '<|eot_id|>' }}{%- endgeneration -%}
{%- else -%}
{{ message['content'] | trim + '<|eot_id|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif -%}";

/// `<s>[INST] ... [/INST] ...</s>`; `<s>` is at the beginning only.
pub(super) const MISTRAL: &str = "\
{{ bos_token if bos_token is defined else '' }}
{%- set eos = eos_token if eos_token is defined else '' -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set loop_messages = messages[1:] -%}
{%- set system_message = messages[0]['content'] + '\\n\\n' -%}
{%- else -%}
{%- set loop_messages = messages -%}
{%- set system_message = '' -%}
{%- endif -%}
{%- for message in loop_messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('the roles must alternate: user, assistant, user, assistant, ...') }}
{%- endif -%}
{%- if message['role'] == 'user' -%}
{{ '[INST] ' + (system_message if loop.index0 == 0 else '') + message['content'] + ' [/INST]' }}
{%- else -%}
{%- generation -%}{{ ' ' + message['content'] + eos }}{%- endgeneration -%}
{%- endif -%}
{%- endfor -%}";

/// End-of-turn tokens of these formats. Where a tokenizer lacks one, its end-of-sequence token ends a
/// turn: the format's own would be several tokens of text.
pub(super) const END_OF_TURN: [&str; 2] = ["<|im_end|>", "<|eot_id|>"];
