"""Reading a model from a GGUF file."""

import functools
import math

import gguf
import numpy as np

from kerasllm import backend
from kerasllm.checks import UserError, shown
from kerasllm.gguf._file import GGUFFile
from kerasllm.gguf._model import (
    GGUFBackbone,
    GGUFCausalLM,
    GGUFCausalLMPreprocessor,
)
from kerasllm.gguf._vocabulary import read_tokenizer
from kerasllm.gguf._weights import (
    from_rotary_order,
    gguf_names,
    to_keras,
    transformers_names,
)

ARCHITECTURE = "llama"
_LONGEST = 1024  # sequences in training and chats, where nobody says more
_ROPE_FACTORS = "rope_freqs.weight"
# What Llama 3.1 and 3.2 were published with, beside the factor.
_LOW, _HIGH, _BEFORE = 1.0, 4.0, 8192


def read_gguf(path):
    """Read a model of the Llama family from a GGUF file.

    Quantized weights are converted to float32, one tensor at a time, so that
    only one is in memory twice. `kerasllm.presets.load_causal_lm` saves the
    result on disk and reads it from there the next time.

    Args:
        path: str or path.

    Returns:
        A `GGUFCausalLM` with float32 weights and a preprocessor.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is not a GGUF file, it is truncated, or it holds a kind
            of model that cannot be read.
    """
    file = GGUFFile(path)
    config = _read_config(file)
    _check_tensors(file, config)
    tokenizer = read_tokenizer(file)
    _check_vocabulary(file, config, tokenizer)
    with backend.LoadedValues() as values:
        backbone = GGUFBackbone(**config, dtype="float32")
        variables = transformers_names(backbone)
        names = gguf_names(gguf.MODEL_ARCH.LLAMA, variables, len(variables))
        for name, variable in variables.items():
            read = functools.partial(
                _read_weight, file, config, name, names[name], variable.shape
            )
            values.read_later(variable, read)
    length = min(_LONGEST, config["context_length"] or _LONGEST)
    preprocessor = GGUFCausalLMPreprocessor(tokenizer, length)
    return GGUFCausalLM(backbone, preprocessor)


def count_parameters(file):
    """Return the number of weights in a `GGUFFile`: an int."""
    return sum(math.prod(tensor.shape) for tensor in file.tensors.values())


def _read_weight(file, config, name, stored_name, shape):
    """Return what a variable of KerasHub holds: float32 array."""
    array = file.tensor(stored_name)
    heads = {
        "q_proj.weight": config["num_query_heads"],
        "k_proj.weight": config["num_key_value_heads"],
    }
    for ending, num_heads in heads.items():
        if name.endswith(ending):
            array = from_rotary_order(array, num_heads)
    return np.ascontiguousarray(to_keras(name, array, shape))


