"""Gemma 3: load it, ask it, tune it (sections 16.3 and 16.4).

The functions for any `CausalLM` are in `kerasllm.chat`, `presets`, and
`tuning`. `Gemma` adds the parts that are specific to Gemma 3: its template,
its presets, and images.
"""

import keras_hub

from kerasllm.chat import Chat, ChatModel
from kerasllm.presets import (
    ARCHITECTURES,
    HUGGING_FACE_NAMES,
    KERAS_HUB_NAMES,
    OFFLINE_PRESETS,
    VISION_ARCHITECTURE,
    VISION_NAMES,
    MemoryEstimate,
    UnknownSizeError,
    estimate_memory,
)
from kerasllm.presets import preset_source as _preset_source
from kerasllm.tuning import check_tuning

__all__ = [
    "ARCHITECTURES",
    "HUGGING_FACE_NAMES",
    "KERAS_HUB_NAMES",
    "OFFLINE_PRESETS",
    "VISION_ARCHITECTURE",
    "VISION_NAMES",
    "Chat",
    "Gemma",
    "MemoryEstimate",
    "UnknownSizeError",
    "check_tuning",
    "estimate_memory",
    "preset_source",
]


class Gemma(ChatModel):
    """A Gemma 3 with its prompt template and its generator.

    `kerasllm.chat.ChatModel` documents its methods. Gemma 3 from 4B upward and
    the tiny Gemmas of this package also take images.

    Args:
        causal_lm: a `keras_hub.models.Gemma3CausalLM` with a preprocessor.
        template: `PromptTemplate` or the name of one.

    Example:
    ```python
    gemma = Gemma.from_preset("tiny_instruct")  # or "gemma3_instruct_4b"
    gemma.ask("What is the river of Marnerburg called?")
    ```

    Source: chapter 16, "Using a pretrained LLM".
    """

    _TASK = keras_hub.models.Gemma3CausalLM

    def __init__(self, causal_lm, template="gemma"):
        super().__init__(causal_lm, template)

    @classmethod
    def from_preset(cls, name, dtype=None, template="gemma"):
        """Load a model.

        Args:
            name: `"tiny"` or `"tiny_instruct"`, which come with this package;
                the name of a Gemma 3 preset of KerasHub, such as
                `"gemma3_1b"`, which is downloaded from Kaggle once; a folder
                that `save_to_preset` wrote; or a folder with a Hugging Face
                checkpoint. See `kerasllm.presets.load_causal_lm`.
            dtype: a Keras dtype. Defaults to Keras's own, float32;
                `"bfloat16"` takes half the memory.
            template: `PromptTemplate` or the name of one.

        Returns:
            A `Gemma`.

        Raises:
            UserError: there is no such preset, dtype or template.
            EnvironmentFailure: the preset cannot be downloaded; says what is
                missing.
        """
        return super().from_preset(name, dtype, template)


def preset_source(name):
    """Return what KerasHub should load: a folder or the name itself.

    Args:
        name: str or path; see `kerasllm.presets.preset_source`. Names are
            those of Gemma 3.

    Raises:
        UserError: it is neither a folder nor the name of a preset.
    """
    return _preset_source(name, keras_hub.models.Gemma3CausalLM)
