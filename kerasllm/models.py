"""The mini-GPT of the chapter, and its KerasHub task.

`mini_gpt` is a plain functional model. `MiniGPTCausalLM` is the same network as
a KerasHub task: it takes and returns text and has a key/value cache.
"""

import keras
import keras_hub
import numpy as np
from keras import layers, ops

import kerasllm
from kerasllm.checks import UserError, check_positive_ints, shown
from kerasllm.layers import (
    PositionalEmbedding,
    TransformerDecoder,
    check_dropout,
)
from kerasllm.tokenizers import END_OF_TEXT


def mini_gpt(
    vocabulary_size,
    sequence_length=256,
    hidden_dim=512,
    intermediate_dim=2056,
    num_heads=8,
    num_layers=8,
    dropout=0.1,
    remat=False,
):
    """Build the chapter's GPT as a functional Keras model.

    With the default sizes and a vocabulary of 32,000 it has 41,800,768
    parameters.

    Args:
        vocabulary_size: int. Number of tokens.
        sequence_length: int. Longest input, in tokens.
        hidden_dim: int. Size of the vector at each position. A multiple of
            `num_heads`.
        intermediate_dim: int. Width of the feed-forward layers.
        num_heads: int. Number of attention heads in a block.
        num_layers: int. Number of `TransformerDecoder` blocks.
        dropout: float in `[0, 1)`.
        remat: bool. See `TransformerDecoder`.

    Returns:
        A `keras.Model` that maps int32 token ids `(batch_size, length)`, with
        `length` at most `sequence_length`, to float32 logits
        `(batch_size, length, vocabulary_size)`. The logits at a position
        score the token that comes next.

    Raises:
        UserError: a size is not a positive int, `hidden_dim` is not a multiple
            of `num_heads`, or `dropout` is out of range.

    Source: chapter 16, "Building the model", listing 16.6.
    """
    embedding, layernorm, decoders = _make_layers(
        vocabulary_size,
        sequence_length,
        hidden_dim,
        intermediate_dim,
        num_heads,
        num_layers,
        dropout,
        remat=remat,
    )
    inputs = keras.Input(shape=(None,), dtype="int32", name="token_ids")
    x = layernorm(embedding(inputs))
    for decoder in decoders:
        x = decoder(x)
    outputs = embedding(x, reverse=True)
    return keras.Model(inputs, outputs, name="mini_gpt")


def _make_layers(
    vocabulary_size,
    sequence_length,
    hidden_dim,
    intermediate_dim,
    num_heads,
    num_layers,
    dropout,
    dtype=None,
    remat=False,
):
    """Return the embedding, its LayerNorm and the list of decoder blocks."""
    # Check before building anything: the embedding alone can be gigabytes.
    check_positive_ints(
        vocabulary_size=vocabulary_size,
        sequence_length=sequence_length,
        hidden_dim=hidden_dim,
        intermediate_dim=intermediate_dim,
        num_heads=num_heads,
        num_layers=num_layers,
    )
    check_dropout(dropout)
    embedding = PositionalEmbedding(
        sequence_length,
        vocabulary_size,
        hidden_dim,
        dtype=dtype,
        name="embedding",
    )
    layernorm = layers.LayerNormalization(
        dtype=dtype, name="embedding_layernorm"
    )
    decoders = [
        TransformerDecoder(
            hidden_dim,
            intermediate_dim,
            num_heads,
            dropout,
            remat,
            dtype=dtype,
            name=f"decoder_{i}",
        )
        for i in range(num_layers)
    ]
    return embedding, layernorm, decoders


