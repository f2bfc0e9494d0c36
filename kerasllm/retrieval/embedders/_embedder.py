"""An embedder: a backbone, the pooling of its hidden states, and length 1."""

import re

import keras
import keras_hub
import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.checks import (
    UserError,
    check_choice,
    check_int,
    check_list,
    check_text,
    shown,
)
from kerasllm.generation import position_tables
from kerasllm.presets import load_causal_lm
from kerasllm.prompts import encode_all, start_tokens
from kerasllm.tuning import LastToken, by_length, copy_backbone, model_inputs

POOLINGS = ("mean", "last")
_LONGEST = 512  # tokens of a text, where no position table sets a limit


@keras.saving.register_keras_serializable(package="kerasllm")
class MeanOfTokens(keras.Layer):
    """Averages the hidden states of all tokens, and not of the padding."""

    def call(self, hidden_states, padding_mask):
        """Return the mean hidden states.

        Args:
            hidden_states: float `(batch_size, length, hidden_dim)`.
            padding_mask: bool or int `(batch_size, length)`, true for every
                token.

        Returns:
            float `(batch_size, hidden_dim)`.
        """
        mask = ops.cast(padding_mask, "bool")[..., None]
        # Not a product: what stands at the padding may be no number.
        sums = ops.sum(ops.where(mask, hidden_states, 0), axis=1)
        counts = ops.sum(ops.cast(mask, hidden_states.dtype), axis=1)
        return sums / ops.maximum(counts, 1)

    def compute_output_spec(self, hidden_states, padding_mask):
        batch_size, _, hidden_dim = hidden_states.shape
        return keras.KerasTensor((batch_size, hidden_dim), hidden_states.dtype)


