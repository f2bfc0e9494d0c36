"""The contrastive loss: a question belongs to its own passage."""

import math

from keras import ops

from kerasllm.checks import UserError, check_real
from kerasllm.logit_filters import number_tensor

TEMPERATURE = 0.05
# What stands for minus infinity, which has no gradient.
_LOWEST = -1e30


def contrastive_loss(questions, passages, temperature=TEMPERATURE, same=None):
    """Return the InfoNCE loss of questions and their passages.

    Each question should be closer to its own passage than to the passages of
    the other questions in the batch, and each passage closer to its own
    question than to the others. Both are a choice among the batch, scored by
    cross-entropy, and the loss is the mean of the two (it is symmetric).

    Args:
        questions: float `(batch_size, dim)`, vectors of length 1.
        passages: float `(batch_size, dim)`, vectors of length 1. Passage `i`
            answers question `i`.
        temperature: positive float. The similarities, which are between -1
            and 1, are divided by it. A smaller one looks at the passages that
            are hardest to tell apart.
        same: bool `(batch_size, batch_size)`, true where passage `j` answers
            question `i`, too. These are not held against each other. `None`
            if no question shares its passage with another one.

    Returns:
        float32 scalar, in nats. `log(batch_size)` if all vectors are equal.

    Raises:
        UserError: the shapes differ, or the temperature is not positive.

    Source: van den Oord et al., 2018, arXiv:1807.03748 (InfoNCE); Radford et
    al., 2021, arXiv:2103.00020 (in both directions); Karpukhin et al., 2020,
    arXiv:2004.04906 (for questions and passages, with negatives in the
    batch).
    """
    check_temperature(temperature)
    questions = ops.cast(number_tensor("questions", questions), "float32")
    passages = ops.cast(number_tensor("passages", passages), "float32")
    if len(questions.shape) != 2 or questions.shape != passages.shape:
        raise UserError(
            "`questions` and `passages` must have the same shape, "
            f"(batch_size, dim). Received: {tuple(questions.shape)} and "
            f"{tuple(passages.shape)}. Give each question its passage."
        )
    similarities = ops.matmul(questions, ops.transpose(passages))
    if same is None:
        same = ops.eye(questions.shape[0], dtype="bool")
    return ops.mean(losses_of(similarities, same, temperature))


def losses_of(similarities, same, temperature):
    """Return the loss of each question with its passage.

    Args:
        similarities: float `(batch_size, batch_size)`, a question a row.
        same: bool `(batch_size, batch_size)`. See `contrastive_loss`.
        temperature: float.

    Returns:
        float32 `(batch_size,)`.
    """
    logits = ops.cast(similarities, "float32") / temperature
    logits = without_same(logits, same)
    own = ops.diagonal(logits)  # (batch_size,)
    by_question = ops.logsumexp(logits, axis=1) - own
    by_passage = ops.logsumexp(logits, axis=0) - own
    return (by_question + by_passage) / 2


def without_same(similarities, same):
    """Leave out other passages that answer a question as well as its own.

    Args:
        similarities: float `(batch_size, batch_size)`.
        same: bool `(batch_size, batch_size)`.
    """
    own = ops.eye(ops.shape(similarities)[0], dtype="bool")
    others = ops.logical_and(same, ops.logical_not(own))
    return ops.where(others, _LOWEST, similarities)


def check_temperature(temperature):
    """Refuse a temperature that is not positive and finite."""
    check_real(
        "temperature",
        temperature,
        lambda value: 0 < value < math.inf,
        "positive and finite",
        cure=f"{TEMPERATURE} is a good start.",
    )
