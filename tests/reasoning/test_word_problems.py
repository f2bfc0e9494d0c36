"""Word problems: their stories, their solutions, and what is held out."""

import collections
import itertools
import operator
import re

import pytest

from kerasllm.checks import UserError
from kerasllm.reasoning import (
    STRUCTURES,
    Problem,
    split_problems,
    word_problems,
)
from tests.reasoning.stories import solve

pytestmark = pytest.mark.any_backend

OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
    "/": operator.truediv,
}  # fmt: skip


@pytest.fixture(scope="module")
def problems():
    return word_problems(600, seed=1)


@pytest.fixture(scope="module")
def notes():
    return word_problems(600, seed=1, notation="notes", max_number=30,
                         num_steps=(1, 4))  # fmt: skip


def steps_in_words(solution):
    *lines, answer = solution.splitlines()
    steps = [re.fullmatch(r"(\d+) ([-+*/]) (\d+) = (\d+)", x) for x in lines]
    steps = [(int(s[1]), s[2], int(s[3]), int(s[4])) for s in steps]
    return steps, re.fullmatch(r"ANSWER: (\d+)", answer)[1]


def steps_in_notes(solution):
    work, answer = solution.split(" answer ")
    steps, tokens = [], work.split()
    while tokens:
        if tokens[0] == ".":
            del tokens[0]
            left = int(tokens.pop(0))
        elif tokens[0] in OPERATORS:
            left = steps[-1][-1]
        else:
            left = int(tokens.pop(0))
        sign, right, equals, result = tokens[:4]
        assert equals == "="
        steps.append((left, sign, int(right), int(result)))
        del tokens[:4]
    return steps, answer


def check_steps(problem, steps, answer, max_number):
    assert len(steps) == problem.num_steps
    known, used = set(problem.numbers), set()
    for left, sign, right, result in steps:
        assert OPERATORS[sign](left, right) == result
        assert 1 <= result <= max_number
        assert {left, right} <= known
        used |= {left, right}
        known.add(result)
    assert known - used <= {problem.answer}
    assert steps[-1][-1] == problem.answer
    assert int(answer) == problem.answer


def test_each_solution_can_be_recomputed(problems, notes):
    for problem in problems:
        check_steps(problem, *steps_in_words(problem.solution), 100)
    for problem in notes:
        check_steps(problem, *steps_in_notes(problem.solution), 30)


def test_each_story_tells_what_its_solution_computes(problems):
    for problem in problems:
        assert solve(problem.prompt) == problem.answer, problem.prompt


def told(problem):
    """Return how often each number is in a question."""
    text = problem.prompt.replace("twice", "2").replace("-", " ")
    return collections.Counter(int(n) for n in re.findall(r"\d+", text))


@pytest.mark.parametrize("share", [0, 1])
def test_only_superfluous_numbers_are_not_needed(share):
    for problem in word_problems(300, seed=2, superfluous=share):
        needed = collections.Counter(problem.numbers)
        assert needed <= told(problem)
        assert (told(problem) - needed).total() == share, problem.prompt


def test_the_size_of_a_letter_says_nothing_about_their_number():
    problems = word_problems(
        200, structures=["rates"], num_steps=2, superfluous=1
    )
    sized = [p for p in problems if "-page" in p.prompt]
    assert sized and all("How many letters" in p.prompt for p in sized)


def test_all_kinds_of_problems_occur(problems):
    kinds = {(p.structure, p.num_steps) for p in problems}
    assert kinds == set(itertools.product(STRUCTURES, range(1, 7)))
    assert len({p.prompt for p in problems}) == 600


def test_one_seed_determines_all(problems):
    assert word_problems(50, seed=1) == problems[:50]
    assert word_problems(50, seed=2) != problems[:50]
    assert word_problems(0) == []


