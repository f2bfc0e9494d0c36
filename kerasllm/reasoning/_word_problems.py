"""Word problems of the small world, as many as are asked for."""

import math
import random

from kerasllm.checks import (
    UserError,
    check_choice,
    check_int,
    check_list,
    check_real,
    is_int,
    shown,
)
from kerasllm.reasoning._problems import Problem
from kerasllm.reasoning._structures import STRUCTURES, DeadEnd, Story
from kerasllm.reasoning.checkers import MARKER

MOST_STEPS = 6
SHORT_MARKER = "answer"  # of notes
NOTATIONS = ("words", "notes")
_MOST_TRIES = 2000  # for one problem
_SMALLEST_NUMBER = 20  # below, some structures have no story


def word_problems(
    num,
    seed=0,
    num_steps=(1, MOST_STEPS),
    structures=None,
    max_number=100,
    superfluous=0.3,
    notation="words",
):
    """Make up word problems with worked solutions.

    All results on the way are whole numbers from 1 to `max_number`. Some
    questions have a number that is not needed. In words:

        Judy wrote a 2-page letter to 3 friends twice a week for 4 weeks.
        How many letters did Judy write?

        3 * 2 = 6
        6 * 4 = 24
        ANSWER: 24

    In notes, for a very small model whose tokens are words:

        Eli has 13 cards . buys 3 . wins 4 . how many cards ?

        13 + 3 = 16 + 4 = 20 answer 20

    Args:
        num: int. How many problems, no two with the same question.
        seed: int of at least 0. It determines all of them.
        num_steps: int, or `(least, most)`: how many steps a solution takes,
            from 1 to 6. All are equally likely.
        structures: sequence of names, or `None` for all: `"changes"`
            (buying and giving), `"sharing"` (equally), `"comparing"` (more,
            fewer, times as many), `"rates"` (times periods), `"flows"`
            (change over days or weeks), `"prices"`. All are equally likely.
        max_number: int of at least 20.
        superfluous: float in `[0, 1]`. The share of questions with a number
            that is not needed, approximately.
        notation: `"words"` or `"notes"`.

    Returns:
        list of `Problem`. The first ones are the same for every `num`.

    Raises:
        UserError: an argument is out of range, or there are not so many
            different problems with such numbers.

    Source: chapter 16, section 16.4.4, in the spirit of its problem; Cobbe et
    al., 2021, arXiv:2110.14168; Shi et al., 2023, arXiv:2302.00093 (numbers
    that are not needed).
    """
    check_int("num", num, 0)
    rng = random.Random(check_int("seed", seed, 0, math.inf))
    least, most = _check_steps(num_steps)
    if structures is None:
        structures = STRUCTURES.keys()
    names = check_list("structures", structures, "a list of names")
    for name in names:
        check_choice("structures", name, tuple(STRUCTURES))
    if not names:
        raise UserError(
            "`structures` must name at least one. Received: none. Use `None` "
            "for all."
        )
    check_int("max_number", max_number, _SMALLEST_NUMBER)
    check_real(
        "superfluous", superfluous, lambda x: 0 <= x <= 1, "a share in [0, 1]"
    )
    check_choice("notation", notation, NOTATIONS)
    problems, seen = [], set()
    while len(problems) < num:
        structure, steps = rng.choice(names), rng.randint(least, most)
        for _ in range(_MOST_TRIES):
            problem = _try(rng, structure, steps, max_number, superfluous,
                           notation)  # fmt: skip
            if problem is not None and problem.prompt not in seen:
                break
        else:
            raise UserError(
                "There must be enough different problems. Received: num="
                f"{num}, but after {len(problems)} there is no new one of "
                f"{steps} steps and the structure {structure!r} with numbers "
                f"to max_number={max_number}. Raise `max_number`, or ask for "
                "fewer."
            )
        seen.add(problem.prompt)
        problems.append(problem)
    return problems


def _check_steps(num_steps):
    """Return the least and the most steps: two ints."""
    try:
        both = (num_steps,) * 2 if is_int(num_steps) else tuple(num_steps)
        least, most = both
    except (TypeError, ValueError):
        least = most = None
    if not (
        is_int(least) and is_int(most) and 1 <= least <= most <= MOST_STEPS
    ):
        raise UserError(
            f"`num_steps` must be an int in [1, {MOST_STEPS}], or a pair of "
            f"these in order. Received: num_steps={shown(num_steps)}."
        )
    return int(least), int(most)


def _try(rng, structure, num_steps, max_number, superfluous, notation):
    """Make up a problem, or return `None` if the story comes to a dead end."""
    story = Story(rng, max_number, superfluous)
    try:
        STRUCTURES[structure](story, num_steps)
    except DeadEnd:
        return None
    if story.superfluous:
        story.add_aside()
    write = _in_words if notation == "words" else _in_notes
    prompt, solution, marker = write(story)
    return Problem(
        prompt,
        story.steps[-1][-1],
        solution,
        num_steps,
        structure,
        tuple(story.numbers),
        marker,
    )


def _in_words(story):
    """Return the question, the solution and its marker."""
    steps = [f"{a} {operator} {b} = {c}" for a, operator, b, c in story.steps]
    answer = story.steps[-1][-1]
    question = " ".join([*story.sentences, story.question])
    return question, "\n".join([*steps, f"{MARKER} {answer}"]), MARKER


def _in_notes(story):
    """Return the same in notes, whose tokens have spaces between them.

    A step that begins with the result before goes on from there.
    """
    solution, previous = "", None
    for a, operator, b, c in story.steps:
        if previous is None:
            solution = f"{a}"
        elif previous != a:
            solution += f" . {a}"
        solution += f" {operator} {b} = {c}"
        previous = c
    question = " . ".join([*story.notes, f"how many {story.unit} ?"])
    return question, f"{solution} {SHORT_MARKER} {previous}", SHORT_MARKER
