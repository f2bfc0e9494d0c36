"""kerasllm: the whole life of a language model, in Keras 3.

The rooms of the package follow the chapter "Text generation", and its listing
is the table of contents: text (`corpora`, `tokenizers`, `pipeline`), the model
(`layers`, `models`, `recipes`, `schedules`), training (`pretraining`,
`training`, `distribution`), decoding (`samplers`, `logit_filters`,
`generation`), asking (`prompts`, `images`, `chat`, `gemma`, `presets`,
`gguf`), tuning (`instructions`, `lora`, `tuning`, `export`), using
(`retrieval`) and measuring (`evaluation`, `plots`, `report`).

The names below are what most programs need. Each is imported when it is first
used, so that `import kerasllm` starts no backend and `KERAS_BACKEND` can still
be set after it. Everything else is reached through its room, as in
`kerasllm.presets.estimate_memory`.
"""

import importlib
import importlib.util
import pathlib
import sys

# Modules of the first version that live elsewhere now are still found.
__path__.append(str(pathlib.Path(__file__).parent / "_moved"))

_ROOM_OF = {
    "local_docs": "corpora",
    "mini_c4": "corpora",
    "text_shards": "corpora",
    "train_sentence_piece": "tokenizers",
    "load_sentence_piece": "tokenizers",
    "pretraining_dataset": "pipeline",
    "TransformerDecoder": "layers",
    "PositionalEmbedding": "layers",
    "mini_gpt": "models",
    "MiniGPTCausalLM": "models",
    "Recipe": "recipes",
    "get_recipe": "recipes",
    "WarmupSchedule": "schedules",
    "pretrain": "pretraining",
    "pretrain_mini_gpt": "pretraining",
    "greedy_search": "samplers",
    "random_sample": "samplers",
    "top_k": "samplers",
    "top_p": "samplers",
    "min_p": "samplers",
    "chain": "samplers",
    "to_keras_hub": "samplers",
    "generate": "generation",
    "compiled_generate": "generation",
    "TextGenerator": "generation",
    "PromptTemplate": "prompts",
    "read_jsonl": "instructions",
    "instruction_dataset": "instructions",
    "enable_lora": "lora",
    "save_lora": "lora",
    "load_lora": "lora",
    "merge_lora": "lora",
    "finetune": "tuning",
    "ChatModel": "chat",
    "Gemma": "gemma",
    "Store": "retrieval",
    "set_up": "backend",
    "UserError": "checks",
}

__version__ = "0.1.0"
__all__ = sorted(_ROOM_OF)  # noqa: PLE0605


def __getattr__(name):
    if name in _ROOM_OF:
        room = importlib.import_module(f"kerasllm.{_ROOM_OF[name]}")
        return getattr(room, name)
    if not name.startswith("_") and importlib.util.find_spec(
        f"kerasllm.{name}"
    ):
        return importlib.import_module(f"kerasllm.{name}")
    raise AttributeError(
        f"module 'kerasllm' has no attribute {name!r}. Its public names are: "
        f"{', '.join(__all__)}."
    )


def __dir__():
    return [*__all__, "__version__"]


if "keras" in sys.modules:
    # A program that has chosen its backend loses nothing, and gains that
    # `keras.saving.load_model` knows the layers of a saved mini-GPT.
    importlib.import_module("kerasllm.layers")
    importlib.import_module("kerasllm.schedules")