def test_notes_have_spaces_between_their_tokens(notes):
    for problem in notes:
        for text in (problem.prompt, problem.solution):
            assert all(re.fullmatch(r"\d+|[A-Za-z]+|[-+*/=.?]", token)
                       for token in text.split()), text  # fmt: skip
        assert problem.bare_answer == f"answer {problem.answer}"
    example = next(p for p in notes if p.structure == "changes")
    assert example.prompt.endswith(" ?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num": -1}, "`num` must be an int of at least 0"),
        ({"seed": -1}, "`seed` must be"),
        ({"num_steps": 7}, r"`num_steps` must be .* \[1, 6\].*=7"),
        ({"num_steps": (3, 2)}, r"in order. Received: num_steps=\(3, 2\)"),
        ({"num_steps": "many"}, "`num_steps` must be"),
        ({"structures": ["ages"]}, "one of 'changes'.*'ages'"),
        ({"structures": []}, "at least one"),
        ({"max_number": 19}, "`max_number` must be an int of at least 20"),
        ({"superfluous": 1.5}, "`superfluous` must be"),
        ({"notation": "rhyme"}, "'words', 'notes'.*'rhyme'"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(UserError, match=message):
        word_problems(**{"num": 1} | arguments)


def test_there_are_not_endlessly_many_small_problems():
    with pytest.raises(UserError, match="enough different.*Raise `max_number`"):
        word_problems(
            1000, structures=["rates"], num_steps=1, max_number=20,
            superfluous=0,
        )  # fmt: skip


def test_no_numbers_are_on_both_sides(problems):
    split = split_problems(problems, ["sharing"], 4, validation_fraction=0.3)
    train = {problem.instance for problem in split.train}
    for side in (split.numbers, split.structures, split.longer):
        assert side and not train & {problem.instance for problem in side}
    assert not {p.prompt for p in split.train} & {
        p.prompt for p in split.numbers
    }
    assert "sharing" not in {p.structure for p in split.train + split.numbers}
    assert {p.structure for p in split.structures} == {"sharing"}
    assert max(p.num_steps for p in split.train + split.numbers) == 4
    assert {p.num_steps for p in split.longer} == {5, 6}
    share = len(split.numbers) / len(split.train + split.numbers)
    assert 0.2 < share < 0.4


def test_a_split_depends_on_the_numbers_alone(problems):
    split = split_problems(problems)
    turned = split_problems(problems[::-1])
    assert turned.train == split.train[::-1]
    assert split_problems(problems, seed=1).train != split.train
    assert len(split.train + split.numbers) == len(problems)
    # Whatever happens in the story, and in whatever order.
    one = Problem("Ada has 3, buys 9.", 12, "ANSWER: 12", 1, numbers=(3, 9))
    other = Problem("Ben has 9, loses 3.", 6, "ANSWER: 6", 1, numbers=(9, 3))
    assert one.instance == other.instance == (3, 9)
    assert Problem("5 men, 2 dogs", 7, "ANSWER: 7", 1).instance == (2, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"structures": ["ages"]}, "that of a problem.*'ages'.*'changes'"),
        ({"validation_fraction": 0}, "between 0 and 1"),
        ({"max_steps": -1}, "`max_steps`"),
        ({"max_steps": 0}, "must have a problem. Received: 0 for `train`"),
        ({"max_steps": 6}, "0 for `longer`"),
        ({"structures": list(STRUCTURES)}, "0 for `train`"),
    ],
)
def test_a_side_without_problems_is_refused(problems, arguments, message):
    with pytest.raises(UserError, match=message):
        split_problems(problems, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 1, "a", 1), "`prompt` must be a string"),
        (("a", 1, None, 1), "`solution` must be a string"),
        (("a", "one", "a", 1), "`answer` must be a finite number"),
        (("a", float("nan"), "a", 1), "`answer` must be a finite number"),
        (("a", 1, "a", -1), "`num_steps`"),
    ],
)
def test_a_problem_has_a_number_for_an_answer(arguments, message):
    with pytest.raises(UserError, match=message):
        Problem(*arguments)