def _read_config(file):
    """Return the arguments of `GGUFBackbone` that a file names, a dict."""
    architecture = file.metadata.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise UserError(
            "A GGUF file must hold a model of the Llama family, architecture "
            f"'llama'. Received: {file.path} of {shown(architecture)}. Take "
            "another model."
        )

    def get(name, default=None):
        value = file.metadata.get(f"{ARCHITECTURE}.{name}", default)
        if isinstance(value, int | float):
            return value
        if value is None and default is None and name in _OPTIONAL:
            return None
        raise UserError(
            f"A GGUF file must tell the number {ARCHITECTURE}.{name}. "
            f"Received: {file.path} with {shown(value)}. Download it again, "
            "or take another file of the model."
        )

    num_heads, hidden_dim = get("attention.head_count"), get("embedding_length")
    config = {
        "vocabulary_size": len(file.metadata.get("tokenizer.ggml.tokens", ())),
        "num_layers": get("block_count"),
        "num_query_heads": num_heads,
        "num_key_value_heads": get("attention.head_count_kv", num_heads),
        "hidden_dim": hidden_dim,
        "intermediate_dim": get("feed_forward_length"),
        "rope_max_wavelength": get("rope.freq_base", 10000.0),
        "layer_norm_epsilon": get("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "context_length": get("context_length"),
    }
    _check_sizes(file, config)
    head_dim = hidden_dim // num_heads
    same = {
        name: get(name)
        for name in ("rope.dimension_count", "attention.key_length",
                     "attention.value_length")
    }  # fmt: skip
    others = {name: v for name, v in same.items() if v not in (None, head_dim)}
    scaling = file.metadata.get(f"{ARCHITECTURE}.rope.scaling.type", "none")
    if others or get("expert_count", 0) or scaling not in ("none", "llama3"):
        raise UserError(
            "A GGUF file must hold a plain Llama: all of a head is rotated, "
            "positions are not scaled, and there are no experts. Received: "
            f"{file.path}, which differs ({shown(others or scaling)}). Take "
            "another model."
        )
    return config | _read_rope_factors(file, config, head_dim)


_OPTIONAL = (
    *("context_length", "rope.dimension_count"),
    *("attention.key_length", "attention.value_length"),
)


def _check_sizes(file, config):
    """Refuse sizes that fit no model."""
    heads, groups = config["num_query_heads"], config["num_key_value_heads"]
    hidden_dim = config["hidden_dim"]
    sizes = (heads, groups, hidden_dim, config["num_layers"],
             config["intermediate_dim"])  # fmt: skip
    fits = all(isinstance(size, int) and size > 0 for size in sizes) and (
        hidden_dim % heads == 0
        and heads % groups == 0
        and hidden_dim // heads % 2 == 0
    )
    if not fits:
        raise UserError(
            "The sizes in a GGUF file must fit one another. Received: "
            f"{file.path} with hidden_dim={hidden_dim}, {heads} heads for "
            f"queries and {groups} for keys. Download it again."
        )


def _read_rope_factors(file, config, head_dim):
    """Return how Llama 3.1 stretches rotary embedding, a dict.

    The file has the divisor of each frequency, and KerasHub takes the numbers
    that they come from. Of these the divisors tell the largest; the others
    are as published, or the model is unknown.
    """
    if _ROPE_FACTORS not in file.tensors:
        return {}
    divisors = file.tensor(_ROPE_FACTORS)
    factor = float(divisors.max())
    base = config["rope_max_wavelength"]
    expected = _divisors(base, head_dim, factor, _LOW, _HIGH, _BEFORE)
    fits = divisors.shape == expected.shape
    if not fits or not np.allclose(divisors, expected, rtol=1e-3):
        raise UserError(
            "Rotary embedding must be stretched as in Llama 3.1, if at all. "
            f"Received: {file.path} with other divisors of its frequencies. "
            "Take another model."
        )
    return {
        "rope_frequency_adjustment_factor": factor,
        "rope_low_freq_factor": _LOW,
        "rope_high_freq_factor": _HIGH,
        "rope_pretraining_sequence_length": _BEFORE,
    }


def rope_divisors(backbone):
    """Return what a file has of a stretched rotary embedding.

    Args:
        backbone: `GGUFBackbone`.

    Returns:
        float32 array `(head_dim / 2,)`, or `None` if it is not stretched.
    """
    if backbone.rope_frequency_adjustment_factor is None:
        return None
    return _divisors(
        backbone.rope_max_wavelength,
        backbone.hidden_dim // backbone.num_query_heads,
        backbone.rope_frequency_adjustment_factor,
        backbone.rope_low_freq_factor,
        backbone.rope_high_freq_factor,
        backbone.rope_pretraining_sequence_length,
    )


def _divisors(base, head_dim, factor, low, high, before):
    """Return the divisor of each frequency by the rule of Llama 3.1."""
    steps = np.arange(0, head_dim, 2)
    turns = before / (2 * math.pi) / base ** (steps / head_dim)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype("float32")


def _check_tensors(file, config):
    """Refuse a file whose tensors are not all those of the model."""
    hidden_dim, inner = config["hidden_dim"], config["intermediate_dim"]
    narrow = (
        hidden_dim // config["num_query_heads"] * config["num_key_value_heads"]
    )
    embedding = (config["vocabulary_size"], hidden_dim)
    square, norm = (hidden_dim, hidden_dim), (hidden_dim,)
    block = {
        "attn_norm": norm, "ffn_norm": norm,
        "attn_q": square, "attn_output": square,
        "attn_k": (narrow, hidden_dim), "attn_v": (narrow, hidden_dim),
        "ffn_gate": (inner, hidden_dim), "ffn_up": (inner, hidden_dim),
        "ffn_down": (hidden_dim, inner),
    }  # fmt: skip
    shapes = {"token_embd.weight": embedding, "output_norm.weight": norm}
    if not config["tie_word_embeddings"]:
        shapes["output.weight"] = embedding
    for i in range(config["num_layers"]):
        shapes |= {f"blk.{i}.{name}.weight": s for name, s in block.items()}
    found = {
        name: tensor.shape
        for name, tensor in file.tensors.items()
        if name != _ROPE_FACTORS
    }
    wrong = sorted(
        name
        for name in shapes.keys() | found.keys()
        if shapes.get(name) != found.get(name)
    )
    if wrong:
        name = wrong[0]
        raise UserError(
            "The tensors of a GGUF file must be those of a Llama of its "
            f"sizes. Received: {file.path}, where {name} is "
            f"{shown(found.get(name))} and must be {shown(shapes.get(name))}, "
            f"as {len(wrong)} differ. Take another model."
        )
    for kind in {tensor.type for tensor in file.tensors.values()}:
        _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        try:
            gguf.dequantize(np.zeros((1, block_bytes), "u1"), kind)
        except NotImplementedError as error:
            raise UserError(
                "The weights of a GGUF file must be of a type that the `gguf` "
                f"package can read. Received: {file.path} with {kind.name}. "
                "Take a file of another type, such as Q8_0 or Q4_K_M."
            ) from error


def _check_vocabulary(file, config, tokenizer):
    if tokenizer.vocabulary_size() != config["vocabulary_size"]:
        raise UserError(
            "The tokens of a GGUF file must differ. Received: "
            f"{file.path} with {tokenizer.vocabulary_size()} different ones "
            f"of {config['vocabulary_size']}. Download it again."
        )
