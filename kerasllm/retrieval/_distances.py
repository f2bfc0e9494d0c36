"""From which distance on a store has no answer."""

import numpy as np

from kerasllm.checks import UserError, check_list, shown


def distance_threshold(store, answerable, unanswerable):
    """Return the distance that best tells what a store can answer.

    Pass it to `ChatModel.ask` as `max_distance`. What is far depends on the
    embedder and on the texts, so it is found by questions of which it is
    known whether the store has an answer. Each of the two kinds counts for one
    half, however many questions it has.

    Args:
        store: `Store`, or anything else with its method `search`.
        answerable: list of str. Questions whose answer is in the store.
        unanswerable: list of str. Questions whose answer is not.

    Returns:
        `(distance, accuracy)`, two floats: a cosine distance in the middle
        between two distances that occur, and the mean of the share of
        answerable questions that are nearer and that of unanswerable ones
        that are not. That share is of the questions that were given: measure
        it again on others.

    Raises:
        UserError: one of the lists has no question, or the store is empty.
    """
    if not hasattr(store, "search"):
        raise UserError(
            "`store` must have a method `search`. Received: "
            f"{shown(store)}. A `Store` has."
        )
    near = _distances(store, "answerable", answerable)
    far = _distances(store, "unanswerable", unanswerable)
    every = np.unique([*near, *far])
    borders = [*(every[1:] + every[:-1]) / 2, every[-1]]
    accuracies = [
        (np.mean(near <= border) + np.mean(far > border)) / 2
        for border in borders
    ]
    best = int(np.argmax(accuracies))
    return float(borders[best]), float(accuracies[best])


def _distances(store, name, questions):
    """Return how far the nearest passage is from each question."""
    questions = check_list(name, questions, "a list of questions")
    if not questions:
        raise UserError(
            f"`{name}` must be a list of at least one question. Received: "
            "none. Write some."
        )
    found = [store.search(q, k=1, mode="vector") for q in questions]
    if not all(found):
        raise UserError(
            "`store` must have a passage for each question. Received: an "
            "empty one, or a question whose vector is zero. Add texts first."
        )
    return np.array([1 - hits[0].score for hits in found])
