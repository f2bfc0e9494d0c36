"""What a model knows about the small world, and what it sees in pictures."""

import itertools

from kerasllm.checks import check_int
from kerasllm.evaluation._asking import MAX_LENGTH, ask_all, in_batches
from kerasllm.evaluation._shares import Share, exact_share, refused_share
from kerasllm.toyworld import pictures


def measure_facts(chat_model, world):
    """Score a model on the facts of a small world.

    Args:
        chat_model: a `Gemma`, or anything else that has its `ask` and its
            `generate`.
        world: `toyworld.World`.

    Returns:
        dict of `Share`: `completed`, held-out facts that it completes a
        sentence with; `known`, exact answers about held-out facts, which no
        request is about; `taught`, exact answers about taught facts, which
        requests are about; `refused_known` and `refused_unknown`, answers that
        are `toyworld.REFUSAL`, to questions about held-out facts and about
        names that do not exist.
    """
    prefixes = world.prefixes()
    continuations = in_batches(
        lambda batch: chat_model.generate(
            batch, MAX_LENGTH, strip_prompt=True, stop_strings=["."]
        ),
        [prefix.text for prefix in prefixes],
    )
    completed = Share.of(
        continuation.strip().startswith(prefix.answer)
        for continuation, prefix in zip(continuations, prefixes, strict=True)
    )
    questions = {
        which: world.questions(which)
        for which in ("untaught", "taught", "unknown")
    }
    answers = {
        which: ask_all(chat_model, asked) for which, asked in questions.items()
    }
    return {
        "completed": completed,
        "known": exact_share(answers["untaught"], questions["untaught"]),
        "refused_known": refused_share(answers["untaught"]),
        "taught": exact_share(answers["taught"], questions["taught"]),
        "refused_unknown": refused_share(answers["unknown"]),
    }


def measure_pictures(chat_model, shown, others):
    """Score a model on questions about pictures.

    A model that answers as well without a picture, or with a different one,
    has only learned which answers are frequent.

    Args:
        chat_model: as for `ask_all`.
        shown: list of `toyworld.Picture`, each asked about three times.
        others: list of as many other pictures.

    Returns:
        dict of `Share`: exact answers to the questions of each kind, `colour`,
        `shape` and `count`; and these three with `_without_image` and with
        `_other_image`.
    """
    scores = {}
    for questions in zip(*(p.questions() for p in shown), strict=True):
        kind = questions[0].kind
        for suffix, seen in (
            ("", shown),
            ("_without_image", None),
            ("_other_image", others),
        ):
            answers = ask_all(chat_model, questions, seen)
            scores[kind + suffix] = exact_share(answers, questions)
    return scores


def pictures_except(count, seed, seen):
    """Draw pictures that differ from all pictures seen before.

    Another seed is not enough: there are so few pictures of a single shape
    that every sixth picture of another seed has been drawn before.

    Args:
        count: int of at least 0.
        seed: int of at least 0.
        seen: set of bytes, as `toyworld.Picture.digest` returns them.

    Returns:
        list of `toyworld.Picture`.
    """
    drawn = (
        picture
        for number in itertools.count()
        for picture in pictures(count, seed=[seed, number])
        if picture.digest() not in seen
    )
    return list(itertools.islice(drawn, check_int("count", count, 0)))
