"""Prompts for three ways to ask, and solutions without their content."""

import pytest

from kerasllm.checks import UserError
from kerasllm.reasoning import (
    AnswerChecker,
    Problem,
    as_instructions,
    direct_prompt,
    hide_steps,
    step_prompt,
    word_problems,
    worked_prompt,
)

pytestmark = pytest.mark.any_backend

FIRST = Problem("1 + 1?", 2, "1 + 1 = 2\nANSWER: 2", 1)
SECOND = Problem("2 + 3?", 5, "2 + 3 = 5\nANSWER: 5", 1)


@pytest.mark.parametrize("prompt", [direct_prompt, step_prompt])
def test_a_prompt_has_the_question_and_the_marker_but_no_answer(prompt):
    for marker in ("ANSWER:", "####"):
        text = prompt("1 + 1?", marker)
        assert text.startswith("1 + 1?\n") and marker in text
        # A model that repeats its prompt is not paid for that.
        assert AnswerChecker(marker).find(text) is None
    is_asked_to_think = "step by step" in prompt("1 + 1?")
    assert is_asked_to_think == (prompt is step_prompt)


def test_worked_examples_come_before_the_question():
    examples = [FIRST, SECOND]
    assert worked_prompt("3 + 3?", examples) == (
        "Question: 1 + 1?\n1 + 1 = 2\nANSWER: 2\n\n"
        "Question: 2 + 3?\n2 + 3 = 5\nANSWER: 5\n\n"
        "Question: 3 + 3?\n"
    )
    assert worked_prompt("3 + 3?", examples[:1], "direct") == (
        "Question: 1 + 1?\nANSWER: 2\n\nQuestion: 3 + 3?\n"
    )
    with pytest.raises(UserError, match="must not have the question"):
        worked_prompt("2 + 3?", examples)
    with pytest.raises(UserError, match="at least one"):
        worked_prompt("3 + 3?", [])
    with pytest.raises(UserError, match="`way` must be one of"):
        worked_prompt("3 + 3?", examples, "well")


def test_dots_are_as_many_as_the_tokens_of_the_steps():
    assert hide_steps(FIRST.solution) == ". . . . .\nANSWER: 2"
    notes = "13 + 3 = 16 answer 16"
    assert hide_steps(notes, "answer") == ". . . . . answer 16"
    assert hide_steps("ANSWER: 2") == "ANSWER: 2"
    # Of another tokenizer, here one whose tokens are characters.
    by_character = hide_steps(FIRST.solution, count=len)
    assert by_character == ". . . . . . . . .\nANSWER: 2"
    with pytest.raises(UserError, match="must have the marker"):
        hide_steps("1 + 1 = 2", "answer")


@pytest.mark.parametrize("notation", ["words", "notes"])
def test_the_three_ways_end_in_the_same_answer(notation):
    problems = word_problems(50, seed=4, notation=notation)
    ways = {way: as_instructions(problems, way)
            for way in ("direct", "steps", "dots")}  # fmt: skip
    checker = AnswerChecker(problems[0].marker)
    for way, examples in ways.items():
        responses = [example.response for example in examples]
        assert checker(problems, responses).all(), way
        prompts = [example.instruction for example in examples]
        assert prompts == [problem.prompt for problem in problems]
    for worked, dotted in zip(ways["steps"], ways["dots"], strict=True):
        assert len(worked.response.split()) == len(dotted.response.split())
    assert [e.response for e in ways["direct"]] == [
        problem.bare_answer for problem in problems
    ]
    with pytest.raises(UserError, match="`way` must be one of"):
        as_instructions(problems, "dashes")
