"""The contrastive loss against a derivation by hand and against PyTorch."""

import math

import numpy as np
import pytest
from keras import ops

from kerasllm.checks import UserError
from kerasllm.retrieval import contrastive_loss


def value(*arguments, **options):
    return float(ops.convert_to_numpy(contrastive_loss(*arguments, **options)))


def unit(shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(
        "float32"
    )


def test_it_is_the_choice_among_a_batch():
    # Nothing to choose by: each of five is as likely.
    same = np.tile(unit((1, 3)), (5, 1))
    assert value(same, same) == pytest.approx(math.log(5))
    # Own similarity 1, the others 0: p = e^(1/T) / (e^(1/T) + 3).
    basis = np.eye(4, dtype="float32")
    for temperature in (0.5, 1.0):
        expected = math.log(1 + 3 * math.exp(-1 / temperature))
        assert value(basis, basis, temperature) == pytest.approx(expected)
    # The passages of two questions, swapped.
    assert value(np.eye(2), np.eye(2)[::-1], 0.5) == pytest.approx(
        math.log(1 + math.exp(2))
    )


def test_it_is_symmetric():
    """One passage that is close to all questions counts in one direction."""
    questions, passages = unit((6, 4)), unit((6, 4), seed=1)
    passages[0] = questions.mean(0) / np.linalg.norm(questions.mean(0))
    logits = questions @ passages.T / 0.1
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    log_q = logits - np.log(np.exp(logits).sum(0, keepdims=True))
    expected = -(np.diag(log_p).mean() + np.diag(log_q).mean()) / 2
    assert value(questions, passages, 0.1) == pytest.approx(expected, rel=1e-5)
    assert value(passages, questions, 0.1) == pytest.approx(expected, rel=1e-5)
    assert np.diag(log_p).mean() != pytest.approx(np.diag(log_q).mean(), 1e-3)


@pytest.mark.any_backend
def test_pytorch_finds_the_same():
    torch = pytest.importorskip("torch")
    questions, passages = unit((8, 5)), unit((8, 5), seed=1)
    logits = torch.tensor(questions) @ torch.tensor(passages).T / 0.05
    labels = torch.arange(8)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = (cross_entropy(logits, labels)
                + cross_entropy(logits.T, labels)) / 2  # fmt: skip
    assert value(questions, passages) == pytest.approx(float(expected), 1e-5)


def test_what_is_the_same_is_no_negative():
    """Two questions about one passage: as if the other were not there."""
    questions, passages = unit((3, 4)), unit((3, 4), seed=1)
    passages[1] = passages[0]
    same = np.eye(3, dtype=bool)
    same[0, 1] = same[1, 0] = True
    scores = np.exp(questions @ passages.T / 0.2)
    others = {0: [0, 2], 1: [1, 2], 2: [0, 1, 2]}
    expected = np.mean(
        [
            -(
                np.log(scores[i, i] / scores[i, others[i]].sum())
                + np.log(scores[i, i] / scores[others[i], i].sum())
            )
            / 2
            for i in range(3)
        ]
    )
    found = value(questions, passages, 0.2, same)
    assert found == pytest.approx(expected, rel=1e-5)
    assert value(questions, passages, 0.2) > found + 0.1


def test_large_logits_stay_finite():
    basis = np.eye(3, dtype="float32")
    assert value(basis, basis, 1e-4) == pytest.approx(0, abs=1e-6)
    assert value(basis, basis[[1, 2, 0]], 1e-4) == pytest.approx(1e4, rel=1e-4)


@pytest.mark.any_backend
def test_what_breaks_a_rule_is_refused():
    for shapes in (((2, 3), (3, 3)), ((2, 3), (2, 4)), ((2,), (2,))):
        with pytest.raises(UserError, match="must have the same shape"):
            contrastive_loss(*map(np.ones, shapes))
    for temperature in (0, -1, math.inf, math.nan, "cold"):
        with pytest.raises(UserError, match="`temperature` must be positive"):
            contrastive_loss(np.eye(2), np.eye(2), temperature)