@keras.saving.register_keras_serializable(package="kerasllm")
class Embedder(keras.Model):
    """A language model that turns each text into one vector.

    The hidden states of a text are pooled and scaled to length 1, so that the
    product of two vectors is the cosine of the angle between them. The vector
    of a text does not depend on the texts next to it: texts of similar length
    are read together, and the padding is left out.

    The hidden states of a model that has learned to predict the next token
    say little about what a text is about. `train_embedder` teaches that.

    Args:
        backbone: a `keras_hub.models.CausalLM`, of which the embedder gets a
            copy, so that training the one does not change the other. If it
            has adapters, they are merged in the copy. Or any backbone of
            KerasHub for text, which becomes part of the embedder and is not
            copied.
        preprocessor: a preprocessor of KerasHub, whose tokenizer reads the
            texts. Defaults to that of the `CausalLM`.
        pooling: str. `"mean"` averages the hidden states of all tokens.
            `"last"` takes that of the end token, which is put after the text:
            in a decoder it is the only one that has seen all of it.
        sequence_length: int. Longer texts are cut to so many tokens. Defaults
            to the length of the position table, or to 512 if there is none.
        **kwargs: `name` and so on, as for every Keras model. A `Store`
            remembers the name.

    As a Keras model, it maps the inputs of its backbone, `token_ids` and
    `padding_mask` of shape `(batch_size, length)`, to float32 vectors
    `(batch_size, hidden_dim)`. Called with a list of strings, it returns what
    `predict` returns, and so it is the embedder of a `Store`.

    Attributes:
        backbone: the backbone.
        preprocessor: the preprocessor.
        pooling: str.
        sequence_length: int.

    Raises:
        UserError: `backbone` is something else, there is no preprocessor, or
            an argument breaks a rule.

    Source: section 16.4.3 of the chapter; Reimers and Gurevych, 2019,
    arXiv:1908.10084 (mean pooling); Wang et al., 2024, arXiv:2401.00368 (the
    last token of a decoder).

    Example:
    ```python
    embedder = Embedder.from_preset("mini_gpt_docs")
    vectors = embedder(["What is a list?", "A list holds items."])
    vectors[0] @ vectors[1]  # their similarity
    with Store("guide.sqlite", embedder) as store:
        ...
    embedder.save("embedder.keras")
    embedder = keras.saving.load_model("embedder.keras")
    ```
    """

    def __init__(
        self,
        backbone,
        preprocessor=None,
        pooling="mean",
        sequence_length=None,
        **kwargs,
    ):
        if isinstance(backbone, keras_hub.models.CausalLM):
            if preprocessor is None:
                preprocessor = backbone.preprocessor
            backbone = copy_backbone(backbone.backbone)
        _check_parts(backbone, preprocessor)
        check_choice("pooling", pooling, POOLINGS)
        longest = min(position_tables(backbone), default=None)
        if sequence_length is None:
            sequence_length = longest or _LONGEST
        check_int("sequence_length", sequence_length, 3, longest)
        inputs = backbone.input
        states = backbone(inputs)
        if isinstance(states, dict):  # of BERT and its like
            states = states["sequence_output"]
        pool = {"mean": MeanOfTokens, "last": LastToken}[pooling]
        vectors = keras.layers.UnitNormalization(dtype="float32", name="unit")(
            pool(dtype="float32", name="pooling")(
                states, inputs["padding_mask"]
            )
        )  # (batch_size, hidden_dim)
        # Keras would number the names, and a store remembers them.
        kwargs.setdefault("name", f"{type(backbone).__name__}_{pooling}")
        super().__init__(inputs=inputs, outputs=vectors, **kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.pooling = pooling
        self.sequence_length = sequence_length
        # `compile` asks the model whether float16 makes it scale the loss.
        self.dtype_policy = backbone.dtype_policy

    @classmethod
    def from_preset(
        cls, name, pooling="mean", sequence_length=None, dtype=None
    ):
        """Make an embedder of a pretrained `CausalLM`.

        Args:
            name: str or path, as for `kerasllm.ChatModel.from_preset`.
            pooling: str, as for `Embedder`.
            sequence_length: int, as for `Embedder`.
            dtype: a Keras dtype. Defaults to Keras's own, float32.

        Returns:
            An `Embedder`, whose name is that of the preset and the pooling.

        Raises:
            UserError, EnvironmentFailure: as `ChatModel.from_preset`.
        """
        causal_lm = load_causal_lm(name, dtype)
        plain = re.sub(r"[^A-Za-z0-9.]+", "_", str(name)).strip("_")
        return cls(
            causal_lm.backbone,
            causal_lm.preprocessor,
            pooling,
            sequence_length,
            name=f"{plain}_{pooling}",
        )

    def __call__(self, inputs, *args, **kwargs):
        """Return the vectors of tokens, or of a list of strings."""
        if isinstance(inputs, dict):
            return super().__call__(inputs, *args, **kwargs)
        return self.predict(inputs, *args, **kwargs)

    def predict(self, texts, batch_size=32):
        """Return the vectors of texts.

        Args:
            texts: list of str. The vector of an empty one is that of its
                special tokens, or zeros if there are none.
            batch_size: int. Texts that are read together.

        Returns:
            float32 NumPy array `(len(texts), hidden_dim)`.

        Raises:
            UserError: `texts` is no list, or one of them is not text.
        """
        batch_size = check_int("batch_size", batch_size, 1)
        tokens = self.tokenize(texts)
        vectors = np.zeros((len(tokens), self.output_shape[-1]), "float32")
        function = backend.companion_of(self, "_compiled_vectors", _compiled)
        for numbers in by_length(tokens, batch_size):
            numbers = [i for i in numbers if len(tokens[i])]
            if not numbers:
                continue
            inputs = embedder_inputs(self, [tokens[i] for i in numbers])
            found = ops.convert_to_numpy(function(inputs))
            vectors[numbers] = found[: len(numbers)]
        return vectors

    def tokenize(self, texts):
        """Return the tokens that the model reads of each text.

        Args:
            texts: list of str.

        Returns:
            list of int32 arrays of at most `sequence_length` tokens: the
            start token, if there is one, the text, and with the pooling
            `"last"` the end token.
        """
        texts = _check_texts(texts)
        tokenizer = self.preprocessor.tokenizer
        start, end = start_tokens(tokenizer), []
        is_bidirectional = "segment_ids" in self.input
        if self.pooling == "last" or is_bidirectional:
            end_id = getattr(tokenizer, "end_token_id", None)
            end = [] if end_id is None else [end_id]
        room = self.sequence_length - len(start) - len(end)
        encoded = encode_all(tokenizer, [[(text, False)] for text in texts])
        return [
            np.array([*start, *ids[:room], *end], "int32") for ids in encoded
        ]

    def get_config(self):
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "preprocessor": keras.saving.serialize_keras_object(
                self.preprocessor
            ),
            "pooling": self.pooling,
            "sequence_length": self.sequence_length,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("backbone", "preprocessor")
        }
        return cls(**config | parts)


def embedder_inputs(embedder, tokens):
    """Return sequences as what an embedder reads; see `model_inputs`.

    Args:
        embedder: `Embedder`.
        tokens: list of int arrays that are not empty.
    """
    inputs = model_inputs(embedder, tokens)
    if "segment_ids" in embedder.input:  # of BERT: all of it is one segment
        inputs["segment_ids"] = np.zeros_like(inputs["token_ids"])
    return {name: inputs[name] for name in embedder.input}


def _compiled(embedder, _):
    def vectors(inputs):
        return embedder(inputs, training=False)

    return backend.compiled(vectors, embedder.variables, record=False)


def _check_parts(backbone, preprocessor):
    if not isinstance(backbone, keras_hub.models.Backbone):
        raise UserError(
            "`backbone` must be a `CausalLM` or a backbone of KerasHub. "
            f"Received: {shown(backbone)}. Pass the model whose hidden states "
            "the vectors are made of; a `Store` takes a `TextEmbedder` as it "
            "is."
        )
    if not hasattr(preprocessor, "tokenizer"):
        raise UserError(
            "An embedder must have a preprocessor, because it reads text. "
            f"Received: preprocessor={shown(preprocessor)}. Pass that of a "
            "`CausalLM` with the same vocabulary."
        )


def _check_texts(texts):
    texts = check_list("texts", texts, "a list of strings")
    for text in texts:
        check_text("texts", text)
    return texts
