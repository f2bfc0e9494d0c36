"""Training an embedder: what it learns, in which batches, and going on."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import lora
from kerasllm.checks import RunError, UserError
from kerasllm.retrieval import Embedder, train_embedder
from kerasllm.retrieval.embedders import _training
from kerasllm.retrieval.embedders._pairs import TokenizedPairs
from tests.retrieval.small_embedders import copy_of, small_embedder

# The passage of a question has none of its letters.
PAIRS = [(chr(97 + i) * 4, chr(75 - i) * 6) for i in range(10)]
OPTIONS = {"batch_size": 5, "learning_rate": 2e-2, "verbose": 0}


def ranks(embedder, pairs=PAIRS):
    """Return how many passages are closer to each question than its own."""
    questions, passages = map(embedder, zip(*pairs, strict=True))
    scores = questions @ passages.T
    return (scores > np.diag(scores)[:, None]).sum(axis=1)


@pytest.fixture(scope="module")
def start():
    return small_embedder()


def test_it_learns_which_passage_answers(start):
    embedder = copy_of(start)
    assert (ranks(embedder) == 0).mean() < 0.5
    history = train_embedder(embedder, PAIRS, PAIRS[:4], epochs=30, **OPTIONS)
    assert len(history) == 30 and history[-1]["loss"] < history[0]["loss"] / 4
    assert {"accuracy", "val_loss", "val_accuracy"} < history[-1].keys()
    assert "perplexity" not in history[-1]
    assert (ranks(embedder) == 0).all()


@pytest.mark.any_backend
def test_adapters_learn_alone(start):
    embedder = copy_of(start)
    lora.enable_lora(embedder, 4, targets=("attention", "feed_forward"))
    frozen = [v for v in embedder.variables if not v.trainable]
    before = [np.array(ops.convert_to_numpy(v)) for v in frozen]
    history = train_embedder(embedder, PAIRS, epochs=8, **OPTIONS)
    assert history[-1]["loss"] < history[0]["loss"] - 0.1
    for variable, value in zip(frozen, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def model_of_pairs(embedder):
    return _training._compiled(embedder, 1e-3, 0.5)


def test_the_loss_is_that_of_the_batch(start):
    """As the function finds it, with what shares a passage left out."""
    pairs = [*PAIRS[:4], ("another", PAIRS[0][1]), (PAIRS[1][0], "more")]
    tokenized = TokenizedPairs.of(pairs, start)
    ((x, numbers),) = list(tokenized.dataset(6))
    assert numbers.numpy().tolist() == [
        [0, 0], [1, 1], [2, 2], [3, 3], [4, 0], [1, 4]
    ]  # fmt: skip
    model = model_of_pairs(start)
    found = model.evaluate(x, numbers, batch_size=6, verbose=0)
    questions, passages = map(start, zip(*pairs, strict=True))
    same = np.eye(6, dtype=bool)
    same[0, 4] = same[4, 0] = same[1, 5] = same[5, 1] = True
    # A choice among the others that are not the same.
    scores = np.where(same & ~np.eye(6, dtype=bool), -np.inf,
                      questions @ passages.T / 0.5)  # fmt: skip
    own = np.diag(scores)
    losses = (np.log(np.exp(scores).sum(1)) - own
              + np.log(np.exp(scores).sum(0)) - own) / 2  # fmt: skip
    assert found[0] == pytest.approx(losses.mean(), rel=1e-4)
    right = (scores > own[:, None]).sum(1) == 0
    assert found[1] == pytest.approx(right.mean())


@pytest.mark.any_backend
def test_batches_are_full_and_of_all_pairs(start):
    """The order depends on seed and epoch, not on what was read before."""
    pairs = PAIRS[:7]
    tokenized = TokenizedPairs.of(pairs, start)

    def read(seed, skip=0):
        batches = tokenized.endless(3, seed).skip(skip).take(20 - skip)
        return [numbers.numpy()[:, 0].tolist() for _, numbers in batches]

    batches = read(0)
    assert all(len(set(batch)) == 3 for batch in batches)
    for first in range(0, 20, 2):  # an epoch: six different pairs of seven
        assert len(set(sum(batches[first : first + 2], []))) == 6
    assert set(sum(batches, [])) == set(range(7))
    assert read(0, skip=5) == batches[5:] and read(1) != batches
    assert len({str(batch) for batch in batches}) > 10


@pytest.mark.any_backend
def test_a_tie_is_not_right():
    numbers = np.array([[0, 0], [1, 1], [2, 2]])
    equal = np.ones((3, 3), "float32")
    best = np.array([[2, 1, 1], [3, 2, 1], [0, 0, 2]], "float32")
    for scores, expected in ((equal, [0, 0, 0]), (best, [1, 0, 1])):
        found = _training._is_right(numbers, ops.convert_to_tensor(scores))
        assert ops.convert_to_numpy(found).tolist() == expected


class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt


def test_an_interrupted_run_ends_as_one_in_one_go(start, tmp_path):
    def train(embedder, name, epochs=2, callbacks=()):
        return train_embedder(
            embedder, PAIRS, PAIRS[:4], epochs=epochs, callbacks=callbacks,
            directory=tmp_path / name, **OPTIONS,
        )  # fmt: skip

    whole = copy_of(start)
    history = train(whole, "whole")
    broken = copy_of(start)
    train(broken, "parts", epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train(broken, "parts", callbacks=[Kill()])
    again = copy_of(start)
    assert len(train(again, "parts")) == len(history) == 2
    for expected, found in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(found),
            ops.convert_to_numpy(expected),
            atol=1e-5,
        )
    for changed, message in (
        ({"temperature": 0.1}, "temperature"),
        ({"seed": 1}, "seed"),
        ({"pairs": PAIRS[1:]}, "pairs"),
    ):
        arguments = {"pairs": PAIRS, "validation_pairs": PAIRS[:4]} | changed
        with pytest.raises(RunError, match=message):
            train_embedder(
                copy_of(start), **arguments, epochs=2,
                directory=tmp_path / "parts", **OPTIONS,
            )  # fmt: skip


@pytest.mark.any_backend
def test_a_model_with_images_learns_from_texts(tiny_untrained):
    from tests.gemmas import restless

    embedder = Embedder(restless(tiny_untrained).causal_lm)
    pairs = [("the river", "boats"), ("the flag", "a heron"), ("a", "b")]
    history = train_embedder(embedder, pairs, epochs=1, verbose=0)
    assert np.isfinite(history[0]["loss"])


@pytest.mark.any_backend
def test_what_cannot_be_trained_on_is_refused(start):
    for pairs, message in (
        ([], "`pairs` must have at least two pairs"),
        (PAIRS[:1], "`pairs` must have at least two pairs"),
        ("ab", "`pairs` must be a list. Received"),
        (3, "`pairs` must be a list. Received"),
        ([*PAIRS, "ab"], r"`pairs\[10\]` must be a pair"),
        ([*PAIRS, ("a",)], r"`pairs\[10\]` must be a pair"),
        ([("a", 1), ("b", "c")], r"`pairs\[0\]` must be a string"),
        ([("a", " "), ("b", "c")], r"`pairs\[0\]` must have text"),
    ):
        with pytest.raises(UserError, match=message):
            train_embedder(start, pairs)
    for arguments, message in (
        ({"batch_size": 1}, "`batch_size` must be an int of at least 2"),
        ({"temperature": 0}, "`temperature` must be positive"),
        ({"epochs": 0}, "`epochs` must be a positive int"),
        ({"seed": -1}, "`seed` must be an int"),
        ({"callbacks": [3]}, "Each of `callbacks` must be"),
        ({"directory": 5}, "`directory` must be a str or a path"),
        ({"validation_pairs": []}, "`validation_pairs` must have at least"),
    ):
        with pytest.raises(UserError, match=message):
            train_embedder(start, PAIRS, **arguments)
    with pytest.raises(UserError, match="`embedder` must be an `Embedder`"):
        train_embedder(start.backbone, PAIRS)
