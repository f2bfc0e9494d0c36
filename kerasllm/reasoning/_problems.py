"""A problem with an answer that a program checks, and held-out problems."""

import dataclasses
import fractions
import hashlib
import math

from kerasllm.checks import (
    UserError,
    check_int,
    check_list,
    check_real,
    check_text,
    shown,
)
from kerasllm.reasoning.checkers import (
    MARKER,
    as_number,
    check_marker,
    find_numbers,
)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A problem whose answer is a number.

    Attributes:
        prompt: str. The question.
        answer: int or `fractions.Fraction`. A str or a float is made one.
        solution: str. Steps, and then the marker with the answer.
        num_steps: int. How many steps the solution takes.
        structure: str. What kind of problem it is, such as `"sharing"`.
        numbers: tuple of int. The numbers of the question that the solution
            needs, in the order of the story. Empty if nobody has marked them.
        marker: str. What stands before the answer in the solution.

    Raises:
        UserError: the question or the solution is no text, the answer is no
            number, or `num_steps` is negative.
    """

    prompt: str
    answer: int | fractions.Fraction
    solution: str
    num_steps: int
    structure: str = ""
    numbers: tuple = ()
    marker: str = MARKER

    def __post_init__(self):
        check_text("prompt", self.prompt)
        check_text("solution", self.solution)
        check_int("num_steps", self.num_steps, 0)
        object.__setattr__(self, "answer", as_number(self.answer))
        check_text("structure", self.structure)
        check_marker(self.marker)
        numbers = check_list("numbers", self.numbers, "a list of numbers")
        numbers = [as_number(number, "numbers") for number in numbers]
        object.__setattr__(self, "numbers", tuple(numbers))

    @property
    def bare_answer(self):
        """The marker and the answer, without any steps: a str."""
        return f"{self.marker} {self.answer}"

    @property
    def instance(self):
        """The numbers of the problem in ascending order: a tuple.

        Two stories with the same numbers are one instance here, whatever
        happens in them. If nobody has marked the numbers that the solution
        needs, these are all numbers of the question.
        """
        return tuple(sorted(self.numbers or find_numbers(self.prompt)))


@dataclasses.dataclass(frozen=True)
class ProblemSplit:
    """Problems to train on, and three kinds of held-out problems.

    Attributes:
        train: list of `Problem`.
        numbers: list of `Problem`, of structures and lengths as in `train`,
            with other numbers.
        structures: list of `Problem`, of structures that are not in `train`.
        longer: list of `Problem`, with more steps than any in `train`, of
            structures as there.
    """

    train: list
    numbers: list
    structures: list
    longer: list


def check_problems(problems, name="problems"):
    """Return problems as a list, and refuse what is none.

    Args:
        problems: list of `Problem`.
        name: str. What the message calls them.

    Raises:
        UserError: they are no list, or one of them is no `Problem`.
    """
    problems = check_list(name, problems, "a list of problems")
    for problem in problems:
        if not isinstance(problem, Problem):
            raise UserError(
                f"Each of `{name}` must be a `Problem`. Received: "
                f"{shown(problem)}. `word_problems` makes some, and "
                "`read_problems` reads them."
            )
    return problems


def split_problems(
    problems, structures=(), max_steps=None, validation_fraction=0.1, seed=0
):
    """Hold out problems by their numbers, their structure, and their length.

    Numbers come first. A hash of a problem's `instance` decides whether its
    numbers are to train on or held out, so no instance is on both sides,
    whatever the story is. All held-out problems have held-out numbers. What
    has numbers to train on, but a held-out structure or too many steps, is on
    no side.

    Args:
        problems: list of `Problem`.
        structures: sequence of str, the structures to hold out.
        max_steps: int. Problems with more steps are held out. `None` for no
            bound.
        validation_fraction: float in `(0, 1)`. The fraction of instances that
            is held out, approximately.
        seed: int. Another one holds out others.

    Returns:
        `ProblemSplit`.

    Raises:
        UserError: an argument is out of range, no problem has one of the
            structures, or `train` or one of the lists that were asked for
            would be empty.
    """
    check_real(
        "validation_fraction",
        validation_fraction,
        lambda value: 0 < value < 1,
        "between 0 and 1",
    )
    if max_steps is not None:
        check_int("max_steps", max_steps, 0)
    check_int("seed", seed, 0, math.inf)
    problems = check_problems(problems)
    structures = check_list("structures", structures)
    _check_structures(structures, problems)
    split = ProblemSplit([], [], [], [])
    for problem in problems:
        is_held_out = _draw(problem, seed) < validation_fraction
        is_longer = max_steps is not None and problem.num_steps > max_steps
        if problem.structure in structures:
            side = split.structures
        elif is_longer:
            side = split.longer
        else:
            side = split.numbers if is_held_out else split.train
        if is_held_out or side is split.train:
            side.append(problem)
    _check_sides(split, bool(structures), max_steps is not None)
    return split


def _check_structures(structures, problems):
    known = {problem.structure for problem in problems}
    for structure in structures:
        check_text("structures", structure)
        if structure not in known:
            raise UserError(
                "Each of `structures` must be that of a problem. Received: "
                f"{shown(structure)}. The problems have: "
                f"{', '.join(map(repr, sorted(known)))}."
            )


def _draw(problem, seed):
    """Return a number in `[0, 1)` that an instance decides: a float."""
    text = f"{seed} {problem.instance}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _check_sides(split, has_structures, has_longer):
    """Refuse a split in which a side that was asked for is empty."""
    wanted = ["train", "numbers"]
    wanted += ["structures"] * has_structures + ["longer"] * has_longer
    sizes = {side: len(getattr(split, side)) for side in wanted}
    if not all(sizes.values()):
        received = ", ".join(f"{n} for `{side}`" for side, n in sizes.items())
        raise UserError(
            "Each side of a split must have a problem. Received: "
            f"{received}. Bring more problems, or choose another "
            "`validation_fraction` or `seed`."
        )
