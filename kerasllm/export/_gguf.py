"""A model as a GGUF file, for llama.cpp and similar programs."""

import os
import pathlib
import tempfile

import gguf as library
import sentencepiece

from kerasllm import files, gguf
from kerasllm.checks import check_choice
from kerasllm.export._layouts import check_is_new, check_merged, layout_of

WEIGHT_TYPES = ("f32", "f16", "q8_0")
_BLOCK = 32  # of Q8_0
_TYPES = library.GGMLQuantizationType
_SMALL_CONTEXT = 8192
# What a piece of SentencePiece is, by the numbers of the format.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)


def to_gguf(causal_lm, out, weights="f16"):
    """Write a model as a GGUF file.

    Of a Gemma 3 that takes images, only the text model is written, because the
    format stores the vision encoder in a separate file.

    Args:
        causal_lm: a Llama that came from a GGUF file, or a Gemma 3, with a
            preprocessor and without adapters (`merge_lora` merges them).
        out: str or path of a new file.
        weights: str. The format of matrices: `"f32"`, `"f16"`, or `"q8_0"`,
            which is 8 bits with a scale for every 32 weights. Vectors are
            float32.

    Raises:
        UserError: the model is of another family, `weights` is none of these,
            or `out` is there already.
        EnvironmentFailure: the disk is full.
    """
    check_choice("weights", weights, WEIGHT_TYPES)
    out = check_is_new(out)
    check_merged(causal_lm)
    layout = layout_of(causal_lm)
    is_llama = isinstance(causal_lm.backbone, gguf.GGUFBackbone)
    architecture = "LLAMA" if is_llama else "GEMMA3"
    architecture = library.MODEL_ARCH[architecture]
    # The library opens a file by its name, so it is moved when it is whole.
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        files.explaining_disk_errors(out),
        tempfile.TemporaryDirectory(prefix=".", dir=out.parent) as folder,
    ):
        path = pathlib.Path(folder, out.name)
        writer = library.GGUFWriter(
            path, library.MODEL_ARCH_NAMES[architecture]
        )
        writer.add_name(causal_lm.name)
        add = _add_llama if is_llama else _add_gemma
        add(writer, causal_lm)
        for name, array in _arrays(causal_lm, layout, architecture, is_llama):
            kind = _type_of(array, weights)
            data = library.quantize(array, kind)
            writer.add_tensor(name, data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(path, out)


def _type_of(array, weights):
    if array.ndim == 1:
        return _TYPES.F32
    if weights == "q8_0" and array.shape[-1] % _BLOCK:
        return _TYPES.F16
    return _TYPES[weights.upper()]


def _arrays(causal_lm, layout, architecture, is_llama):
    """Yield the names in the format and the arrays, one at a time."""
    backbone = causal_lm.backbone
    plain = {
        name: name.replace(".language_model", "") for name in layout.variables
    }
    names = gguf.gguf_names(architecture, plain.values(), backbone.num_layers)
    heads = {
        "q_proj.weight": backbone.num_query_heads,
        "k_proj.weight": backbone.num_key_value_heads,
    }
    for name, array in layout.arrays():
        ending = name.rpartition("self_attn.")[2]
        if is_llama and ending in heads:
            array = gguf.to_rotary_order(array, heads[ending])
        if not is_llama and array.ndim == 1:
            array = array + 1  # Gemma's norms multiply by one more
        yield names[plain[name]], array


def _add_sizes(writer, backbone, context_length, head_dim):
    writer.add_block_count(backbone.num_layers)
    writer.add_context_length(context_length)
    writer.add_embedding_length(backbone.hidden_dim)
    writer.add_feed_forward_length(backbone.intermediate_dim)
    writer.add_head_count(backbone.num_query_heads)
    writer.add_head_count_kv(backbone.num_key_value_heads)
    writer.add_layer_norm_rms_eps(backbone.layer_norm_epsilon)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)


def _add_llama(writer, causal_lm):
    """Write the sizes and the vocabulary of a Llama."""
    backbone = causal_lm.backbone
    tokenizer = causal_lm.preprocessor.tokenizer
    head_dim = backbone.hidden_dim // backbone.num_query_heads
    length = backbone.context_length or _SMALL_CONTEXT
    _add_sizes(writer, backbone, length, head_dim)
    writer.add_vocab_size(backbone.vocabulary_size)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(backbone.rope_max_wavelength))
    divisors = gguf.rope_divisors(backbone)
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", divisors)
    pairs = gguf.describe_byte_pairs(tokenizer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pairs["pre"])
    writer.add_token_list(pairs["tokens"])
    writer.add_token_types(pairs["kinds"])
    writer.add_token_merges(pairs["merges"])
    if tokenizer.bos_token is not None:
        writer.add_bos_token_id(tokenizer.token_to_id(tokenizer.bos_token))
    writer.add_eos_token_id(tokenizer.end_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(tokenizer.start_token is not None)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _add_gemma(writer, causal_lm):
    """Write the sizes and the vocabulary of a Gemma 3."""
    backbone = causal_lm.backbone
    tokenizer = causal_lm.preprocessor.tokenizer
    length = causal_lm.preprocessor.sequence_length
    _add_sizes(writer, backbone, length, backbone.head_dim)
    writer.add_rope_freq_base(1e6)  # of the layers that see everything
    writer.add_sliding_window(backbone.sliding_window_size)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto)
    numbers = range(pieces.get_piece_size())
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([pieces.id_to_piece(i) for i in numbers])
    writer.add_token_scores([pieces.get_score(i) for i in numbers])
    writer.add_token_types([_kind_of(pieces, i) for i in numbers])
    writer.add_bos_token_id(tokenizer.start_token_id)
    writer.add_eos_token_id(tokenizer.end_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


def _kind_of(pieces, number):
    if pieces.is_control(number):
        return _CONTROL
    if pieces.is_unknown(number):
        return _UNKNOWN
    if pieces.is_byte(number):
        return _BYTE
    if pieces.is_unused(number):
        return _UNUSED
    is_special = number > 0 and pieces.get_score(number) == 0
    return _USER_DEFINED if is_special else _NORMAL
