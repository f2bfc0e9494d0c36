"""Training an embedder on questions and the passages that answer them."""

import keras
from keras import ops

from kerasllm import lora, training
from kerasllm.backend import tf
from kerasllm.checks import (
    UserError,
    check_int,
    check_lists,
    is_real,
    shown,
)
from kerasllm.retrieval.embedders._embedder import Embedder
from kerasllm.retrieval.embedders._losses import (
    TEMPERATURE,
    check_temperature,
    losses_of,
    without_same,
)
from kerasllm.retrieval.embedders._pairs import (
    SIDES,
    TokenizedPairs,
    describe_pairs,
)
from kerasllm.schedules import warn_of_long_warmup
from kerasllm.tuning import (
    check_tuning,
    describe_model,
    frozen_encoder,
    noting_the_end,
)


def train_embedder(
    embedder,
    pairs,
    validation_pairs=None,
    *,
    epochs=3,
    batch_size=32,
    learning_rate=1e-4,
    temperature=TEMPERATURE,
    seed=0,
    directory=None,
    callbacks=(),
    verbose="auto",
):
    """Train an embedder to bring questions close to their passages.

    The loss is `contrastive_loss`. In a batch, the passages of the other
    questions are the negatives, so a larger batch is a harder exercise. Pairs
    with the same question or the same passage are not held against each
    other. This trains all trainable weights: the adapters after
    `kerasllm.enable_lora(embedder)`, and otherwise the whole model.

    Args:
        embedder: `Embedder`.
        pairs: list of `(question, passage)`, two str each. Longer texts than
            the embedder's `sequence_length` are cut.
        validation_pairs: held-out ones, for measuring after each epoch.
        epochs: int.
        batch_size: int. Pairs in a batch, at least 2. With fewer pairs than
            that, all of them are one batch. An epoch leaves out the pairs that
            fill no batch, others each time.
        learning_rate: float or schedule. For adapters, a rate ten times that
            of training all weights is common.
        temperature: positive float. See `contrastive_loss`.
        seed: int. The order of the pairs.
        directory: str or path. The folder for checkpoints. After an
            interruption, the same call with the same directory continues the
            run, and it may ask for more epochs. `None` writes no checkpoints.
            The embedder itself is saved with `embedder.save`.
        callbacks: more Keras callbacks. At the end of an epoch, they may call
            `embedder`.
        verbose: as for `fit`.

    Returns:
        A list of dicts, one per epoch: `loss`, `accuracy` and, with
        `validation_pairs`, `val_loss` and `val_accuracy`. The accuracy is the
        share of questions that are closer to their own passage than to all
        others in the batch.

    Raises:
        UserError: pairs or numbers do not fit.
        RunError: `directory` holds a run of another model, of other pairs or
            of other arguments; says what differs. It has had more epochs
            already, or another process is at work there.

    Source: Karpukhin et al., 2020, arXiv:2004.04906; Wang et al., 2022,
    arXiv:2212.03533.
    """
    _check_arguments(embedder, epochs, batch_size, learning_rate, seed)
    directory, callbacks = training.check_run(directory, callbacks, verbose)
    check_temperature(temperature)
    if is_real(learning_rate):
        learning_rate = float(learning_rate)  # NumPy's, too, for the file
    pairs, validation_pairs = check_lists(
        pairs=pairs, validation_pairs=validation_pairs
    )
    train = TokenizedPairs.of(pairs, embedder)
    validation = None
    if validation_pairs is not None:
        held_out = TokenizedPairs.of(
            validation_pairs, embedder, "validation_pairs"
        )
        size = min(batch_size, len(held_out))
        # Keras warns of a dataset that ends without having said when.
        validation = held_out.dataset(size).apply(
            tf.data.experimental.assert_cardinality(len(held_out) // size)
        )
    identity = None
    if directory is not None:
        identity = {
            **describe_pairs(pairs, validation_pairs),
            "learning_rate": keras.saving.serialize_keras_object(learning_rate),
            "batch_size": int(batch_size),
            "temperature": float(temperature),
            "sequence_length": int(embedder.sequence_length),
            "pooling": embedder.pooling,
            "seed": int(seed),
            **describe_model(embedder, directory),
        }
    size = min(batch_size, len(train))
    steps = len(train) // size
    warn_of_long_warmup(learning_rate, epochs * steps)
    with noting_the_end(embedder), frozen_encoder(embedder.backbone):
        return training.resumable_fit(
            _compiled(embedder, learning_rate, temperature),
            train.endless(size, seed),
            validation,
            directory=directory,
            identity=identity,
            epochs=epochs,
            steps_per_epoch=steps,
            tokens_in_a_batch=train.num_tokens * size / len(train),
            variables=lora.changing_variables,
            perplexity=False,
            callbacks=callbacks,
            verbose=verbose,
        )


def _check_arguments(embedder, epochs, batch_size, learning_rate, seed):
    if not isinstance(embedder, Embedder):
        raise UserError(
            "`embedder` must be an `Embedder`. Received: "
            f"{shown(embedder)}. Make one with `Embedder(causal_lm)`."
        )
    check_tuning(epochs, batch_size, learning_rate, seed=seed)
    check_int(
        "batch_size", batch_size, 2, cure="Each pair needs another beside it."
    )


def _compiled(embedder, learning_rate, temperature):
    """Return a model of pairs with the layers of an embedder.

    Its output are the similarities of all questions of a batch with all
    passages: `(batch_size, batch_size)`.
    """
    inputs, vectors = {}, []
    for prefix in SIDES:
        side = {
            name: keras.Input(x.shape[1:], dtype=x.dtype, name=prefix + name)
            for name, x in embedder.input.items()
        }
        vectors.append(embedder(side))
        inputs |= {prefix + name: x for name, x in side.items()}
    questions, passages = vectors
    similarities = ops.matmul(questions, ops.transpose(passages))
    model = keras.Model(inputs, similarities, name="pairs")
    # `compile` asks the model whether float16 makes it scale the loss.
    model.dtype_policy = embedder.dtype_policy
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=_PairLoss(temperature),
        weighted_metrics=[
            keras.metrics.MeanMetricWrapper(_is_right, name="accuracy")
        ],
    )
    return model


class _PairLoss(keras.losses.Loss):
    """The contrastive loss of a batch, by the numbers of its pairs."""

    def __init__(self, temperature):
        super().__init__(name="contrastive_loss")
        self.temperature = temperature

    def call(self, numbers, similarities):
        """Return the loss of each pair: `(batch_size,)`."""
        return losses_of(similarities, _same(numbers), self.temperature)


def _same(numbers):
    """Return which pairs share a question or a passage.

    Args:
        numbers: `(batch_size, 2)`, see `TokenizedPairs`.

    Returns:
        bool `(batch_size, batch_size)`.
    """
    return ops.any(numbers[:, None] == numbers[None, :], axis=-1)


def _is_right(numbers, similarities):
    """Return 1 where the own passage is closer than all others, or else 0."""
    similarities = without_same(similarities, _same(numbers))
    own = ops.diagonal(similarities)
    best_other = ops.max(
        ops.where(
            ops.eye(ops.shape(similarities)[0], dtype="bool"),
            -float("inf"),
            similarities,
        ),
        axis=1,
    )
    return ops.cast(own > best_other, "float32")
