"""Small models of four families, each with a vocabulary of its own."""

import keras_hub

from kerasllm.models import MiniGPTCausalLM, mini_gpt
from kerasllm.tokenizers import train_sentence_piece
from tests.gemmas import copy_of

LENGTH = 64


def make_mini_gpt(folder, tiny):
    model = mini_gpt(300, LENGTH, 32, 64, 2, num_layers=2, dropout=0.0)
    return MiniGPTCausalLM.from_mini_gpt(model, _sentence_piece(folder))


def make_gpt2(folder, tiny):
    """With a byte-level vocabulary, as it was published but for the merges."""
    pieces = [*_characters_of_bytes(), "Ġr", "<|endoftext|>"]
    tokenizer = keras_hub.tokenizers.GPT2Tokenizer(
        {piece: number for number, piece in enumerate(pieces)}, ["Ġ r"]
    )
    backbone = keras_hub.models.GPT2Backbone(
        len(pieces), 2, 2, 32, 64, dropout=0.0, max_sequence_length=LENGTH
    )
    return keras_hub.models.GPT2CausalLM(
        backbone,
        keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, LENGTH),
    )


def make_llama(folder, tiny):
    """With grouped queries, and a start and an end token."""
    proto = _sentence_piece(folder, ["<s>", "</s>"]).proto
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=300,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
    )
    tokenizer = keras_hub.tokenizers.LlamaTokenizer(proto)
    return keras_hub.models.LlamaCausalLM(
        backbone,
        keras_hub.models.LlamaCausalLMPreprocessor(tokenizer, LENGTH),
    )


def make_gemma(folder, tiny):
    return copy_of(tiny).causal_lm


MAKERS = {
    "mini_gpt": make_mini_gpt,
    "gpt2": make_gpt2,
    "llama": make_llama,
    "gemma": make_gemma,
}


def _sentence_piece(folder, special_tokens=("<|endoftext|>",)):
    path = folder / "shard.txt"
    words = "Say red. Say blue. [instruction] [response] [end]"
    lines = [f"the cat number {i} sat on the mat {words}" for i in range(200)]
    path.write_text("\n".join(lines) + "\n")
    return train_sentence_piece([path], 300, special_tokens=special_tokens)


def _characters_of_bytes():
    """Return what GPT-2 writes for each of the 256 bytes, in order."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]
