"""Prompts of known length. Needs the package `tokenizers`."""

import json

from tokenizers import Tokenizer

PROMPT_LENGTHS = (64, 512)
PROMPTS = 8


def prompts(folder, rows):
    """Texts that are exactly so many tokens long, each from another place in the rows."""
    encoder = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    words = " ".join(f"{row['instruction']} {row['output']}" for row in texts).split()

    def of_length(length, start):
        while True:
            # The number of tokens grows by one or more a word, and may step over the length.
            end, ids = start + length // 8, []
            while len(ids) < length:
                end += 1
                text = " ".join(words[start:end])
                ids = encoder.encode(text, add_special_tokens=False).ids
            if len(ids) == length:
                return {"text": text, "ids": ids}
            start += 1

    apart = len(words) // (PROMPTS + 1)
    return {str(length): [of_length(length, row * apart) for row in range(PROMPTS)] for length in PROMPT_LENGTHS}
