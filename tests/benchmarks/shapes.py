"""The models that `tests.benchmarks.decode` compares, with random weights.

Each shape has three makers. They return a KerasHub model that ours reads, the
KerasHub model that its own `generate` reads, and that of Hugging Face.
"""

import dataclasses

import keras_hub
import numpy as np
import transformers

from kerasllm.models import MiniGPTBackbone, MiniGPTCausalLM, get_recipe
from tests.benchmarks.gpt2 import make_gpt2


class Numbers:
    """Tokenizer and preprocessor of texts that are numbers: "3 14 15"."""

    def __init__(self, size, sequence_length):
        self.size, self.sequence_length = size, sequence_length
        self.tokenizer = self

    def __call__(self, text):
        return np.array(text.split(), "int32")

    def detokenize(self, token_ids):
        return " ".join(map(str, token_ids))

    def vocabulary_size(self):
        return self.size

    def generate_preprocess(self, prompts, sequence_length):
        token_ids = np.zeros((len(prompts), sequence_length), "int32")
        padding_mask = np.zeros_like(token_ids)
        for i, prompt in enumerate(prompts):
            row = self(prompt)
            token_ids[i, : len(row)] = row
            padding_mask[i, : len(row)] = 1
        return {"token_ids": token_ids, "padding_mask": padding_mask}


class Book:
    """The mini-GPT of the chapter, and GPT-2 in its sizes."""

    length = 256  # of a text, prompt included
    keras_hubs, hugging_faces = "KerasHub GPT-2", "Hugging Face GPT-2"

    def __init__(self):
        self.recipe = recipe = get_recipe("book")
        self.vocabulary_size = recipe.vocabulary_size
        self.sizes = (
            recipe.hidden_dim,
            recipe.intermediate_dim,
            recipe.num_heads,
            recipe.num_layers,
        )

    def ours(self, dtype):
        backbone = MiniGPTBackbone(
            self.vocabulary_size, self.length, *self.sizes, dtype=dtype
        )
        return MiniGPTCausalLM(backbone)

    def keras_hub(self, dtype):
        hidden_dim, intermediate_dim, num_heads, num_layers = self.sizes
        backbone = keras_hub.models.GPT2Backbone(
            self.vocabulary_size,
            num_layers,
            num_heads,
            hidden_dim,
            intermediate_dim,
            max_sequence_length=self.length,
            dtype=dtype,
        )
        return keras_hub.models.GPT2CausalLM(backbone)

    def hugging_face(self):
        return make_gpt2(
            self.recipe, bos_token_id=0, eos_token_id=None, pad_token_id=0
        )


@dataclasses.dataclass
class Llama:
    """SmolLM2 with 135 million parameters (Allal et al., 2025)."""

    length: int = 76
    vocabulary_size: int = 49_152
    num_layers: int = 30
    hidden_dim: int = 576
    intermediate_dim: int = 1536
    num_heads: int = 9
    num_key_value_heads: int = 3
    keras_hubs: str = "KerasHub"
    hugging_faces: str = "Hugging Face"

    def ours(self, dtype):
        backbone = keras_hub.models.Llama3Backbone(
            vocabulary_size=self.vocabulary_size,
            num_layers=self.num_layers,
            num_query_heads=self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            hidden_dim=self.hidden_dim,
            intermediate_dim=self.intermediate_dim,
            rope_max_wavelength=100_000,
            tie_word_embeddings=True,
            dtype=dtype,
        )
        return keras_hub.models.Llama3CausalLM(backbone, None)

    keras_hub = ours

    def hugging_face(self):
        return transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                rope_theta=100_000.0, tie_word_embeddings=True, **self.sizes()
            )
        )

    def sizes(self):
        """Return the arguments of a configuration of Hugging Face."""
        return {
            "vocab_size": self.vocabulary_size,
            "hidden_size": self.hidden_dim,
            "intermediate_size": self.intermediate_dim,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "bos_token_id": 0,
            "eos_token_id": None,
            "pad_token_id": 0,
        }


@dataclasses.dataclass
class Gemma(Llama):
    """The text model of Gemma 3 with one billion parameters."""

    vocabulary_size: int = 262_144
    num_layers: int = 26
    hidden_dim: int = 1152
    intermediate_dim: int = 6912
    num_heads: int = 4
    num_key_value_heads: int = 1
    head_dim: int = 256
    window: int = 512

    def ours(self, dtype):
        backbone = keras_hub.models.Gemma3Backbone(
            vocabulary_size=self.vocabulary_size,
            image_size=None,
            num_layers=self.num_layers,
            num_query_heads=self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            hidden_dim=self.hidden_dim,
            intermediate_dim=self.intermediate_dim,
            head_dim=self.head_dim,
            use_query_key_norm=True,
            use_post_ffw_norm=True,
            use_post_attention_norm=True,
            use_sliding_window_attention=True,
            sliding_window_size=self.window,
            vision_encoder=None,
            dtype=dtype,
        )
        return keras_hub.models.Gemma3CausalLM(None, backbone)

    keras_hub = ours

    def hugging_face(self):
        return transformers.Gemma3ForCausalLM(
            transformers.Gemma3TextConfig(
                head_dim=self.head_dim,
                sliding_window=self.window,
                **self.sizes(),
            )
        )


SHAPES = {"book": Book, "smollm2": Llama, "gemma3_1b": Gemma}
