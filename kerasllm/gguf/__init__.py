"""GGUF files: models of the Llama family, quantized and in one file.

llama.cpp and its relatives run such files. Here they are read, into KerasHub:
sizes, vocabulary, prompt template and weights. What has been read is kept on
disk as a preset, so that it is done once. `"smollm2"` is the file of a Python
package, a real pretrained model that needs no network but for installing it.

The layers stand in `keras_hub.models.Llama3CausalLM`.
"""

from kerasllm import lazy
from kerasllm.gguf._names import (
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
    "SMOLLM2",
    "check_is_gguf",
    "find_smollm2",
    "gguf_path",
]

__getattr__, __dir__ = lazy.names_of(__name__, _FILE_OF, __all__)
