"""The Llama model of a GGUF file, as a KerasHub task."""

import keras
import keras_hub

from kerasllm.tokenizers import FastTokenizer


@keras.saving.register_keras_serializable(package="kerasllm")
class GGUFBackbone(keras_hub.models.Llama3Backbone):
    """KerasHub's Llama 3, with tied embeddings in its configuration.

    Small models compute logits with the embedding of their tokens. KerasHub's
    class supports this but does not save the setting, so its presets would be
    loaded as a different model.

    Args:
        context_length: int. Number of tokens of the longest text that it was
            trained on.
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

    A text begins with the start token only if the file says so.
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
