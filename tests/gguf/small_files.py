"""A Llama of some thousand weights in a GGUF file, and hard texts."""

import json
import random

import gguf
import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

HIDDEN, INNER, HEADS, GROUPS, LAYERS = 64, 96, 4, 2, 2
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<file_sep>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != "
    "'system' %}{{ '<|im_start|>system\nYou are kind<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
Types = gguf.GGMLQuantizationType


def byte_pairs(size=420):
    """Return the tokens and merges of a small vocabulary of byte pairs."""
    fast = tokenizers.Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(CONTROL), initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    text = ["def say(it):\n    return it  # the end\n\n", "It isn't 12 apples."]
    fast.train_from_iterator([*text, *hard_texts(80, seed=1)], trainer)
    vocabulary = fast.get_vocab()
    tokens = [*CONTROL, *sorted(vocabulary, key=vocabulary.get)]
    merges = json.loads(fast.to_str())["model"]["merges"]
    return tokens, [" ".join(merge) for merge in merges]


def random_weights(vocabulary_size, seed=0, tied=True):
    """Return the weights of a Llama by Transformers' names, a dict."""
    rng = np.random.default_rng(seed)
    narrow = HIDDEN // HEADS * GROUPS
    shapes = {"model.embed_tokens": (vocabulary_size, HIDDEN)}
    if not tied:
        shapes["lm_head"] = (vocabulary_size, HIDDEN)
    for i in range(LAYERS):
        shapes |= {
            f"model.layers.{i}.{name}": shape
            for name, shape in {
                "self_attn.q_proj": (HIDDEN, HIDDEN),
                "self_attn.k_proj": (narrow, HIDDEN),
                "self_attn.v_proj": (narrow, HIDDEN),
                "self_attn.o_proj": (HIDDEN, HIDDEN),
                "mlp.gate_proj": (INNER, HIDDEN),
                "mlp.up_proj": (INNER, HIDDEN),
                "mlp.down_proj": (HIDDEN, INNER),
                "input_layernorm": (HIDDEN,),
                "post_attention_layernorm": (HIDDEN,),
            }.items()
        }
    shapes["model.norm"] = (HIDDEN,)
    return {
        f"{name}.weight": (
            rng.normal(0, 0.2, shape) + (len(shape) == 1)
        ).astype("float32")
        for name, shape in shapes.items()
    }


def write(path, tied=True, seed=0, types=(Types.F32,), rope=None, **changes):
    """Write a file, and return the weights that it holds, dequantized.

    Args:
        path: path.
        tied: bool. Whether the embedding is also the output.
        seed: int.
        types: those of the matrices, in turn.
        rope: float array, divisors of frequencies, or `None`.
        **changes: metadata by names with `__` for dots; `None` leaves one out.

    Returns:
        dict of float32 arrays by Transformers' names.
    """
    tokens, merges = byte_pairs()
    kinds = [3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL))
    metadata = {
        "llama.block_count": LAYERS,
        "llama.context_length": 128,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": GROUPS,
        "llama.rope.freq_base": 50000.0,
        "llama.rope.dimension_count": HIDDEN // HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-3,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }
    changes = {name.replace("__", "."): v for name, v in changes.items()}
    architecture = changes.pop("general.architecture", "llama")
    writer = gguf.GGUFWriter(str(path), architecture)
    for name, value in (metadata | changes).items():
        if value is None:
            continue
        if name == "general.alignment":
            writer.add_custom_alignment(value)
            continue
        add = {bool: writer.add_bool, int: writer.add_uint32,
               float: writer.add_float32, str: writer.add_string,
               list: writer.add_array}[type(value)]  # fmt: skip
        add(name, value)
    if rope is not None:
        writer.add_tensor("rope_freqs.weight", rope)
    held = _add_weights(writer, random_weights(len(tokens), seed, tied), types)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def _add_weights(writer, weights, types):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    held, count = {}, 0
    for name, array in weights.items():
        stored, kind = array, Types.F32
        for part, heads in (("q_proj", HEADS), ("k_proj", GROUPS)):
            if part in name:  # as `permute` of llama.cpp's converter
                stored = (
                    array.reshape(heads, 2, -1, HIDDEN)
                    .swapaxes(1, 2)
                    .reshape(array.shape)
                )
        if array.ndim == 2:
            kind, count = types[count % len(types)], count + 1
        data = gguf.quantize(stored, kind)
        back = gguf.dequantize(data, kind).reshape(array.shape)
        for part, heads in (("q_proj", HEADS), ("k_proj", GROUPS)):
            if part in name:
                back = (
                    back.reshape(heads, -1, 2, HIDDEN)
                    .swapaxes(1, 2)
                    .reshape(array.shape)
                )
        held[name] = back
        stored_name = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(stored_name, data, raw_dtype=kind)
    return held


PIECES = [
    *("\n", "\n\n", "\r\n", "\t", " ", "  ", "   "),
    *("\u00a0", "\u3000", "\u200b", "\x00", "\x7f", "\ufeff"),
    *("apples.\n\n  ok", "the", " cat", "isn't", "WE'LL", "x" * 9, "e\u0301"),
    *("0", "12", "3.14", "1,000,000", "٣", "Ⅷ", "½", "²"),
    *("🙂", "👩‍👩‍👧", "🇫🇷", "🧑🏽‍🚀", "漢字", "かな", "한국어", "中文，。"),
    *("def f(x):\n    return x**2", "{'a': [1, 2]}", "//", "<b>", "&amp;"),
    *("ñ", "Ünïcødé", "العربية", "עברית", "हिन्दी", "ไทย"),
    *CONTROL, "<|im_end", "|im_end|>", "<<|im_start|>>", "</s>", "<bos>",
]  # fmt: skip


def hard_texts(count, seed=0):
    """Return texts that tokenizers get wrong: a list of str, some empty."""
    rng = random.Random(seed)
    return [
        "".join(rng.choices(PIECES, k=rng.randrange(0, 12)))
        for _ in range(count)
    ]
