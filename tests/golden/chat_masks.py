"""Ids and assistant masks of conversations, by transformers' `apply_chat_template(return_assistant_tokens_mask=True)`."""

import json
import os
import re

from transformers import PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

# The tokens of the formats, added to the built-in model's tokenizer.
TOKENS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]

CONVERSATIONS = [
    [("system", "Be brief."), ("user", "Name a fruit."), ("assistant", "A plum.")],
    [("user", "Hi."), ("assistant", "Hello, Ada."), ("user", "Who are you?"), ("assistant", "I am the miller.")],
    [("system", " Be\n\nkind.\t"), ("user", "\n  What?  "), ("assistant", "  Two\n\n\nlines \n"), ("user", "a\tb"),
     ("assistant", ""), ("user", " "), ("assistant", "\n")],
    [("user", "caf\u00e9 \U0001f600"), ("assistant", "\u4f60\u597d \U0001f600"), ("user", "e\u0301"), ("assistant", "\u00e9\U0001f600")],
    [("user", "Print <|im_end|> and [/INST]."), ("assistant", "<|im_end|>[INST]<|end|>"), ("user", "<<SYS>>"),
     ("assistant", "{% generation %}{{ x }}")],
]

# What models on the Hub have, without marks: the script checks that ours give the same text.
OFFICIAL = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama-2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "llama-3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
}

# A template of a user: a macro, a default system prompt, whitespace control around the marks, and tags with other names.
CUSTOM = """{%- macro head(role) -%}
<{{ role | upper }}>
{%- endmacro -%}
{%- if messages[0].role != 'system' %}
{{ head('system') }} You are helpful.{{ eos_token }}
{%- endif %}
{%- for m in messages %}
  {%- if m.role == 'assistant' %}
{{ head('assistant') }}
    {%- generation %}
 {{ m['content'].strip() }}{{ eos_token }}
    {% endgeneration %}
  {%- else %}
{{ head(m.role) }} {{ m.content }}{% if not loop.last %}

{% endif %}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{ head('assistant') }}
{%- endif -%}"""


def sources():
    """The templates of crates/text/src/prompt_template/sources.rs."""
    with open(os.path.join(ROOT, "crates/text/src/prompt_template/sources.rs"), encoding="utf-8") as f:
        text = f.read()
    found = dict(re.findall(r'const (\w+): &str = "\\\n(.*?)";', text, re.S))
    names = {"CHATML": "chatml", "LLAMA_2": "llama-2", "LLAMA_3": "llama-3", "MISTRAL": "mistral"}
    return {names[name]: found[name].replace("\\\\", "\\") for name in names}


def spans(mask):
    """Starts and ends of the runs of ones."""
    edges = [i for i in range(len(mask) + 1) if (mask[i] if i < len(mask) else 0) != (mask[i - 1] if i else 0)]
    return [edges[i:i + 2] for i in range(0, len(edges), 2)]


def make(out):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=os.path.join(ROOT, "crates/built-in/assets/tiny-llama/tokenizer.json"),
        bos_token="<|begin|>", eos_token="<|end|>", additional_special_tokens=TOKENS)
    templates = {**sources(), "custom": CUSTOM}
    conversations = [[{"role": r, "content": c} for r, c in turns] for turns in CONVERSATIONS]
    rows = []
    for name, source in templates.items():
        for index, messages in enumerate(conversations):
            if name in OFFICIAL:
                text = lambda template: tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
                assert text(source) == text(OFFICIAL[name]), (name, index)
            encoded = tokenizer.apply_chat_template(
                messages, chat_template=source, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
            rows.append({"template": name, "conversation": index, "ids": encoded["input_ids"],
                         "labels": spans(encoded["assistant_masks"])})
    with open(os.path.join(out, "files", "chat_masks.json"), "w", encoding="utf-8") as f:
        f.write('{\n  "tokens": ' + json.dumps(TOKENS) + ',\n  "custom": ' + json.dumps(CUSTOM))
        f.write(',\n  "conversations": [\n' + ",\n".join("    " + json.dumps(c, ensure_ascii=False) for c in conversations) + "\n  ]")
        f.write(',\n  "rows": [\n' + ",\n".join("    " + json.dumps(row) for row in rows) + "\n  ]\n}\n")
