"""The prompts of `sail bench generate --prompt-length N`: the same ids for every program, and no tokenizer."""


def made_id(row, position, vocabulary):
    return (7919 * (position + 1) + 31 * row) % vocabulary