@keras.saving.register_keras_serializable(package="kerasllm")
class MiniGPTBackbone(keras_hub.models.Backbone):
    """`mini_gpt` up to its last hidden states, as a KerasHub backbone.

    Args:
        vocabulary_size: int. See `mini_gpt`, as for the next six.
        sequence_length: int.
        hidden_dim: int.
        intermediate_dim: int.
        num_heads: int.
        num_layers: int.
        dropout: float in `[0, 1)`.
        dtype: dtype or policy of computations and weights.
        **kwargs: `name` and so on, as for every Keras model.

    Its inputs are `token_ids` and `padding_mask`, both int32
    `(batch_size, length)`. Its output is a float tensor
    `(batch_size, length, hidden_dim)`.
    """

    def __init__(
        self,
        vocabulary_size,
        sequence_length=256,
        hidden_dim=512,
        intermediate_dim=2056,
        num_heads=8,
        num_layers=8,
        dropout=0.1,
        dtype=None,
        **kwargs,
    ):
        sizes = {
            "vocabulary_size": vocabulary_size,
            "sequence_length": sequence_length,
            "hidden_dim": hidden_dim,
            "intermediate_dim": intermediate_dim,
            "num_heads": num_heads,
            "num_layers": num_layers,
            "dropout": dropout,
        }
        self.embedding, self.embedding_layernorm, self.decoders = _make_layers(
            **sizes, dtype=dtype
        )
        token_ids = keras.Input((None,), dtype="int32", name="token_ids")
        padding_mask = keras.Input((None,), dtype="int32", name="padding_mask")
        x = self.embedding_layernorm(self.embedding(token_ids))
        for decoder in self.decoders:
            x = decoder(x, padding_mask=padding_mask)
        super().__init__(
            inputs={"token_ids": token_ids, "padding_mask": padding_mask},
            outputs=x,
            dtype=dtype,
            **kwargs,
        )
        self._sizes = {k: np.array(v).item() for k, v in sizes.items()}  # JSON
        for size, value in self._sizes.items():
            setattr(self, size, value)

    def get_config(self):
        return super().get_config() | self._sizes


@keras.saving.register_keras_serializable(package="kerasllm")
class MiniGPTTokenizer(keras_hub.tokenizers.SentencePieceTokenizer):
    """A SentencePiece tokenizer with `<|endoftext|>` as its special token.

    This token ends a text and, if requested, also starts it.

    Args:
        proto: a SentencePiece model as `bytes` or the path of one.
        **kwargs: `name` and so on, as for every KerasHub tokenizer.

    Raises:
        UserError: the vocabulary has no `<|endoftext|>`.
    """

    backbone_cls = MiniGPTBackbone

    def __init__(self, proto, **kwargs):
        for role in ("start_token", "end_token"):
            self._add_special_token(END_OF_TEXT, role)
        # Padding must differ from the end token, or KerasHub's loop would stop.
        self.pad_token_id = 0
        super().__init__(proto=proto, **kwargs)


@keras.saving.register_keras_serializable(package="kerasllm")
class MiniGPTCausalLMPreprocessor(keras_hub.models.CausalLMPreprocessor):
    """Turns strings into sequences of tokens for `MiniGPTCausalLM`.

    Args:
        tokenizer: a `MiniGPTTokenizer`.
        sequence_length: int. Length of the sequences in training.
        add_start_token: bool. Whether a text begins with `<|endoftext|>`. By
            default it does not, because pretraining windows begin anywhere.
        add_end_token: bool. Whether a training text ends with `<|endoftext|>`.
        **kwargs: `name` and so on, as for every KerasHub preprocessor.
    """

    backbone_cls = MiniGPTBackbone
    tokenizer_cls = MiniGPTTokenizer

    def __init__(
        self,
        tokenizer,
        sequence_length=256,
        add_start_token=False,
        add_end_token=True,
        **kwargs,
    ):
        super().__init__(
            tokenizer, sequence_length, add_start_token, add_end_token, **kwargs
        )

    def generate_preprocess(self, x, sequence_length=None):
        # The parent always begins a prompt with the start token.
        if not self.built:
            self.build(None)
        token_ids, padding_mask = self.packer(
            self.tokenizer(x),
            sequence_length=sequence_length,
            add_start_value=self.add_start_token,
            add_end_value=False,
        )
        return {"token_ids": token_ids, "padding_mask": padding_mask}


