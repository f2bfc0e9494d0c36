"""An alphabet for a vocabulary: texts and models that tests can spell out."""

import keras
import numpy as np
from keras import ops

LETTERS = "abcdefghijklmnopqrstuvwxyz"
END = len(LETTERS)
VOCABULARY_SIZE = len(LETTERS) + 1


class Alphabet:
    """A tokenizer whose tokens are the letters, and the end token."""

    def __init__(self, end_token_id=END):
        self.end_token_id = end_token_id

    def __call__(self, text):
        return np.array([LETTERS.index(letter) for letter in text], "int32")

    def detokenize(self, token_ids):
        return "".join((LETTERS + ".")[token_id] for token_id in token_ids)

    def vocabulary_size(self):
        return VOCABULARY_SIZE


class AlphabetPreprocessor:
    """What a generator needs of a KerasHub preprocessor."""

    def __init__(self, tokenizer=None, sequence_length=16):
        self.tokenizer = tokenizer or Alphabet()
        self.sequence_length = sequence_length

    def generate_preprocess(self, prompts, sequence_length):
        token_ids = np.zeros((len(prompts), sequence_length), "int32")
        padding_mask = np.zeros_like(token_ids)
        for i, prompt in enumerate(prompts):
            row = self.tokenizer(prompt)[:sequence_length]
            token_ids[i, : len(row)] = row
            padding_mask[i, : len(row)] = 1
        return {"token_ids": token_ids, "padding_mask": padding_mask}


class BigramLM(keras.Model):
    """A causal language model whose logits are the row of the last token.

    Its cache holds the tokens that it has read, so that a test can look at
    what was written where.
    """

    def __init__(self, table, **keywords):
        super().__init__()
        table = np.array(table, dtype="float32")
        self.preprocessor = AlphabetPreprocessor(**keywords)
        self.table = self.add_weight(shape=table.shape, name="table")
        self.table.assign(table)
        self.built = True

    def call_with_cache(self, token_ids, cache, cache_update_index):
        cache = ops.slice_update(
            cache, (0, cache_update_index), ops.cast(token_ids, "float32")
        )
        logits = ops.take(self.table, token_ids, axis=0)
        return logits, logits, cache

    def _build_cache(self, token_ids):
        cache = ops.zeros(ops.shape(token_ids), "float32")
        _, hidden_states, cache = self.call_with_cache(token_ids, cache, 0)
        return hidden_states, cache


def reciting_table():
    """Logits that recite the alphabet: a, b, c, to z, and the end."""
    return np.eye(VOCABULARY_SIZE, k=1) * 9.0


def babbling_table():
    """Logits to which all tokens but the end are equally likely."""
    table = np.zeros((VOCABULARY_SIZE, VOCABULARY_SIZE))
    table[:, END] = -np.inf
    return table
