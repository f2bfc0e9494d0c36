"""A model as a folder in the format of Hugging Face, for Transformers."""

import json

from safetensors.numpy import save_file

from kerasllm import files, gguf
from kerasllm.export._layouts import check_is_new, check_merged, layout_of

_LONGEST = 8192


def to_hugging_face(causal_lm, out):
    """Write a model in the format of Transformers.

    Args:
        causal_lm: a Llama that came from a GGUF file, or a Gemma 3, with a
            preprocessor and without adapters (`merge_lora` merges them).
        out: str or path of a new folder. It gets `config.json`,
            `model.safetensors` with float32 weights, and the tokenizer.

    Raises:
        UserError: the model is of another family, or `out` is there already.
        EnvironmentFailure: the disk is full.
    """
    out = check_is_new(out)
    check_merged(causal_lm)
    layout = layout_of(causal_lm)
    is_llama = isinstance(causal_lm.backbone, gguf.GGUFBackbone)
    with files.explaining_disk_errors(out), files.whole_folder(out) as folder:
        if is_llama:
            _write_llama(causal_lm, layout, folder)
        else:
            causal_lm.export_to_transformers(str(folder))
            _correct_gemma(causal_lm, folder)


def _write_llama(causal_lm, layout, folder):
    tokenizer = causal_lm.preprocessor.tokenizer
    config = _llama_config(causal_lm.backbone, tokenizer)
    _write_json(folder / "config.json", config)
    save_file(
        dict(layout.arrays()),
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    tokenizer.save_assets(folder)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": tokenizer.bos_token,
            "eos_token": tokenizer.end_token,
            "pad_token": tokenizer.id_to_token(tokenizer.pad_token_id),
            "add_bos_token": tokenizer.start_token is not None,
            "chat_template": tokenizer.chat_template,
            "clean_up_tokenization_spaces": False,
            "model_max_length": config["max_position_embeddings"],
        },
    )


def _llama_config(backbone, tokenizer):
    """Return the content of `config.json`, a dict."""
    rope = {
        "rope_type": "default",
        "rope_theta": float(backbone.rope_max_wavelength),
    }
    if backbone.rope_frequency_adjustment_factor is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": backbone.rope_frequency_adjustment_factor,
            "low_freq_factor": backbone.rope_low_freq_factor,
            "high_freq_factor": backbone.rope_high_freq_factor,
            "original_max_position_embeddings": (
                backbone.rope_pretraining_sequence_length
            ),
        }
    bos = tokenizer.bos_token
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": backbone.vocabulary_size,
        "hidden_size": backbone.hidden_dim,
        "intermediate_size": backbone.intermediate_dim,
        "num_hidden_layers": backbone.num_layers,
        "num_attention_heads": backbone.num_query_heads,
        "num_key_value_heads": backbone.num_key_value_heads,
        "rms_norm_eps": backbone.layer_norm_epsilon,
        "rope_parameters": rope,
        "rope_theta": rope["rope_theta"],  # for older versions
        "max_position_embeddings": backbone.context_length or _LONGEST,
        "tie_word_embeddings": backbone.tie_word_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": "float32",
        "bos_token_id": None if bos is None else tokenizer.token_to_id(bos),
        "eos_token_id": tokenizer.end_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _correct_gemma(causal_lm, folder):
    """Put the ids of tokens right, which KerasHub takes from Google's."""
    tokenizer = causal_lm.preprocessor.tokenizer
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    ends = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.start_token_id,
        "eos_token_id": tokenizer.end_token_id,
    }
    config |= ends
    if "text_config" in config:
        config["text_config"] |= ends
        images = {
            "boi_token_index": tokenizer.start_of_image_token_id,
            "eoi_token_index": tokenizer.end_of_image_token_id,
            "image_token_index": tokenizer.image_placeholder_id,
        }
        config |= images
        config["vision_config"] |= images
    _write_json(path, config)


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=2), "utf-8")
