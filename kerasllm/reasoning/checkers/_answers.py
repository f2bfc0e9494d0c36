"""A checker of answers: a reward that cannot be had without the answer."""

import re
import warnings

import numpy as np

from kerasllm.checks import (
    UserError,
    check_callable,
    check_list,
    check_text,
    shown,
)
from kerasllm.reasoning.checkers._equations import find_equations
from kerasllm.reasoning.checkers._numbers import (
    CURRENCIES,
    NUMBER,
    as_number,
    find_numbers,
    number_at,
    without_latex,
)
from kerasllm.reasoning.checkers._words import numbers_in_words

MARKER = "ANSWER:"
# What may stand between the marker and the number: spaces, and marks.
_OPENING = re.compile(r"""[\s*_`"'“(\[{=]*(?:\$*\s*(?:\(|\\boxed\{)\s*)?""")
# What makes another number of the one before it.
_SCALE = re.compile(
    r"""(?-i:\s?k|[KMB])\b|[.,_][0-9]|\s*[+±^‰‱π]|\s*\\?pi\b|\s*[:x]\s*[0-9]
    |\s*-?(?:tenth|hundred(?:th)?|thousand(?:th)?|
            (?:m|b|tr|quadr|quint)illion(?:th)?|bn|lakh|crore|
            dozen|half|halve)s?\b
    # Not a singular: there are 42 fifth graders.
    |\s*-?(?:third|fourth|fifth|sixth|seventh|eighth|ninth)s\b
    |\s*(?:-?and|&)\s+\w+[\s-]+
        (?:half|halve|quarter|third|fourth|fifth|sixth|seventh|eighth|ninth|
           tenth)s?\b
    |\s*(?:plus|minus|squared|cubed|per\s+mille)\b""",
    re.IGNORECASE | re.VERBOSE,
)
# Something to compute, though it may be with the same number once more.
_OPERATION = re.compile(
    r"(?:[-+−–×·÷/⁄∕^±]|(?<!\*)\*|(?<![A-Za-z])[xX])\s*"
    rf"(?:[{CURRENCIES}(]\s*)?[0-9]"
)
_CHOICE = re.compile(r"\bor\b", re.IGNORECASE)
_POWER_OF_UNIT = re.compile(
    r"(?<=[A-Za-z])(?:\^?[23](?![0-9])|\^\{[23]\}|[²³])"
)


