"""GGUF files: quantized models of the Llama family, each in one file.

llama.cpp and similar programs run such files. This package reads them into
KerasHub: sizes, vocabulary, prompt template, and weights. The result is saved
on disk as a preset, so that a file is converted only once. `"smollm2"` is a
file in a Python package, a real pretrained model that needs no network once
the package is installed.

The layers are those of `keras_hub.models.Llama3CausalLM`.
"""

from kerasllm import lazy
from kerasllm.gguf._names import (
    INSTALL_SMOLLM2,
    SMOLLM2,
    check_is_gguf,
    find_smollm2,
    gguf_path,
)

# Names can be checked without a backend. The rest is imported when it is used.
_FILE_OF = {
    "preset_of": "_cache",
    "GGUFFile": "_file",
    "GGUFBackbone": "_model",
    "GGUFCausalLM": "_model",
    "GGUFCausalLMPreprocessor": "_model",
    "GGUFTokenizer": "_model",
    "read_offsets": "_offsets",
    "read_value": "_offsets",
    "write_offsets": "_offsets",
    "read_gguf": "_reading",
    "rope_divisors": "_reading",
    "describe_byte_pairs": "_vocabulary",
    "gguf_names": "_weights",
    "to_rotary_order": "_weights",
    "to_transformers": "_weights",
    "transformers_names": "_weights",
}

__all__ = [  # noqa: PLE0604
    *_FILE_OF,
    "INSTALL_SMOLLM2",
    "SMOLLM2",
    "check_is_gguf",
    "find_smollm2",
    "gguf_path",
]

__getattr__, __dir__ = lazy.names_of(__name__, _FILE_OF, __all__)
