"""A loss that never holds the logits of a whole batch in memory.

With 32,000 tokens in the vocabulary, the logits of a batch are by far the
largest array of a step: 4.2 GB for 128 x 256 tokens in float32, and the same
again for their gradient. `training_model` computes them for a few positions at
a time, and again in the backward pass (gradient checkpointing).
"""

import keras
from keras import ops

from kerasllm import backend
from kerasllm.checks import UserError, check_positive_ints, shown
from kerasllm.layers import TransformerDecoder


class NextTokenLoss(keras.Layer):
    """Scores hidden states against labels, a few positions at a time.

    Args:
        embedding: layer that maps hidden states to logits when it is called
            with `reverse=True`, such as a `PositionalEmbedding`.
        num_chunks: int. Number of chunks that the sequence is split into. The
            logits of one chunk at a time are in memory.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Raises:
        UserError: `num_chunks` is not a positive int, or the inputs have no
            fixed length.

    Source: Chen et al., 2016, arXiv:1604.06174 (gradient checkpointing:
    recompute what is too large to keep).
    """

    def __init__(self, embedding, num_chunks=8, **kwargs):
        super().__init__(**kwargs)
        check_positive_ints(num_chunks=num_chunks)
        self.embedding = embedding
        self.num_chunks = num_chunks

    def call(self, hidden_states, labels):
        """Return each token's loss, and whether it was the most likely token.

        Args:
            hidden_states: float `(batch_size, length, hidden_dim)`.
            labels: int `(batch_size, length)`, the tokens that come next.

        Returns:
            float32 `(batch_size, length, 2)`: the cross-entropy in nats, which
            has a gradient, and 1 or 0, which has no gradient.
        """
        length = hidden_states.shape[1]
        if length is None:
            raise UserError(
                "The sequence must have a fixed length to be cut into "
                "chunks. Received: hidden states of shape "
                f"{tuple(hidden_states.shape)}. Use sequences of equal length."
            )
        size = -(-length // self.num_chunks)
        count = -(-length // size)
        missing = count * size - length
        scores = backend.remat_in_turn(
            self._score,
            _split(hidden_states, count, missing),
            _split(labels, count, missing),
        )
        # From (count, batch_size, size, 2), with the chunks first, to
        scores = ops.swapaxes(scores, 0, 1)  # (batch_size, count, size, 2)
        # and (batch_size, count * size, 2).
        scores = ops.reshape(scores, (-1, count * size, 2))
        return scores[:, :length]

    def _score(self, hidden_states, labels):
        logits = self.embedding(hidden_states, reverse=True)
        loss = keras.losses.sparse_categorical_crossentropy(
            labels, logits, from_logits=True
        )
        hit = keras.metrics.sparse_categorical_accuracy(
            labels[..., None], logits
        )
        return ops.stack([loss, ops.stop_gradient(hit)], axis=-1)

    def compute_output_spec(self, hidden_states, labels):
        return keras.KerasTensor((*labels.shape, 2), "float32")


def _split(array, count, missing):
    """Map `(batch_size, length, ...)` to `(count, batch_size, size, ...)`."""
    rest = array.shape[2:]
    padding = [(0, 0), (0, missing)] + [(0, 0)] * len(rest)
    size = (array.shape[1] + missing) // count
    array = ops.pad(array, padding)  # (batch_size, count * size, ...)
    array = ops.reshape(array, (-1, count, size, *rest))
    return ops.swapaxes(array, 0, 1)  # (count, batch_size, size, ...)


def training_model(model, num_chunks=8):
    """Return a model that is trained like `model` but with less memory.

    Args:
        model: a `mini_gpt`, or a KerasHub `CausalLM` whose logits come from
            its token embedding, such as `MiniGPTCausalLM` or Gemma 3.
        num_chunks: int. See `NextTokenLoss`.

    Returns:
        A `keras.Model` with the same layers and weights. Its inputs are those
        of `model` plus the `labels`; see `with_labels`. Its output is that of
        `NextTokenLoss`. Compile it with `loss=token_loss` and
        `weighted_metrics=[accuracy]`.

    Raises:
        UserError: `model` has no such embedding.

    Example:
    ```python
    trained = training_model(model)
    trained.compile("adam", loss=token_loss, weighted_metrics=[accuracy])
    trained.fit(dataset.map(with_labels))
    model.predict(token_ids)  # `model` is trained, too: they share weights
    ```
    """
    hidden_states, embedding = _before_the_logits(model)
    inputs = model.input
    if not isinstance(inputs, dict):
        inputs = {"token_ids": inputs}
    labels = keras.Input((None,), dtype="int32", name="labels")
    outputs = NextTokenLoss(embedding, num_chunks, name="next_token_loss")(
        hidden_states, labels
    )
    trained = keras.Model({**inputs, "labels": labels}, outputs)
    # `compile` uses the model's policy to decide on loss scaling for float16.
    trained.dtype_policy = model.dtype_policy
    return trained


def next_token_objective(model, num_chunks=1):
    """Return the model, loss and data function for next-token training.

    Args:
        model: see `training_model`. With one chunk, any model that returns
            logits.
        num_chunks: int. With more than one, the logits of a whole batch never
            exist all at once.

    Returns:
        The model to compile, which has the layers of `model`; a dict with the
        `loss` and `weighted_metrics` for its `compile`; and a function for
        `dataset.map` that converts the batches of `model` to its own.
    """
    # Metrics with variables from the start: TensorFlow traces a training step
    # twice if the first trace creates any.
    if num_chunks == 1:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        objective = {"loss": loss, "weighted_metrics": [metric]}
        return model, objective, lambda *batch: batch
    metric = keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")
    objective = {"loss": token_loss, "weighted_metrics": [metric]}
    return training_model(model, num_chunks), objective, with_labels


def with_labels(x, y, *sample_weight):
    """Add the labels of a batch to its inputs; use with `dataset.map`.

    Args:
        x: int `(batch_size, length)` token ids, or a dict of all inputs.
        y: int `(batch_size, length)`, the tokens that come next.
        *sample_weight: nothing, or float `(batch_size, length)`.

    Returns:
        The tuple `(inputs with labels, y, *sample_weight)`.
    """
    if not isinstance(x, dict):
        x = {"token_ids": x}
    return {**x, "labels": y}, y, *sample_weight


def token_loss(y_true, y_pred):
    """Return the losses from the output of a `training_model`.

    Args:
        y_true: int `(batch_size, length)`, the labels. They are not used here.
        y_pred: float32 `(batch_size, length, 2)`, see `NextTokenLoss`.

    Returns:
        float32 `(batch_size, length)`, in nats.
    """
    return y_pred[..., 0]


def accuracy(y_true, y_pred):
    """Return the correct predictions from the output of a `training_model`.

    Args:
        y_true: see `token_loss`.
        y_pred: see `token_loss`.

    Returns:
        float32 `(batch_size, length)`, 1 where the label was the most likely
        token and 0 elsewhere.
    """
    return y_pred[..., 1]


def _before_the_logits(model):
    """Return the last hidden states, and the layer that maps them to logits."""
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        decoders = [
            layer
            for layer in model.layers
            if isinstance(layer, TransformerDecoder)
        ]
        if decoders:
            return decoders[-1].output, model.get_layer("embedding")
    else:
        for name in ("embedding", "token_embedding"):
            embedding = getattr(backbone, name, None)
            if embedding is not None:
                return backbone(model.input), embedding
    raise UserError(
        "`model` must be a `mini_gpt` or a `CausalLM` with a token embedding. "
        f"Received: {shown(model)}. Train any other model with its own logits."
    )