class AnswerChecker:
    r"""Compares the answer of a response with the right one, exactly.

    The answer is the number after the marker, as in `ANSWER: 42`. It may have
    a sign, a currency symbol, commas between thousands, decimals, or a unit,
    and be a fraction such as `3/4`. Of `50%`, both 50 and 1/2 are right. Text
    and punctuation may follow. LaTeX such as `\frac{3}{4}` is read, too.

    A response has one answer or none. It has none

    - if the line of the answer has another number, in digits or in words, or
      an "or";
    - if the marker occurs again with another number, or without one;
    - if a word is in place of the number, or makes another one of it, as in
      `20 thousand`, or there is something to compute, as in `20 * 2`;
    - if the question itself says the same after the same marker, so that the
      answer may be an echo.

    Args:
        marker: str. What stands before the answer, in the same case.
        require_steps: bool. Whether there must be a thought before the answer:
            an equation that holds and computes something, with the answer as
            the result of one. If the question is known, one of them must use
            a number of it, and those that the question itself has do not
            count.

    Raises:
        UserError: the marker is empty or no text.

    Example:
    ```python
    checker = AnswerChecker()
    checker([20, 20], ["13 + 7 = 20\nANSWER: 20", "ANSWER: 20 or 21"])
    # [1.0, 0.0]
    reward = checker.for_problems(problems)  # takes prompts and responses
    ```

    Source: chapter 16, section 16.4.4; Cobbe et al., 2021, arXiv:2110.14168
    (answers that a program compares).
    """

    def __init__(self, marker=MARKER, require_steps=False):
        check_marker(marker)
        self.marker = marker.strip()
        self.require_steps = bool(require_steps)
        # Not within a longer word, but maybe in italics.
        before = r"(?<![^\W_])" if self.marker[0].isalnum() else ""
        after = r"(?!\w)" if self.marker[-1].isalnum() else ""
        words = self.marker.removesuffix(":")
        # Also with the colon behind the bold word: `**ANSWER**: 42`.
        colon = "[*_`]*:" if words != self.marker else ""
        self._marker = re.compile(before + re.escape(words) + colon + after)

    def __call__(self, answers, responses):
        """Return which responses have the right answer.

        Args:
            answers: list of `Problem`, or of right answers: numbers, or str
                that are numbers.
            responses: list of str, one for each.

        Returns:
            float32 array `(len(responses),)`, 1 for right and 0 for wrong.

        Raises:
            UserError: there is not one answer for each response, or one of
                them is no number or no text.
        """
        answers = check_list("answers", answers)
        responses = check_list("responses", responses)
        if len(answers) != len(responses):
            raise UserError(
                "There must be one answer for each response. Received: "
                f"{len(answers)} answers and {len(responses)} responses. "
                "Repeat a problem for each of its responses."
            )
        return np.array(
            [
                self._is_right(answer, response)
                for answer, response in zip(answers, responses, strict=True)
            ],
            "float32",
        )

    def for_problems(self, problems, prompt=None):
        """Return this checker as a reward `(prompts, responses) -> floats`.

        Args:
            problems: list of `Problem`.
            prompt: callable from a problem's question to the prompt that the
                model reads, such as `step_prompt`, or `None` if it reads the
                bare question.

        Returns:
            A function of two lists of str. It raises a `UserError` for a
            prompt of none of the problems.

        Raises:
            UserError: two problems have the same prompt and different answers.
        """
        if prompt is not None:
            check_callable("prompt", prompt, "Leave it out for the question.")
        problem_of = {}
        for problem in check_list("problems", problems, "a list of problems"):
            if not hasattr(problem, "prompt") or not hasattr(problem, "answer"):
                raise UserError(
                    "Each of `problems` must have a `prompt` and an `answer`. "
                    f"Received: {shown(problem)}. A `Problem` has."
                )
            text = prompt(problem.prompt) if prompt else problem.prompt
            known = problem_of.setdefault(text, problem)
            if known.answer != problem.answer:
                raise UserError(
                    "Problems with the same prompt must have the same answer. "
                    f"Received: {known.answer} and {problem.answer} for "
                    f"{shown(text)}. Leave one of them out."
                )
        self.look_for_marker(problem_of)

        def reward(prompts, responses):
            for text in prompts:
                if text not in problem_of:
                    raise UserError(
                        "Each prompt must be that of a problem. Received: "
                        f"{shown(text)}. Pass all problems to `for_problems`, "
                        "and the `prompt` that makes prompts of questions."
                    )
            return self([problem_of[text] for text in prompts], responses)

        return reward

    def look_for_marker(self, problems):
        """Warn if nothing shows a model the marker that is looked for.

        Args:
            problems: dict from what a model is asked to the problem. The
                marker is that of an answer in one of the worked solutions, or
                it stands in one of the prompts.
        """
        solutions = [getattr(p, "solution", None) for p in problems.values()]
        texts = [text for text in solutions if isinstance(text, str) and text]
        is_shown = any(map(self._marker.search, [*texts, *problems]))
        if texts and not is_shown:
            warnings.warn(
                f"The checker looks for the marker {self.marker!r}, which is "
                "in none of the problems' solutions and prompts, such as "
                f"{shown(texts[0][-40:])}. A model that does not write it has "
                "no right answer. Use `AnswerChecker(problems[0].marker)`, or "
                "a `prompt` that asks for the marker.",
                stacklevel=3,
            )

    def find(self, response):
        """Return the one answer of a response.

        Args:
            response: str.

        Returns:
            An int or a `fractions.Fraction`, or `None` if there is no answer,
            or more than one. Equal answers are equal numbers, so that
            `kerasllm.generation.majority_vote` can count them.
        """
        answer = self._find(response)
        return None if answer is None else answer.value

    def _find(self, response):
        """Return the answer of a response, a `Number`, or `None`."""
        check_text("response", response, "A response is what a model wrote.")
        answers = self._answers(response)
        if not answers or None in answers:
            return None
        if len({answer.value for answer in answers}) > 1:
            return None
        return answers[0]

    def _answers(self, text):
        """Return a `Number` or `None` for each marker in a text: a list."""
        matches = list(self._marker.finditer(text))
        ends = [match.start() for match in matches[1:]] + [len(text)]
        return [
            _number_alone(text[match.end() : end])
            for match, end in zip(matches, ends, strict=False)
        ]

    def _echoes(self, question):
        """Return the numbers that a question has after the marker: a set."""
        question = without_latex(question)
        starts = [
            _OPENING.match(question, match.end()).end()
            for match in self._marker.finditer(question)
        ]
        numbers = [number_at(question, start) for start in starts]
        return {number.value for number in numbers if number is not None}

    def _is_right(self, answer, response):
        question = getattr(answer, "prompt", "")
        right = as_number(getattr(answer, "answer", answer))
        found = self._find(response)
        if found is None:
            return False
        is_right = found.value == right
        if found.is_percent:
            is_right = is_right or found.value == 100 * right
        if not is_right:
            return False
        if found.value in self._echoes(question):
            return False
        return not self.require_steps or self._has_steps(
            question, response, right
        )

    def _has_steps(self, question, response, right):
        """Return whether there is a thought before the answer."""
        thought = response[: self._marker.search(response).start()]
        given = find_equations(question)
        steps = [
            equation
            for equation in find_equations(thought)
            if equation.holds
            and not equation.is_trivial
            and equation not in given
        ]
        if right not in [equation.result for equation in steps]:
            return False
        if not question:
            return True
        numbers = set(find_numbers(question))
        return any(numbers & set(equation.operands) for equation in steps)


def check_marker(marker):
    """Check that a marker is text, and not blank.

    Raises:
        UserError: it is none, or blank.
    """
    check_text("marker", marker, "Use `ANSWER:`.")
    if not marker.strip():
        raise UserError(
            "`marker` must have a character that can be seen. Received: "
            f"marker={shown(marker)}. Use `ANSWER:`."
        )


def _number_alone(text):
    """Return the `Number` that a text begins with, or `None`.

    There is none if the line has another one.
    """
    text = without_latex(text)
    text = text[_OPENING.match(text).end() :]
    number = number_at(text, 0)
    if number is None:
        return None
    if "/" in text[: number.end] and number.value == int(number.value):
        return None  # a division that nobody has done
    rest = text[number.end :].partition("\n")[0]
    if _SCALE.match(rest) or _CHOICE.search(rest):
        return None
    rest = _POWER_OF_UNIT.sub("", rest).replace("_", " ")  # also of italics
    if _OPERATION.search(rest):
        return None
    # Such as the fraction ½, or digits of other scripts.
    if any(c.isnumeric() and not ("0" <= c <= "9") for c in rest):
        return None
    others = [number_at(rest, m.start()) for m in NUMBER.finditer(rest)]
    if any(other is None or other.value != number.value for other in others):
        return None
    if any(value != number.value for value in numbers_in_words(rest)):
        return None
    return number