@keras.saving.register_keras_serializable(package="kerasllm")
class MiniGPTCausalLM(keras_hub.models.CausalLM):
    """The mini-GPT as a KerasHub task: `fit` and `generate` on strings.

    Args:
        backbone: a `MiniGPTBackbone`.
        preprocessor: a `MiniGPTCausalLMPreprocessor`. With `None`, the task
            takes and returns token ids instead of strings.
        **kwargs: `name` and so on, as for every Keras model.

    Like every KerasHub task, it has `compile(sampler=...)`, `save_to_preset`,
    `from_preset` and `backbone.enable_lora`.

    Example:
    ```python
    causal_lm = MiniGPTCausalLM.from_mini_gpt(model, tokenizer)
    causal_lm.compile(sampler="greedy")
    causal_lm.generate("Once upon a time", max_length=64)
    ```
    """

    backbone_cls = MiniGPTBackbone
    preprocessor_cls = MiniGPTCausalLMPreprocessor
    # `call_with_cache` never branches on the value of an array, so its
    # operations can be recorded once for all positions.
    traceable = True
    # Each sequence of a batch may be at a different position.
    takes_positions = True

    def __init__(self, backbone, preprocessor=None, **kwargs):
        self.backbone = backbone
        self.preprocessor = preprocessor
        inputs = backbone.input
        outputs = self.to_logits(backbone(inputs))
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)

    @classmethod
    def from_mini_gpt(cls, model, tokenizer=None):
        """Return a task with the weights of a `mini_gpt`.

        Args:
            model: what `mini_gpt` returned.
            tokenizer: the `SentencePieceTokenizer` it was trained with;
                `None` for a task without a preprocessor.

        Returns:
            A `MiniGPTCausalLM` with its own copy of the weights.

        Raises:
            UserError: `model` is not a `mini_gpt`, or the vocabularies differ.
        """
        try:
            embedding = model.get_layer("embedding")
            decoders = [
                layer
                for layer in model.layers
                if isinstance(layer, TransformerDecoder)
            ]
            first = decoders[0]
        except (AttributeError, ValueError, IndexError):
            raise UserError(
                "`model` must be what `mini_gpt` returns. Received: "
                f"{shown(model)}. Build one with it and give it your weights."
            ) from None
        vocabulary_size = embedding.input_dim
        if tokenizer and tokenizer.vocabulary_size() != vocabulary_size:
            raise UserError(
                "The tokenizer must have as many tokens as the model, "
                f"{vocabulary_size}. Received: {tokenizer.vocabulary_size()}. "
                "Use the tokenizer that the model was trained with."
            )
        backbone = MiniGPTBackbone(
            vocabulary_size,
            embedding.sequence_length,
            embedding.output_dim,
            first.intermediate_dim,
            first.num_heads,
            len(decoders),
            first.dropout_rate,
            dtype=embedding.dtype_policy,
        )
        backbone.set_weights(model.get_weights())
        preprocessor = tokenizer and MiniGPTCausalLMPreprocessor(
            MiniGPTTokenizer(tokenizer.proto),
            sequence_length=embedding.sequence_length,
        )
        return cls(backbone, preprocessor)

    def to_mini_gpt(self):
        """Return a `mini_gpt` with a copy of this task's weights."""
        model = mini_gpt(**self.backbone._sizes)
        model.set_weights(self.backbone.get_weights())
        return model

    def call_with_cache(self, token_ids, cache, cache_update_index):
        """Read new tokens, given the keys and values of those before them.

        Args:
            token_ids: int32 `(batch_size, length)`, the new tokens only.
            cache: a tuple with the cache of each decoder block, as
                `TransformerDecoder` takes it. Its memory may be reused.
            cache_update_index: int or int32 scalar tensor. Position of the
                first new token; or int32 `(batch_size,)`, one position for
                each sequence, each with one new token.

        Returns:
            float32 logits `(batch_size, length, vocabulary_size)`, hidden
            states `(batch_size, length, hidden_dim)` and the next cache.
        """
        x = self.backbone.embedding(token_ids, start_index=cache_update_index)
        x = self.backbone.embedding_layernorm(x)
        next_cache = []
        for decoder, decoder_cache in zip(
            self.backbone.decoders, cache, strict=True
        ):
            x, decoder_cache = decoder(
                x,
                cache=decoder_cache,
                cache_update_index=cache_update_index,
            )
            next_cache.append(decoder_cache)
        return self.to_logits(x), x, tuple(next_cache)

    def to_logits(self, hidden_states):
        """Map hidden states `(..., hidden_dim)` to float32 logits."""
        return self.backbone.embedding(hidden_states, reverse=True)

    def _build_cache(self, token_ids):
        """Return the hidden states and cache of a text, as KerasHub expects."""
        cache = tuple(
            tuple(
                ops.zeros(shape, self.compute_dtype)
                for shape in decoder.cache_shapes(*ops.shape(token_ids))
            )
            for decoder in self.backbone.decoders
        )
        _, hidden_states, cache = self.call_with_cache(token_ids, cache, 0)
        return hidden_states, cache

    # This is KerasHub's own loop. It needs only the two methods above.
    generate_step = keras_hub.models.GPT2CausalLM.generate_step


def __getattr__(name):
    # Recipes have moved; they import this room, so they are found by name.
    if name in ("Recipe", "RECIPES", "get_recipe"):
        return getattr(kerasllm.recipes, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
