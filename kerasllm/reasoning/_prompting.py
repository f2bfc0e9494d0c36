"""Ways to ask: for the answer, for steps, and with worked examples."""

from kerasllm.checks import (
    UserError,
    check_callable,
    check_choice,
    check_text,
    shown,
)
from kerasllm.instructions import Instruction
from kerasllm.reasoning._problems import check_problems
from kerasllm.reasoning.checkers import MARKER, check_marker

WAYS = ("direct", "steps", "dots")
DOT = "."


def direct_prompt(question, marker=MARKER):
    """Return a prompt that asks for nothing but the answer: a str.

    Args:
        question: str.
        marker: str. What the model should write before the answer.
    """
    check_text("question", question, "Ask one at a time.")
    check_marker(marker)
    return (
        f"{question}\nReply with one line only: `{marker}` and the number. Do "
        "not explain."
    )


def step_prompt(question, marker=MARKER):
    """Return a prompt that asks for steps before the answer: a str.

    Args:
        question: str.
        marker: str. What the model should write before the answer.

    Source: Kojima et al., 2022, arXiv:2205.11916.
    """
    check_text("question", question, "Ask one at a time.")
    check_marker(marker)
    return (
        f"{question}\nLet's think step by step. Then write one line: "
        f"`{marker}` and the number."
    )


def worked_prompt(question, examples, way="steps"):
    """Return a prompt that shows solved problems before the question.

    The model goes on after the question as the examples do, and with another
    question after the answer. So pass `stop_strings="Question:"` to the
    generator.

    Args:
        question: str.
        examples: list of `Problem`. Leave out the one that is asked.
        way: what comes after each question of an example; see
            `as_instructions`.

    Returns:
        str.

    Raises:
        UserError: there is no example, one of them has the same question, or
            `way` is something else.

    Source: Wei et al., 2022, arXiv:2201.11903 (`"steps"`); Brown et al., 2020,
    arXiv:2005.14165 (`"direct"`).
    """
    check_choice("way", way, WAYS)
    check_text("question", question)
    examples = check_problems(examples, "examples")
    if not examples:
        raise UserError(
            "`examples` must have at least one problem. Received: none. Use "
            "`step_prompt` to ask without examples."
        )
    for example in examples:
        if example.prompt == question:
            raise UserError(
                "`examples` must not have the question that is asked. "
                f"Received: {shown(question)}. Show other problems."
            )
    shots = [
        f"Question: {example.prompt}\n{_response(example, way)}\n\n"
        for example in examples
    ]
    return "".join([*shots, f"Question: {question}\n"])


def as_instructions(problems, way="steps", count=None):
    """Return problems as examples for supervised fine-tuning.

    Args:
        problems: list of `Problem`.
        way: what the model should write: `"steps"` for the worked solution,
            `"direct"` for the answer alone, `"dots"` for the answer after as
            many dots as the steps have tokens.
        count: callable from a str to its number of tokens, for `"dots"`; see
            `hide_steps`.

    Returns:
        list of `kerasllm.instructions.Instruction`.

    Raises:
        UserError: `way` is something else.
    """
    check_choice("way", way, WAYS)
    problems = check_problems(problems)
    return [
        Instruction(problem.prompt, _response(problem, way, count))
        for problem in problems
    ]


def hide_steps(solution, marker=MARKER, count=None):
    """Put dots in place of the steps of a solution.

    A model that writes the dots has as many tokens to compute with as one
    that writes steps. But it cannot read its results again. So what steps do
    beyond dots comes from their content.

    Args:
        solution: str, steps and then the marker with the answer.
        marker: str.
        count: callable from a str to the number of tokens of a model, such as
            `lambda text: len(tokenizer(text))`. `None` counts words, as they
            are between white space.

    Returns:
        str: a dot for each token of the steps, with spaces between them, and
        the line with the answer as it was.

    Raises:
        UserError: the marker is not in the solution.

    Source: Pfau et al., 2024, arXiv:2404.15758; Lanham et al., 2023,
    arXiv:2307.13702 (filler tokens).
    """
    check_text("solution", solution)
    check_marker(marker)
    if count is not None:
        check_callable("count", count, "Leave it out to count words.")
    steps, found, answer = solution.rpartition(marker)
    if not found:
        raise UserError(
            "`solution` must have the marker before its answer. Received: "
            f"{shown(solution)} without {shown(marker)}. Pass the `marker` of "
            "the problem."
        )
    blank = steps[len(steps.rstrip()) :]
    steps = steps.rstrip()
    num_dots = count(steps) if count else len(steps.split())
    return " ".join([DOT] * num_dots) + blank + found + answer


def _response(problem, way, count=None):
    """Return what a model should write for a problem: a str."""
    if way == "direct":
        return problem.bare_answer
    if way == "dots":
        return hide_steps(problem.solution, problem.marker, count)
    return problem.solution
