"""The memory that a model needs, estimated before it is loaded."""

import dataclasses
import os

from kerasllm import lora
from kerasllm.presets._finding import check_dtype, preset_source
from kerasllm.presets._sizes import published_sizes, read_sizes


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """The memory that a model needs, not counting activations.

    Attributes:
        parameters: int.
        lora_parameters: int. Those of adapters on query and value.
        weights_bytes: int.
        adam_bytes: int. Weights, gradients and Adam's two moments.
        lora_bytes: int. Weights, adapters, their gradients and moments.
    """

    parameters: int
    lora_parameters: int
    weights_bytes: int
    adam_bytes: int
    lora_bytes: int

    def __str__(self):
        needs = (
            ("weights, to generate", self.weights_bytes),
            ("full fine-tuning with Adam", self.adam_bytes),
            ("LoRA", self.lora_bytes),
        )
        lines = [f"{self.parameters:,} parameters"]
        lines += [f"{name:28}{size / 2**30:9.2f} GiB" for name, size in needs]
        return "\n".join(lines)


def estimate_memory(name, dtype="float32", rank=8):
    """Estimate the memory of a model without loading or downloading it.

    Args:
        name: the name of a preset of Gemma 3, or a folder with any preset;
            see `load_causal_lm`.
        dtype: a Keras dtype for weights and optimizer. With a mixed policy,
            they are float32. A vision encoder and adapters are always float32.
        rank: int. That of the adapters.

    Returns:
        A `MemoryEstimate`.

    Raises:
        UserError: there is no such preset or dtype.
        UnknownSizeError: there may be such a preset, but its size is unknown,
            as for every address such as `"hf://..."`.
    """
    policy = check_dtype(dtype)
    lora.check_rank(rank)
    source = preset_source(name)
    is_folder = os.path.isdir(source)
    sizes = read_sizes(source) if is_folder else published_sizes(source)
    parameters, architecture, vision = sizes
    hidden_dim, num_layers, num_heads, num_kv_heads, head_dim = architecture
    # Keras's adapters of a kernel with the sizes heads, hidden_dim, head_dim.
    per_layer = (num_heads + num_kv_heads) * hidden_dim + 2 * head_dim
    adapters = num_layers * rank * per_layer
    width = 2 if "16" in policy.variable_dtype else 4
    # KerasHub has the vision encoder, and Keras the adapters, in float32.
    in_encoder = _count_vision(*vision, hidden_dim) if vision else 0
    weights_bytes = width * (parameters - in_encoder) + 4 * in_encoder
    return MemoryEstimate(
        parameters=parameters,
        lora_parameters=adapters,
        weights_bytes=weights_bytes,
        adam_bytes=4 * weights_bytes,
        lora_bytes=weights_bytes + 4 * 4 * adapters,
    )


def _count_vision(
    width, num_layers, intermediate_dim, patch_size, image_size, output_dim
):
    """Return the number of parameters of a vision encoder: an int."""
    patches = 3 * patch_size**2 * width + width
    positions = (image_size // patch_size) ** 2 * width
    norm = 2 * width
    attention = 4 * (width**2 + width)
    feed_forward = 2 * width * intermediate_dim + intermediate_dim + width
    layer = attention + feed_forward + 2 * norm
    output = width + width * output_dim  # a norm without a bias; a projection
    return patches + positions + num_layers * layer + norm + output
