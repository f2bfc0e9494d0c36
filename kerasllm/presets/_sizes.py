"""The sizes of models that are not loaded."""

import json
import math
import pathlib

import keras_hub
import safetensors

from kerasllm.checks import UserError, shown
from kerasllm.presets._failures import explain_failure
from kerasllm.presets._names import is_run

KERAS_HUB_NAMES = (
    "hidden_dim",
    "num_layers",
    "num_query_heads",
    "num_key_value_heads",
    "head_dim",
)
HUGGING_FACE_NAMES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
# In the same order, as Google published them. Gemma Team, 2025,
# arXiv:2503.19786.
ARCHITECTURES = {
    "270m": (640, 18, 4, 1, 256),
    "1b": (1152, 26, 4, 1, 256),
    "4b": (2560, 34, 8, 4, 256),
    "12b": (3840, 48, 16, 8, 256),
    "27b": (5376, 62, 32, 16, 128),
}
# Those from 4B upward have a vision encoder, all the same but for the width
# of its output.
VISION_NAMES = (
    ("hidden_dim", "hidden_size"),
    ("num_layers", "num_hidden_layers"),
    ("intermediate_dim", "intermediate_size"),
    ("patch_size", "patch_size"),
    ("image_size", "image_size"),
)
VISION_ARCHITECTURE = (1152, 27, 4304, 14, 896)


class UnknownSizeError(UserError):
    """The size of a model is unknown before it is loaded."""


def published_sizes(name):
    """Return the sizes of a preset of Gemma 3, by its name.

    Returns:
        The number of parameters, the sizes of `KERAS_HUB_NAMES`, and those of
        `VISION_NAMES`, or nothing for a model without a vision encoder.

    Raises:
        UnknownSizeError: it is none.
    """
    # An address is among neither.
    presets = keras_hub.models.Gemma3CausalLM.presets
    sizes = [size for size in ARCHITECTURES if size in name.split("_")]
    if name not in presets or not sizes:
        raise UnknownSizeError(
            "`name` must be a folder or a preset of KerasHub of a Gemma 3 "
            f"whose sizes were published: {', '.join(ARCHITECTURES)}. "
            f"Received: {shown(name, 200)}."
        )
    parameters = presets[name]["metadata"]["params"]
    is_text_only = sizes[0] in ("270m", "1b") or "text" in name
    vision = () if is_text_only else VISION_ARCHITECTURE
    return parameters, ARCHITECTURES[sizes[0]], vision


def read_sizes(folder):
    """Return the sizes of the preset or checkpoint in a folder.

    Args:
        folder: str or path.

    Returns:
        See `published_sizes`.

    Raises:
        UnknownSizeError: its configuration does not say them.
        UserError: it holds no preset.
    """
    folder = pathlib.Path(folder)
    if is_run(folder):
        raise UnknownSizeError(
            "`name` must be a model whose configuration tells its sizes. "
            f"Received: {folder}, the folder of a pretraining run."
        )
    try:
        config = json.loads((folder / "config.json").read_text())
        if "model_type" in config:
            return _read_hugging_face(folder, config)
        metadata = json.loads((folder / "metadata.json").read_text())
        config = config["config"]
        vision = (config.get("vision_encoder") or {}).get("config")
        return (
            metadata["parameter_count"],
            _read_architecture(config),
            vision and [vision[name] for name, _ in VISION_NAMES],
        )
    except KeyError as error:
        raise UnknownSizeError(
            "`name` must be a model whose configuration tells its sizes. "
            f"Received: {folder}, whose configuration has no {error}."
        ) from error
    except safetensors.SafetensorError as error:
        raise explain_failure(folder, folder, error) from error
    except (OSError, json.JSONDecodeError) as error:
        raise explain_failure(folder, folder, error) from error


def _read_architecture(config):
    """Return the sizes of `KERAS_HUB_NAMES` in a configuration of KerasHub.

    GPT-2 and mini-GPT have as many heads for keys as for queries, and like
    Llama a head as wide as its share of the model.
    """
    hidden_dim, num_layers = config["hidden_dim"], config["num_layers"]
    if "num_query_heads" in config:
        num_heads = config["num_query_heads"]
        num_kv_heads = config["num_key_value_heads"]
    else:
        num_heads = num_kv_heads = config["num_heads"]
    head_dim = config.get("head_dim") or hidden_dim // num_heads
    return hidden_dim, num_layers, num_heads, num_kv_heads, head_dim


def _read_hugging_face(folder, config):
    """Count parameters in the headers of the safetensors files."""
    # As KerasHub looks for them.
    names = {"model.safetensors"}
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text())["weight_map"].values())
    parameters = 0
    for name in sorted(names):
        with safetensors.safe_open(folder / name, framework="np") as file:
            parameters += sum(
                math.prod(file.get_slice(key).get_shape())
                for key in file.keys()
            )
    if not parameters:
        raise OSError("its safetensors files hold no weights")
    vision = config.get("vision_config")
    config = config.get("text_config", config)
    # What KerasHub takes where a published configuration is silent.
    config = {"num_attention_heads": 8, "num_key_value_heads": 4} | config
    return (
        parameters,
        [config[name] for name in HUGGING_FACE_NAMES],
        vision and [vision[name] for _, name in VISION_NAMES],
    )
