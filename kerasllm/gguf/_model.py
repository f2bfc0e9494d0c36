"""Llama as a GGUF file has it, as a task of KerasHub."""

import keras
import keras_hub

from kerasllm.tokenizers import FastTokenizer


@keras.saving.register_keras_serializable(package="kerasllm")
class GGUFBackbone(keras_hub.models.Llama3Backbone):
    """KerasHub's Llama 3, which remembers whether it shares its embedding.

    Small models score with the embedding of their tokens. KerasHub's class
    can do so, but leaves it out of its configuration, and a preset of it
    would be loaded as another model.

    Args:
        context_length: int. The longest text that it was trained on, in
            tokens.
        **kwargs: as for `keras_hub.models.Llama3Backbone`.
    """

    def __init__(self, *args, context_length=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.context_length = context_length

    def get_config(self):
        return super().get_config() | {
            "tie_word_embeddings": self.tie_word_embeddings,
            "context_length": self.context_length,
        }


@keras.saving.register_keras_serializable(package="kerasllm")
class GGUFTokenizer(FastTokenizer):
    """The tokenizer of a GGUF file; see `kerasllm.tokenizers.FastTokenizer`."""

    backbone_cls = GGUFBackbone


@keras.saving.register_keras_serializable(package="kerasllm")
class GGUFCausalLMPreprocessor(keras_hub.models.CausalLMPreprocessor):
    """Turns strings into sequences of tokens for `GGUFCausalLM`.

    A text begins with the start token if the file says so, and with none
    otherwise.
    """

    backbone_cls = GGUFBackbone
    tokenizer_cls = GGUFTokenizer


@keras.saving.register_keras_serializable(package="kerasllm")
class GGUFCausalLM(keras_hub.models.Llama3CausalLM):
    """A model of the Llama family that was read from a GGUF file.

    `kerasllm.presets.load_causal_lm("smollm2")`, or the path of a file, loads
    one.

    Args:
        backbone: a `GGUFBackbone`.
        preprocessor: a `GGUFCausalLMPreprocessor`, or `None`.
        **kwargs: `name` and so on, as for every Keras model.
    """

    backbone_cls = GGUFBackbone
    preprocessor_cls = GGUFCausalLMPreprocessor
