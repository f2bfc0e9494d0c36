"""kerasllm: the whole life of a language model, in Keras 3.

The rooms of the package follow the chapter "Text generation": `corpora`,
`tokenizers`, `pipeline`, `layers`, `models`, `schedules`, `pretraining`,
`samplers`, `generation`, `prompts`, `instructions`, `lora`, `images` and
`gemma`. The names below are what most programs need; each is imported when it
is first used, so that `import kerasllm` starts no backend and `KERAS_BACKEND`
can still be set after it.
"""

import importlib
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
    "WarmupSchedule": "schedules",
    "pretrain": "pretraining",
    "pretrain_mini_gpt": "pretraining",
    "greedy_search": "samplers",
    "random_sample": "samplers",
    "top_k": "samplers",
    "top_p": "samplers",
    "min_p": "samplers",
    "chain": "samplers",
    "generate": "generation",
    "compiled_generate": "generation",
    "TextGenerator": "generation",
    "to_keras_hub": "samplers",
    "PromptTemplate": "prompts",
    "read_jsonl": "instructions",
    "instruction_dataset": "instructions",
    "enable_lora": "lora",
    "save_lora": "lora",
    "load_lora": "lora",
    "merge_lora": "lora",
    "Gemma": "gemma",
}
_ROOMS = [
    "arguments",
    "backend",
    "beam_search",
    "checkpoints",
    "corpora",
    "decoding",
    "distribution",
    "files",
    "gemma",
    "generation",
    "homework",
    "homework_course",
    "homework_grading",
    "homework_kernel",
    "homework_remote",
    "images",
    "instructions",
    "layers",
    "logit_filters",
    "lora",
    "losses",
    "metrics",
    "models",
    "pipeline",
    "plots",
    "pretraining",
    "prompts",
    "report",
    "rows",
    "samplers",
    "sandbox",
    "schedules",
    "text_generator",
    "text_stream",
    "tiny_gemma",
    "tokenizers",
    "tour",
    "toyworld",
]

__version__ = "0.1.0"
__all__ = sorted([*_ROOM_OF, *_ROOMS])  # noqa: PLE0605


def __getattr__(name):
    if name in _ROOM_OF:
        room = importlib.import_module(f"kerasllm.{_ROOM_OF[name]}")
        return getattr(room, name)
    if name in _ROOMS:
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
