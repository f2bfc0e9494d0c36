# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   kerasllm:
#     forbidden:
#     - kerasllm
#     - keras_hub
#     - keras_nlp
#     - transformers
#     - trl
#     graded:
#     - read_number
#     - find_answer
#     - is_right
#     - group_advantages
#     - leave_one_out
#     - clipped_losses
#     - loss_gradients
#     - average_losses
#     - pass_at_k
#     - majority_vote
#     - choose_solutions
#     - learn
#     - train_round
# ---

# %% [markdown]
# # Homework 6: Reasoning
#
# A model that solves a problem in steps can learn from its own solutions, if a
# program tells which of them are right. No person has to write a solution. In
# this homework you write such a program. Then you write the parts of two ways
# to learn from it: self-training, which imitates the right solutions, and group
# relative policy optimization (GRPO), which compares solutions of the same
# problem. At the end you see what a model learns if the program can be fooled.
# Section 16.4.4 of *Deep Learning with Python* tells of these methods.
#
# | part | points |
# |---|---|
# | 1 A checker that cannot be fooled | 25 |
# | 2 Advantages | 15 |
# | 3 The clipped loss | 20 |
# | 4 Several attempts | 10 |
# | 5 Self-training, with a figure and a text graded by a person | 30 |
#
# Rules:
#
# - Replace each `raise NotImplementedError()` with your code. Keep names and
#   arguments. You may add cells and functions.
# - NumPy and the standard library are all you need.
# - You cannot change the test cells. Grading restores them. It also runs tests
#   that you do not see, on inputs that differ each time.
# - If the test of one of your functions fails in grading, the tests that follow
#   use the solution's version of that function. So one mistake costs its own
#   points and no others. On your own machine the later tests use your function,
#   so fix the first failing test first.
# - Do not use the variables of test cells in your code. In grading, the tests
#   run in a separate process that calls your functions.
# - In grading, a cell may take one minute, a call of a function may take 20
#   seconds, and the whole notebook may use 4 GB of memory.
# - Before you hand the notebook in, restart and run all cells, or run `kerasllm
#   homework check hw6_reasoning.ipynb`.

# %%
import collections
import fractions
import math
import re

import matplotlib.pyplot as plt
import numpy as np


# %% nbgrader={"grade": false, "grade_id": "to_array", "locked": true, "schema_version": 3, "solution": false, "task": false}
def to_array(value):
    """Turn what a function returned, a tensor or an array, into an array."""
    import numpy as np

    assert value is not None, "The function must return its result."
    if isinstance(value, (int, float, list, tuple, np.ndarray, np.generic)):
        return np.asarray(value)
    import keras

    return keras.ops.convert_to_numpy(value)


# %% [markdown]
# ## 1 A checker that cannot be fooled
#
# ### 1.1 Numbers (5 points)
#
# `2.50`, `$2.50` and `5/2` are the same number, and `1,000` is a thousand. A
# float would not do to compare numbers: with floats, `0.1 + 0.2` is not `0.3`.
# So represent a number as a fraction in lowest terms, a pair of ints with a
# positive denominator. Python's `fractions.Fraction` helps.
#
# A number may have a minus sign in front, and then a dollar sign. It is written
# with the digits 0 to 9 in one of two forms:
#
# - a whole number, which may go on with a point and more digits. Its thousands
#   may be set off by commas. If there is one comma, then all must be there, with
#   three digits after each of them;
# - a fraction, which is two whole numbers without commas around a slash. The
#   second one must not be zero.
#
# White space around a number does not matter. Everything else is no number.


# %% nbgrader={"grade": false, "grade_id": "read_number", "locked": false, "schema_version": 3, "solution": true, "task": false}
def read_number(text):
    """Read a number exactly.

    Args:
        text: str.

    Returns:
        A tuple of two ints, numerator and denominator, in lowest terms; `None`
        if the text is no number.
    """
    ### BEGIN SOLUTION
    match = re.fullmatch(
        r"\s*(-?)\$?"
        r"((?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.[0-9]+)?|[0-9]+/[0-9]+)\s*",
        text,
    )
    if match is None:
        return None
    sign, digits = match.groups()
    try:
        value = fractions.Fraction(digits.replace(",", ""))
    except ZeroDivisionError:
        return None
    if sign:
        value = -value
    return value.numerator, value.denominator
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_read_number", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
for text, expected in (
    ("42", (42, 1)),
    (" -7\n", (-7, 1)),
    ("2.50", (5, 2)),
    ("$2.50", (5, 2)),
    ("10/4", (5, 2)),
    ("-$1,234,567.5", (-2469135, 2)),
    ("0.1", (1, 10)),
    ("0", (0, 1)),
):
    found = read_number(text)
    assert found == expected, (
        f"{text!r} is a number, and must be read exactly. Received: {found} "
        f"instead of {expected}."
    )
for text in ("", "three", "3 4", "1,23", "1234,567", "3/0", "1.", "2 apples"):
    found = read_number(text)
    assert found is None, (
        f"{text!r} is no number in one of the two forms. Received: {found}."
    )
### BEGIN HIDDEN TESTS
import fractions
import os

import numpy as np

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} number".encode()))
for _ in range(60):
    whole = int(rng.integers(0, 10 ** int(rng.integers(1, 13))))
    form = rng.choice(["plain", "commas", "decimals", "both", "fraction"])
    text = f"{whole:,}" if form in ("commas", "both") else str(whole)
    value = fractions.Fraction(whole)
    if form in ("decimals", "both"):
        count = int(rng.integers(1, 20))
        digits = "".join(map(str, rng.integers(0, 10, count)))
        text += "." + digits
        value += fractions.Fraction(int(digits), 10**count)
    if form == "fraction":
        below = int(rng.integers(1, 1000))
        text += f"/{below}"
        value /= below
    if rng.random() < 0.3:
        text = "$" + text
    if rng.random() < 0.3:
        text, value = "-" + text, -value
    text = str(rng.choice(["", " ", "\n "])) + text + str(rng.choice(["", " "]))
    assert read_number(text) == (value.numerator, value.denominator), (
        "Any number of the two forms must be read exactly, as a fraction in "
        "lowest terms. Some random ones are not."
    )
first, second = (str(n) for n in rng.integers(10, 100, 2))
for text in (
    ",123", f"{first},,123", f"{first},12", f"1,{first}{second}", "12,3456",
    f"--{first}", f"{first}/0", f"{first}/{second}/2", f"{first}e2",
    f"{first}.{second}.1", f"1_{first}0", f"{first} {second}", f".{first}",
    f"0x{first}", "inf", "nan", "-", "$", "½", f"{first}²", "٣٤",
    f"{first}-{second}", f"{first}/1,000", f"{first}%", f"+{first}",
    f"−{first}", f"- {first}", f"$-{first}", f"$${first}", f"$ {first}",
    f"1,000/{second}", f"{first} / {second}", f"{first}/-{second}",
    f"{first}.5,000", f"{first}.5/{second}", f"{first}/{second}.5", f"{first}/00",
):  # fmt: skip
    assert read_number(text) is None, (
        "What is in neither of the two forms is no number: misplaced commas, "
        "other digits, signs in between. Some of this is read as one."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.2 One answer (10 points)
#
# A response ends with a marker and the answer, such as `ANSWER: 12 apples.` The
# checker must find the answer, and must not be satisfied by a response that
# tries several. The rules:
#
# - After each marker `ANSWER:`, up to the next marker or the end of the line,
#   there is a number. A space and *one* word of letters, its unit, may follow,
#   and then a period. White space around all this does not matter.
# - If something else follows a marker, the response has no answer.
# - If the marker occurs several times, its numbers must be equal. Otherwise, the
#   response has no answer.
# - The marker is in capitals. Without a marker, there is no answer.


# %% nbgrader={"grade": false, "grade_id": "find_answer", "locked": false, "schema_version": 3, "solution": true, "task": false}
def find_answer(response):
    """Find the one answer of a response.

    Args:
        response: str.

    Returns:
        The answer as `read_number` returns it, or `None` if there is none.
    """
    ### BEGIN SOLUTION
    found = set()
    for part in response.split("ANSWER:")[1:]:
        line = part.partition("\n")[0]
        match = re.fullmatch(r"\s*(\S*[0-9])(?: [A-Za-z]+)?\.?\s*", line)
        found.add(read_number(match[1]) if match else None)
    return found.pop() if len(found) == 1 else None
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_find_answer", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
for response, expected in (
    ("3 * 4 = 12\nANSWER: 12", (12, 1)),
    ("ANSWER: 12 apples.\nThat was easy, in 2 steps.", (12, 1)),
    ("ANSWER:$2.50.", (5, 2)),
    ("ANSWER: 5/2\nI am sure.\nANSWER: 2.5 dollars", (5, 2)),
    ("12", None),
    ("Answer: 12", None),
    ("ANSWER: twelve", None),
    ("ANSWER: 12 or 13", None),
    ("ANSWER: 12, 13", None),
    ("ANSWER: 12\nANSWER: 13", None),
    ("ANSWER: 12\nANSWER: I do not know", None),
):
    found = find_answer(response)
    assert found == expected, (
        "A response has one answer or none, by the rules above. Received: "
        f"{found} instead of {expected} for {response!r}."
    )
### BEGIN HIDDEN TESTS
import os

import numpy as np

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} answer".encode()))
for _ in range(30):
    number = int(rng.integers(1, 5000))
    other = number + int(rng.integers(1, 9))
    forms = [f"{number}", f"{number:,}", f"{number}.0", f"{2 * number}/2"]
    one, two = (str(form) for form in rng.choice(forms, 2))
    word = str(rng.choice(["apples", "friends", "Days"]))
    dot = str(rng.choice(["", "."]))
    thought = f"{other} - 1 = {other - 1}\nSo it is {other}, or less.\n"
    for response in (
        f"{thought}ANSWER: {one}",
        f"{thought}ANSWER:   {one}{dot}  \n{other} was wrong.",
        f"ANSWER: {one} {word}{dot}\n",
        f"{thought}ANSWER: {one} ANSWER: {two}",
        f"ANSWER: {one} {word}\n{thought}ANSWER:{two}{dot}",
        f"{thought}So it is, ANSWER: {one}",
    ):
        assert find_answer(response) == (number, 1), (
            "One number after each marker, with a unit or a period or without, "
            "and equal if there are several, is the answer. For some random "
            "responses it is not."
        )
    assert find_answer(f"{thought}ANSWER: -{one} {word}") == (-number, 1), (
        "Whatever `read_number` reads may be an answer, with its sign."
    )
    for response in (
        f"{thought}The answer: {one}",
        thought,
        f"{thought}answer: {one}",
        f"ANSWER: {one} {other}",
        f"ANSWER: {one} or {other}",
        f"ANSWER: {one} {word} {other} {word}",
        f"ANSWER: {one},{other}, and more",
        f"ANSWER: {word} {one}",
        f"ANSWER: {one} small {word}",
        f"ANSWER: {one}\nANSWER: {other}",
        f"ANSWER: {one} ANSWER: {other}",
        f"ANSWER: {one}\n{thought}ANSWER: {word}",
        f"ANSWER:\n{one}",
        f"ANSWER: {one}\nANSWER: {two}\nANSWER: {other} {word}",
        f"ANSWER: {one}\nANSWER: -{one}",
        f"ANSWER {one}",
        f"ANSWER: {one}{word}",
        f"ANSWER: {one}  {word}",
        f"ANSWER: {one} {word}-{word}",
        f"ANSWER: {one} {word}!",
        f"ANSWER: {one}..",
        f"ANSWER: {one},",
        f"ANSWER: {one} {word}2",
        f"ANSWER:\n{thought}ANSWER: {one}",
    ):
        assert find_answer(response) is None, (
            "A response without a marker, with something else after one, or "
            "with several numbers has no answer. Some random ones get one."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.3 A thought (10 points)
#
# Whoever guesses often enough is right at times. And a model that sees the
# answer in the question may learn to copy instead of to think. So the answer
# must come from a thought. The next cell has two functions that find *steps*,
# such as `3 * 4 = 12`, and whole numbers in a text. They do not judge: `3 * 4 =
# 13` is a step, too.


# %% nbgrader={"grade": false, "grade_id": "find_steps", "locked": true, "schema_version": 3, "solution": false, "task": false}
def find_steps(text):
    """Return the steps in a text: a list of `(a, operator, b, result)`.

    `a`, `b` and `result` are ints of at least 0, and `operator` is one of
    `"+"`, `"-"`, `"*"`, `"/"`.
    """
    import re

    number = r"(?<![-\w.,])([0-9]+)(?![\w,]|\.[0-9])"
    pattern = rf"{number} ([-+*/]) {number} = {number}"
    return [
        (int(a), operator, int(b), int(result))
        for a, operator, b, result in re.findall(pattern, text)
    ]


def find_whole_numbers(text):
    """Return the whole numbers in a text: a set of ints."""
    import re

    return {int(number) for number in re.findall("[0-9]+", text)}


# %% [markdown]
# A step *counts* if
#
# - it stands before the first marker,
# - it holds: both sides are equal, exactly, and nothing is divided by zero,
# - it does something, so it does not add or subtract 0, and does not multiply or
#   divide by 1. (`0 + 3` and `1 * 3` do nothing, either.)
# - it is not a step that the question has, too.
#
# A response is right if its answer is right, one of the steps that count has the
# answer as its result, and one of them has a number of the question as its `a`
# or its `b`. (This may be the same step.)


# %% nbgrader={"grade": false, "grade_id": "is_right", "locked": false, "schema_version": 3, "solution": true, "task": false}
def is_right(question, answer, response):
    """Return whether a response has the right answer and a thought.

    Args:
        question: str.
        answer: int of at least 0, the right answer.
        response: str.

    Returns:
        bool.
    """
    ### BEGIN SOLUTION
    if find_answer(response) != (answer, 1):
        return False
    given = find_steps(question)
    results, operands = set(), set()
    for step in find_steps(response.partition("ANSWER:")[0]):
        a, operator, b, result = step
        holds = {
            "+": a + b == result,
            "-": a - b == result,
            "*": a * b == result,
            "/": b != 0 and a == b * result,
        }[operator]
        idle = (
            (operator in "+-" and b == 0)
            or (operator in "*/" and b == 1)
            or (operator == "+" and a == 0)
            or (operator == "*" and a == 1)
        )
        if holds and not idle and step not in given:
            results.add(result)
            operands |= {a, b}
    return answer in results and bool(operands & find_whole_numbers(question))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_is_right", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
question = "Eli has 3 boxes of 4 cards. Is 2 + 10 = 12 of any help?"
for response, expected, reason in (
    ("3 * 4 = 12\nANSWER: 12", True, "It is right, and has a thought."),
    ("4 + 4 = 8\n8 + 4 = 12\nANSWER: 12 cards", True, "So does this one."),
    ("3 * 4 = 12\nANSWER: 13", False, "The answer is wrong."),
    ("3 * 4 = 12\nANSWER: 12\nANSWER: 13", False, "There are two answers."),
    ("ANSWER: 12", False, "There is no thought."),
    ("ANSWER: 12\n3 * 4 = 12", False, "The thought comes too late."),
    ("3 * 5 = 12\nANSWER: 12", False, "The step does not hold."),
    ("12 + 0 = 12\nANSWER: 12", False, "The step does nothing."),
    ("2 + 10 = 12\nANSWER: 12", False, "The question has the same step."),
    ("5 + 7 = 12\nANSWER: 12", False, "No number is from the question."),
    ("3 + 4 = 7\nANSWER: 12", False, "No step has the answer as its result."),
):
    found = is_right(question, 12, response)
    assert bool(found) == expected, (
        f"{reason} Received: {found} for {response!r}."
    )
### BEGIN HIDDEN TESTS
import os

import numpy as np

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} right".encode()))


def judge(question, answer, response, expected, message):
    assert bool(is_right(question, answer, response)) == expected, message


for _ in range(30):
    a, b, c = (int(n) for n in rng.choice(np.arange(3, 40), 3, False))
    other = 5000 + int(rng.integers(0, 99))
    question = (
        f"Kim has {a} pens and buys {b} packs of {c}. A bus has 77 seats."
    )
    total = a + b * c
    work = f"{b} * {c} = {b * c}\n{a} + {b * c} = {total}\n"
    end = f"ANSWER: {total} pens."
    for thought in (
        work,
        f"We multiply {b} by {c}: {b} * {c} = {b * c}.\n"
        f"And {b * c} + {a} = {total}.\n",
        f"{total * b} / {b} = {total}\n",
        f"{total + a} - {a} = {total}\n",
        # Steps that do not count, besides those that do.
        f"{other} + 1 = {other}\n5 / 0 = 5\n{a} + 0 = {a}\n{work}",
        # One step uses a number of the question, another has the answer.
        f"{a} + {b} = {a + b}\n{other} - {other - total} = {total}\n",
    ):
        judge(
            question, total, thought + end, True,
            "A right answer that comes from steps that count is right, "
            "whatever else is there. Some random ones are refused.",
        )  # fmt: skip
    for thought in (
        "",
        "I have thought about it for a long time.\n",
        f"{b} * {c} = {b * c + 1}\n{a + 1} + {b * c} = {total}\n",
        f"{a} + {b} = {a + b}\n",
        f"{total} + 0 = {total}\n{a} + {b} = {a + b}\n",
        f"0 + {total} = {total}\n{a} + {b} = {a + b}\n",
        f"{total} - 0 = {total}\n{a} + {b} = {a + b}\n",
        f"{total} * 1 = {total}\n{a} + {b} = {a + b}\n",
        f"1 * {total} = {total}\n{a} + {b} = {a + b}\n",
        f"{total} / 1 = {total}\n{a} + {b} = {a + b}\n",
        f"{total} / 0 = {total}\n{a} + {b} = {a + b}\n",
        f"{total * 2 + 1} / 2 = {total}\n{a} + {b} = {a + b}\n",
        f"{other} - {other - total} = {total}\n",
        f"{other} - {other - total} = {total}\n{a} + {b} = {a + b + 1}\n",
        f"{a} - {a + total} = {total}\n",
        f"{1000 * total + 1} / 1000 = {total}\n{a} + {b} = {a + b}\n",
        f"{total} + {a} = {total + a}\n",
    ):
        judge(
            question, total, thought + end, False,
            "Without a step that counts and has the answer as its result, and "
            "one that uses a number of the question, no answer is right. Some "
            "random ones are.",
        )  # fmt: skip
    for wrong in (total + 1, f"{total}/{total + 1}", f"{total}.5"):
        judge(
            question, total, work + f"ANSWER: {wrong}", False,
            "A wrong answer is wrong, whatever the steps are.",
        )  # fmt: skip
    judge(
        question, total, work + f"{end}\nANSWER: {total + 1}", False,
        "A response with two answers is never right.",
    )  # fmt: skip
    judge(
        question, total, f"{end}\n{work}", False,
        "Steps after the first marker do not count.",
    )  # fmt: skip
    judge(
        question, total, f"{end}\n{work}{end}", False,
        "Steps after the first marker do not count, before another one either.",
    )  # fmt: skip
    judge(
        question, 0, f"{a} - {a} = 0\nANSWER: 0", True,
        "Zero is an answer like any other.",
    )  # fmt: skip
    if 7 not in (a, b, c) and total != 70:
        judge(
            question, total, f"{total + 7} - 7 = {total}\n{end}", False,
            "A number is of the question only as a whole: 7 is not in 77.",
        )  # fmt: skip
    judge(
        f"{question} {work}", total, work + end, False,
        "Steps that the question has, too, do not count.",
    )  # fmt: skip
### END HIDDEN TESTS

# %% [markdown]
# ## 2 Advantages
#
# ### 2.1 Groups (10 points)
#
# A reward alone says little: solving an easy problem is nothing to learn from.
# GRPO lets the model solve each problem several times and compares the rewards
# within such a *group*. The advantage of a solution is its reward minus the mean
# of its group, divided by
#
# - `"group"`: the standard deviation of the group plus $10^{-6}$,
# - `"batch"`: the standard deviation of *all* rewards plus $10^{-6}$,
# - `"none"`: nothing.
#
# Standard deviations have $n - 1$ in the denominator. A group whose rewards are
# all equal teaches nothing: its advantages are 0.


# %% nbgrader={"grade": false, "grade_id": "group_advantages", "locked": false, "schema_version": 3, "solution": true, "task": false}
def group_advantages(rewards, num_generations, scale="group"):
    """Return how much better solutions are than others of their group.

    Args:
        rewards: float array `(num_problems * num_generations,)`, the groups
            side by side.
        num_generations: int of at least 2, the size of a group.
        scale: `"group"`, `"batch"` or `"none"`.

    Returns:
        float array of the shape of `rewards`.
    """
    ### BEGIN SOLUTION
    rewards = np.asarray(rewards, "float64")
    groups = rewards.reshape(-1, num_generations)  # (problems, in a group)
    advantages = groups - groups.mean(axis=1, keepdims=True)
    if scale == "group":
        advantages /= groups.std(axis=1, ddof=1, keepdims=True) + 1e-6
    elif scale == "batch":
        advantages /= rewards.std(ddof=1) + 1e-6
    return advantages.reshape(-1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_group_advantages", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

rewards = np.array([0.2, 0.5, 0.0, 0.4, 0.9, 0.7, 0.2, 0.0])
for scale, expected in (
    ("none", [-0.075, 0.225, -0.275, 0.125, 0.45, 0.25, -0.25, -0.45]),
    (
        "group",
        [-0.3382, 1.0147, -1.2402, 0.5637, 1.0706, 0.5948, -0.5948, -1.0706],
    ),
):
    found = to_array(group_advantages(rewards, 4, scale))
    assert found.shape == (8,), (
        f"There is an advantage for each reward. Received: {found.shape}."
    )
    assert np.allclose(found, expected, atol=1e-3), (
        "The first group has the mean 0.275 and the standard deviation 0.2217, "
        "the second one 0.45 and 0.4203. Received, for the scale "
        f"{scale!r}: {found}."
    )
found = to_array(group_advantages(np.array([1.0, 0, 1, 1]), 2, "batch"))
assert np.allclose(found, [1, -1, 0, 0], atol=1e-3), (
    "All rewards together have the standard deviation 0.5, and the group of "
    f"equal rewards has advantages of 0. Received: {found}."
)
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} group".encode()))


def deviation(values):
    mean = sum(values) / len(values)
    total = sum((value - mean) ** 2 for value in values)
    return math.sqrt(total / (len(values) - 1))


for kind in ("float", "right or wrong", "tiny", "right or wrong"):
    size, problems = (int(n) for n in rng.integers(2, 9, 2))
    rewards = rng.normal(3, 2, size * problems)
    if kind == "right or wrong":
        rewards = (rewards > 3).astype("float64")
    elif kind == "tiny":  # so that it matters what is added
        rewards *= 1e-5
    rewards[:size] = rewards[0]  # of one group, all are equal
    for scale in ("group", "batch", "none"):
        found = to_array(group_advantages(rewards, size, scale))
        by = 1 if scale == "none" else deviation(rewards.tolist()) + 1e-6
        for i in range(problems):
            group = rewards[i * size : (i + 1) * size].tolist()
            if scale == "group":
                by = deviation(group) + 1e-6
            for j in range(size):
                expected = (group[j] - sum(group) / size) / by
                assert abs(found[i * size + j] - expected) < 1e-3, (
                    "An advantage is the reward minus the mean of its own "
                    f"group, with the scale {scale!r}. For some random rewards "
                    "it is not."
                )
### END HIDDEN TESTS

# %% [markdown]
# ### 2.2 The others (5 points)
#
# The mean of a group contains the reward that it is compared with. REINFORCE
# leave-one-out (RLOO) takes the mean of the *other* rewards of the group
# instead, and does not scale.


# %% nbgrader={"grade": false, "grade_id": "leave_one_out", "locked": false, "schema_version": 3, "solution": true, "task": false}
def leave_one_out(rewards, num_generations):
    """Return how much better solutions are than the others of their group.

    Args:
        rewards: float array `(num_problems * num_generations,)`, the groups
            side by side.
        num_generations: int of at least 2, the size of a group.

    Returns:
        float array of the shape of `rewards`.
    """
    ### BEGIN SOLUTION
    groups = np.asarray(rewards, "float64").reshape(-1, num_generations)
    others = groups.sum(axis=1, keepdims=True) - groups
    return (groups - others / (num_generations - 1)).reshape(-1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_leave_one_out", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

found = to_array(leave_one_out(np.array([1.0, 0, 0, 2, 2, 2]), 3))
assert np.allclose(found, [1, -0.5, -0.5, 0, 0, 0], atol=1e-6), (
    "The first reward is 1, and the others of its group are 0 on average. The "
    f"second is 0, and the others are 0.5. Received: {found}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} others".encode()))
for _ in range(4):
    size, problems = (int(n) for n in rng.integers(2, 8, 2))
    rewards = rng.normal(-2, 3, size * problems)
    found = to_array(leave_one_out(rewards, size))
    assert found.shape == rewards.shape, "There must be one for each reward."
    for i in range(len(rewards)):
        first = i - i % size
        others = [rewards[j] for j in range(first, first + size) if j != i]
        expected = rewards[i] - sum(others) / len(others)
        assert abs(found[i] - expected) < 1e-4, (
            "The baseline must be the mean of the other rewards of the same "
            "group. For some random rewards it is not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 3 The clipped loss
#
# ### 3.1 Tokens (10 points)
#
# The tokens of a solution were sampled by the model as it was, the *old* one.
# While the model learns from them, it changes. Let $r$ be the probability of a
# token now, divided by the old one, and $A$ the advantage of its solution. The
# loss of the token is
#
# $$-\min\bigl(r A,\ \text{clip}(r, 1 - \epsilon, 1 + \epsilon_\text{high})\,
# A\bigr).$$
#
# The minimum is what matters: it takes the gradient away from a token that has
# already become much more likely *and should*, or much less likely and should,
# but not from a token that went the wrong way.
#
# Solutions have different lengths. Where the mask is false there is padding,
# whose loss is 0 whatever stands there, `nan` and infinity included.


# %% nbgrader={"grade": false, "grade_id": "clipped_losses", "locked": false, "schema_version": 3, "solution": true, "task": false}
def clipped_losses(
    logprobs, old_logprobs, advantages, mask, epsilon, epsilon_high=None
):
    """Compute the clipped loss of each token.

    Args:
        logprobs: float array `(batch, length)`, log-probabilities of the
            tokens now.
        old_logprobs: the same when the tokens were sampled.
        advantages: float array `(batch,)`, one for each solution.
        mask: bool array `(batch, length)`, true for tokens.
        epsilon: float in (0, 1).
        epsilon_high: float > 0; `None` for `epsilon`.

    Returns:
        float array `(batch, length)`.
    """
    ### BEGIN SOLUTION
    high = epsilon if epsilon_high is None else epsilon_high
    gained = np.subtract(logprobs, old_logprobs)
    ratio = np.exp(np.where(mask, gained, 0))
    clipped = np.clip(ratio, 1 - epsilon, 1 + high)
    advantages = np.asarray(advantages)[:, None]
    losses = -np.minimum(ratio * advantages, clipped * advantages)
    return np.where(mask, losses, 0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_clipped_losses", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

old = np.log(np.full((2, 4), 0.5))
new = np.log(np.array([[0.5, 0.75, 0.25, 0.55]] * 2))
mask = np.array([[True, True, True, True], [True, True, True, False]])
losses = to_array(clipped_losses(new, old, np.array([2.0, -2.0]), mask, 0.2))
assert losses.shape == (2, 4), (
    f"There is a loss for each token. Received: {losses.shape}."
)
assert np.allclose(losses[0], [-2, -2.4, -1, -2.2], atol=1e-4), (
    "The ratios are 1, 1.5, 0.5, and 1.1. With an advantage of 2, a ratio of "
    "1.5 counts as 1.2, and the others count as they are. Received: "
    f"{losses[0]}."
)
assert np.allclose(losses[1], [2, 3, 1.6, 0], atol=1e-4), (
    "With an advantage of -2, a ratio of 0.5 counts as 0.8, and one of 1.5 as "
    f"it is. Padding counts nothing. Received: {losses[1]}."
)
high = to_array(
    clipped_losses(new, old, np.array([2.0, -2.0]), mask, 0.2, epsilon_high=0.4)
)
assert np.allclose(high[:, 1], [-2.8, 3], atol=1e-4), (
    "With an `epsilon_high` of 0.4, a ratio of 1.5 counts as 1.4. Received: "
    f"{high[:, 1]}."
)
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} clip".encode()))
for high in (None, 0.4, 0.1):
    batch, length = (int(n) for n in rng.integers(3, 8, 2))
    old = -rng.uniform(0, 3, (batch, length))
    new = old + rng.normal(0, 0.4, (batch, length))
    advantages = rng.normal(0, 1, batch)
    advantages[0] = 0
    mask = rng.random((batch, length)) < 0.7
    low = float(rng.uniform(0.1, 0.3))
    new[~mask] = rng.choice([np.nan, np.inf, -5.0], (~mask).sum())
    losses = to_array(clipped_losses(new, old, advantages, mask, low, high))
    for i, j in np.ndindex(batch, length):
        expected = 0.0
        if mask[i, j]:
            ratio = math.exp(new[i, j] - old[i, j])
            upper = 1 + (low if high is None else high)
            clipped = min(max(ratio, 1 - low), upper)
            expected = -min(ratio * advantages[i], clipped * advantages[i])
        assert abs(losses[i, j] - expected) < 1e-4, (
            "The loss must be the clipped one for tokens, with both bounds, "
            "and 0 for padding. For some random log-probabilities it is not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 3.2 The gradient, by hand (5 points)
#
# Derive on paper by how much the loss of a token changes with its
# log-probability now, and write the result as a formula. Do not use automatic
# differentiation or small differences. At the first step all ratios are 1, and
# the loss of a whole group adds up to 0. Is the gradient 0, too?


# %% nbgrader={"grade": false, "grade_id": "loss_gradients", "locked": false, "schema_version": 3, "solution": true, "task": false}
def loss_gradients(
    logprobs, old_logprobs, advantages, mask, epsilon, epsilon_high=None
):
    """Return the gradients of `clipped_losses` in `logprobs`.

    Args:
        logprobs: float array `(batch, length)`; these and the others are as
            for `clipped_losses`.
        old_logprobs: float array `(batch, length)`.
        advantages: float array `(batch,)`.
        mask: bool array `(batch, length)`.
        epsilon: float in (0, 1).
        epsilon_high: float > 0; `None` for `epsilon`.

    Returns:
        float array `(batch, length)`, for each token the gradient of its own
        loss. Where the ratio is just at a bound, either slope is right.
    """
    ### BEGIN SOLUTION
    high = epsilon if epsilon_high is None else epsilon_high
    gained = np.subtract(logprobs, old_logprobs)
    ratio = np.exp(np.where(mask, gained, 0))
    advantages = np.asarray(advantages)[:, None] + np.zeros_like(ratio)
    flat = np.where(advantages > 0, ratio > 1 + high, ratio < 1 - epsilon)
    return np.where(flat | ~np.asarray(mask, bool), 0, -ratio * advantages)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_loss_gradients", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

old = np.log(np.full((2, 4), 0.5))
mask = np.array([[True, True, True, True], [True, True, True, False]])
found = to_array(loss_gradients(old, old, np.array([2.0, -2.0]), mask, 0.2))
assert np.allclose(found, [[-2, -2, -2, -2], [2, 2, 2, 0]], atol=1e-4), (
    "At a ratio of 1, the gradient is minus the advantage, and not 0. "
    f"Received: {found}."
)
new = np.log(np.array([[0.5, 0.75, 0.25, 0.55]] * 2))
found = to_array(loss_gradients(new, old, np.array([2.0, -2.0]), mask, 0.2))
assert np.allclose(found, [[-2, 0, -1, -2.2], [2, 3, 0, 0]], atol=1e-4), (
    "A token that has gone far enough in the right direction has no gradient: "
    "here the ratio 1.5 of the first solution, and the ratio 0.5 of the second "
    f"one. Received: {found}."
)
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} slope".encode()))
for high in (None, 0.5, 0.05):
    batch, length = (int(n) for n in rng.integers(5, 10, 2))
    low = float(rng.uniform(0.1, 0.3))
    upper = low if high is None else high
    old = -rng.uniform(0, 3, (batch, length))
    # On no bound, where there is no slope.
    ratios = rng.choice(
        [1 - 1.5 * low, 1 - low / 2, 1 + upper / 2, 1 + 1.5 * upper, 2.0],
        (batch, length),
    )
    advantages = rng.normal(0, 1, batch)
    mask = rng.random((batch, length)) < 0.7
    if high is not None:  # between the two bounds
        ratios[0, 0], mask[0, 0] = 1 + (low + upper) / 2, True
        advantages[0] = 1
    new = old + np.log(ratios)
    found = to_array(loss_gradients(new, old, advantages, mask, low, high))
    for i, j in np.ndindex(batch, length):
        ends = []
        for step in (1e-5, -1e-5):
            ratio = math.exp(new[i, j] + step - old[i, j])
            clipped = min(max(ratio, 1 - low), 1 + upper)
            ends.append(-min(ratio * advantages[i], clipped * advantages[i]))
        slope = (ends[0] - ends[1]) / 2e-5 if mask[i, j] else 0
        assert abs(found[i, j] - slope) < 1e-3, (
            "The gradient must be the slope of the token's loss, and 0 for "
            "padding. For some random ratios it is not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 3.3 The mean, in three ways (5 points)
#
# One number is needed. How much a token of a long solution weighs depends on
# how it is made:
#
# - `"grpo"`: the mean over the tokens of each solution, and then the mean over
#   the solutions. A solution without tokens counts as one whose mean is 0.
# - `"dapo"`: the sum over all tokens, divided by their number.
# - `"dr_grpo"`: the sum over all tokens, divided by the number of solutions times
#   `max_length`, the largest length that a solution may have.


# %% nbgrader={"grade": false, "grade_id": "average_losses", "locked": false, "schema_version": 3, "solution": true, "task": false}
def average_losses(losses, mask, kind, max_length):
    """Average the losses of tokens.

    Args:
        losses: float array `(batch, length)`, 0 for padding.
        mask: bool array `(batch, length)`, true for tokens, at least once.
        kind: `"grpo"`, `"dapo"` or `"dr_grpo"`.
        max_length: int of at least `length`, for `"dr_grpo"`.

    Returns:
        float.
    """
    ### BEGIN SOLUTION
    if kind == "dapo":
        return float(np.sum(losses) / np.sum(mask))
    if kind == "dr_grpo":
        return float(np.sum(losses) / (len(losses) * max_length))
    lengths = np.maximum(np.sum(mask, axis=1), 1)
    return float(np.mean(np.sum(losses, axis=1) / lengths))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_average_losses", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

losses = np.array([[4.0, 0, 0, 0], [1.0, 2, 3, 2]])
mask = np.array([[1, 0, 0, 0], [1, 1, 1, 1]], bool)
for kind, expected in (
    ("grpo", (4 + 2) / 2),
    ("dapo", 12 / 5),
    ("dr_grpo", 12 / (2 * 10)),
):
    found = to_array(average_losses(losses, mask, kind, 10))
    assert found.shape == (), f"The loss is one number. Received: {found}."
    assert abs(found - expected) < 1e-6, (
        "One solution has the loss 4 in its only token, and the other one has "
        f"a mean of 2 in its four tokens. For {kind!r} that makes {expected}. "
        f"Received: {found}."
    )
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} mean".encode()))
for _ in range(4):
    batch, length = (int(n) for n in rng.integers(2, 8, 2))
    mask = np.arange(length) < rng.integers(0, length + 1, (batch, 1))
    mask[0], mask[1] = True, False
    losses = np.where(mask, rng.normal(0, 1, (batch, length)), 0)
    losses[0, 0] = 0  # as where the advantage is
    longest = length + int(rng.integers(0, 5))
    means = [
        sum(row[m].tolist()) / m.sum() if m.any() else 0.0
        for row, m in zip(losses, mask)
    ]
    total = sum(losses[mask].tolist())
    for kind, expected in (
        ("grpo", sum(means) / batch),
        ("dapo", total / mask.sum()),
        ("dr_grpo", total / (batch * longest)),
    ):
        found = to_array(average_losses(losses, mask, kind, longest))
        assert abs(found - expected) < 1e-5, (
            f"For {kind!r} the mean must be as described, with solutions of "
            "any length, none included. For some random losses it is not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 4 Several attempts
#
# ### 4.1 Is one of k right? (5 points)
#
# How probable is it that one of $k$ attempts at a problem is right, at least?
# This is called pass@k. Of $n$ attempts, $c$ were right. Take *all* ways to
# choose $k$ of the $n$: in which share of them is a right one? Binomial
# coefficients may be too large for a float, but Python's integers are exact, and
# so is their division. (The formula $1 - (1 - c / n)^k$ is tempting. It is too
# low on average, because it lets one attempt be chosen twice.)


# %% nbgrader={"grade": false, "grade_id": "pass_at_k", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pass_at_k(n, c, k):
    """Estimate how probable it is that one of `k` attempts is right.

    Args:
        n: int, the number of attempts.
        c: int in [0, n], how many were right.
        k: int in [1, n].

    Returns:
        float.
    """
    ### BEGIN SOLUTION
    return 1 - math.comb(n - c, k) / math.comb(n, k)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_pass_at_k", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
for (n, c, k), expected in (
    ((5, 0, 3), 0),
    ((5, 2, 1), 2 / 5),
    ((5, 2, 2), 7 / 10),
    ((5, 2, 4), 1),
):
    found = pass_at_k(n, c, k)
    assert abs(found - expected) < 1e-9, (
        f"Of {n} attempts {c} were right. If {k} are chosen, a right one is "
        f"among them with the probability {expected}. Received: {found}."
    )
### BEGIN HIDDEN TESTS
import itertools
import os

import numpy as np

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} pass".encode()))
for _ in range(12):
    n = int(rng.integers(1, 10))
    c, k = int(rng.integers(0, n + 1)), int(rng.integers(1, n + 1))
    hits = [
        min(chosen) < c  # the first ones are right
        for chosen in itertools.combinations(range(n), k)
    ]
    assert abs(pass_at_k(n, c, k) - sum(hits) / len(hits)) < 1e-9, (
        "The estimate must be the share of all ways to choose k attempts in "
        "which one is right. For some random counts it is not."
    )
n = int(rng.integers(2000, 3000))
found = pass_at_k(2 * n, 2, n)
assert abs(found - (1 - (n - 1) / (2 * n - 1) / 2)) < 1e-6, (
    "Half of very many attempts miss two right ones with a probability of "
    "about a quarter. Large numbers must not overflow."
)
### END HIDDEN TESTS

# %% [markdown]
# ### 4.2 The majority (5 points)
#
# Nobody knows which attempt is right when a model is used. But right attempts
# agree, and wrong ones are wrong in different ways. So let them vote: return the
# answer that occurs most often. Of answers that occur equally often, the one that
# came first wins. `None` stands for an attempt without an answer, which has no
# vote.


# %% nbgrader={"grade": false, "grade_id": "majority_vote", "locked": false, "schema_version": 3, "solution": true, "task": false}
def majority_vote(answers):
    """Return the answer that most attempts give.

    Args:
        answers: list of tuples as `find_answer` returns them, or `None`.

    Returns:
        One of them; `None` if no attempt has an answer.
    """
    ### BEGIN SOLUTION
    votes = collections.Counter(a for a in answers if a is not None)
    return max(votes, key=votes.get) if votes else None
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_majority_vote", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
for answers, expected in (
    ([(3, 1), (5, 2), (5, 2)], (5, 2)),
    ([(3, 1), (5, 2)], (3, 1)),
    ([None, (7, 1), None], (7, 1)),
    ([None, None], None),
    ([(9, 1), (2, 1), (2, 1), (9, 1)], (9, 1)),
):
    found = majority_vote(answers)
    found = found if found is None else tuple(found)
    assert found == expected, (
        "The commonest answer wins, and of equally common ones the first. "
        f"`None` has no vote. Received: {found} instead of {expected} for "
        f"{answers}."
    )
### BEGIN HIDDEN TESTS
import os

import numpy as np

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} vote".encode()))
for _ in range(30):
    kinds = [None, *((int(n), 1) for n in rng.integers(-9, 9, 3))]
    chosen = rng.integers(0, 4, int(rng.integers(1, 12)))
    answers = [kinds[i] for i in chosen]
    best, most = None, 0
    for answer in answers:
        count = sum(other == answer for other in answers)
        if answer is not None and count > most:
            best, most = answer, count
    found = majority_vote(answers)
    found = found if found is None else tuple(found)
    assert found == best, (
        "The commonest answer must win, of equally common ones the first, and "
        "without the votes of attempts that have none. For some random answers "
        "it does not."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 5 Self-training
#
# The model is as small as can be: a table. A problem is a number of cards, and
# then two or three *events*, each with a verb and a number. At each event the
# model chooses one of six *actions*. It adds the number, subtracts it,
# multiplies by it, or skips it, and writes down what it computes. Or it has
# enough of thinking: it guesses an answer, or it lists many. The row
# `table[verb]` has the logits of the actions. The next cell defines all of this,
# and a table to start from, which is not good.


# %% nbgrader={"grade": false, "grade_id": "world", "locked": true, "schema_version": 3, "solution": false, "task": false}
VERBS = ["gets", "finds", "gives", "loses", "boxes", "bus"]
ACTIONS = ["+", "-", "*", "skip", "guess", "list"]
RULES = [0, 0, 1, 1, 2, 3]  # the right action for each verb
NOTES = [
    "gets {n}",
    "finds {n}",
    "gives {n}",
    "loses {n}",
    "has {n} boxes of that",
    "bus every {n} minutes",
]
MOST_EVENTS = 3
MOST_CARDS = 40
# Of 100 choices at the start, how many are which action, for each verb.
PERCENT = """
 32 26 12 12 12  6
 24 34 12 12 12  6
 32 28 12 10 12  6
 22 30 12 18 12  6
 34 14 24 10 12  6
 26 26 12 18 12  6
"""


def start_table():
    """Return the table before training, float64 `(6, 6)`."""
    import numpy as np

    rows = [line.split() for line in PERCENT.split("\n")[1:-1]]
    return np.log(np.array(rows, "float64") / 100)


def make_problems(count, seed):
    """Make up problems.

    Returns:
        list of dicts with `question`, a str; `start`, an int; `events`, a list
        of `[verb, number]`; and `answer`, an int.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    problems = []
    while len(problems) < count:
        start = total = int(rng.integers(2, 10))
        events = []
        for verb in rng.integers(0, 6, rng.integers(2, MOST_EVENTS + 1)):
            verb, n = int(verb), int(rng.integers(2, 10))
            if RULES[verb] == 2:
                n = int(rng.integers(2, 4))
            events.append([verb, n])
            total = [total + n, total - n, total * n, total][RULES[verb]]
            if not 1 <= total <= MOST_CARDS:
                break
        else:
            notes = [NOTES[verb].format(n=n) for verb, n in events]
            notes = [f"{start} cards", *notes, "how many cards ?"]
            if any(RULES[verb] != 3 for verb, _ in events):
                problems.append(
                    {
                        "question": " . ".join(notes),
                        "start": start,
                        "events": events,
                        "answer": total,
                    }
                )
    return problems


def verbs_of(problems):
    """Return the verb of each event, int `(problems, 3)`, and else -1."""
    import numpy as np

    verbs = np.full((len(problems), MOST_EVENTS), -1)
    for row, problem in zip(verbs, problems):
        for k, (verb, _) in enumerate(problem["events"]):
            row[k] = verb
    return verbs


def action_shares(table):
    """Return the probabilities of the actions, float `(6, 6)`."""
    import numpy as np

    table = np.asarray(table, "float64")
    shares = np.exp(table - table.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def write_solution(problem, actions, guess):
    """Return the response that actions make, and how many were needed."""
    total, lines = problem["start"], []
    for k, ((_, n), action) in enumerate(zip(problem["events"], actions)):
        if ACTIONS[action] == "guess":
            return "\n".join([*lines, f"ANSWER: {guess}"]), k + 1
        if ACTIONS[action] == "list":
            many = " ".join(str(i) for i in range(1, MOST_CARDS + 1))
            return "\n".join([*lines, f"ANSWER: {many}"]), k + 1
        if ACTIONS[action] != "skip":
            result = [total + n, total - n, total * n][action]
            lines.append(f"{total} {ACTIONS[action]} {n} = {result}")
            total = result
    return "\n".join([*lines, f"ANSWER: {total}"]), len(problem["events"])


def solve(problems, table, num_generations, seed, greedy=False):
    """Let the model solve each problem several times.

    Args:
        problems: list of dict.
        table: float array `(6, 6)`.
        num_generations: int.
        seed: int, or list of ints. The same seed gives the same solutions.
        greedy: bool. Whether the likeliest actions are taken.

    Returns:
        A pair: the responses, a list with a list of str for each problem; and
        the actions, int array `(problems, num_generations, 3)`, with -1 after
        the last one.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    shape = (len(problems), num_generations, MOST_EVENTS)
    shares = action_shares(table)[verbs_of(problems)]  # (problems, 3, 6)
    if greedy:
        actions = np.broadcast_to(shares.argmax(-1)[:, None], shape).copy()
    else:
        bounds = np.cumsum(shares, axis=-1)[:, None, :, :-1]
        actions = (bounds <= rng.random(shape)[..., None]).sum(axis=-1)
    guesses = rng.integers(1, MOST_CARDS + 1, shape[:2]).tolist()
    responses = []
    for i, problem in enumerate(problems):
        texts = []
        for j in range(num_generations):
            text, used = write_solution(
                problem, actions[i, j].tolist(), guesses[i][j]
            )
            texts.append(text)
            actions[i, j, used:] = -1
        responses.append(texts)
    return responses, actions


def loose_check(answer, response):
    """Tell whether the right number is anywhere after the marker."""
    after = response.partition("ANSWER:")[2]
    return answer in find_whole_numbers(after)


def action_logprobs(table, verbs, actions):
    """Return the log-probabilities of actions, 0 where there is none.

    Args:
        table: float array `(6, 6)`.
        verbs: int array `(problems, 3)`.
        actions: int array `(problems, num_generations, 3)`.

    Returns:
        float array `(problems * num_generations, 3)`.
    """
    import numpy as np

    logs = np.log(action_shares(table))
    chosen = logs[verbs[:, None, :], actions]
    return np.where(actions < 0, 0, chosen).reshape(-1, MOST_EVENTS)


def table_gradient(table, verbs, actions, gradients):
    """Return the gradient of a loss in the table.

    Args:
        table: float array `(6, 6)`.
        verbs: int array `(problems, 3)`.
        actions: int array `(problems, num_generations, 3)`.
        gradients: float array `(problems * num_generations, 3)`, the gradient
            of the loss in the log-probabilities of the actions.

    Returns:
        float array `(6, 6)`.
    """
    import numpy as np

    verbs = np.broadcast_to(verbs[:, None, :], actions.shape)
    taken = actions.reshape(-1, MOST_EVENTS) >= 0
    verbs = verbs.reshape(-1, MOST_EVENTS)[taken]
    actions = actions.reshape(-1, MOST_EVENTS)[taken]
    pulls = np.asarray(gradients)[taken]
    result = np.zeros((6, 6))
    np.add.at(result, (verbs, actions), pulls)
    np.add.at(result, verbs, -pulls[:, None] * action_shares(table)[verbs])
    return result


# %%
problems = make_problems(2, seed=0)
responses, actions = solve(problems, start_table(), 3, seed=0)
for problem, texts in zip(problems, responses):
    print(problem["question"], "->", problem["answer"])
    for text in texts:
        print("   ", text.replace("\n", " . ")[:60])

# %% [markdown]
# ### 5.1 What is kept (5 points)
#
# Self-training keeps right solutions. Of equal solutions to the same problem,
# only the first one is kept, and of each problem at most the first `most` that
# remain. Otherwise, the model would learn hardly anything but solutions to
# problems that it can already solve.


# %% nbgrader={"grade": false, "grade_id": "choose_solutions", "locked": false, "schema_version": 3, "solution": true, "task": false}
def choose_solutions(responses, right, most):
    """Choose the solutions to learn from.

    Args:
        responses: list with a list of str for each problem, all of one length.
        right: bool array `(problems, num_generations)`.
        most: int of at least 1, how many are kept of a problem at most.

    Returns:
        bool array `(problems, num_generations)`, true for what is kept.
    """
    ### BEGIN SOLUTION
    kept = np.zeros(np.shape(right), bool)
    for i, texts in enumerate(responses):
        seen = set()
        for j, text in enumerate(texts):
            if right[i][j] and text not in seen and len(seen) < most:
                seen.add(text)
                kept[i, j] = True
    return kept
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_choose_solutions", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

responses = [["a", "b", "a", "c", "d"], ["a", "x", "y", "a", "a"]]
right = np.array([[1, 0, 1, 1, 1], [0, 0, 0, 1, 1]], bool)
for most, expected in (
    (9, [[1, 0, 0, 1, 1], [0, 0, 0, 1, 0]]),
    (2, [[1, 0, 0, 1, 0], [0, 0, 0, 1, 0]]),
):
    kept = to_array(choose_solutions(responses, right, most))
    assert np.array_equal(kept, np.array(expected, bool)), (
        "Right solutions are kept, the first of equal ones, and at most "
        f"{most} of a problem. Another problem may keep the same. Received: "
        f"{kept.astype(int)}."
    )
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} keep".encode()))
for _ in range(10):
    problems, size, most = (int(n) for n in rng.integers(1, 8, 3))
    names = rng.integers(0, 4, (problems, size))
    right = rng.random((problems, size)) < 0.6
    responses = [[f"text {n}" for n in row] for row in names]
    kept = to_array(choose_solutions(responses, right, most))
    assert kept.shape == right.shape, "There must be a bool for each solution."
    for i in range(problems):
        expected = []
        for j in range(size):
            before = [names[i, k] for k in range(j) if expected[k]]
            is_new = names[i, j] not in before and len(before) < most
            expected.append(bool(right[i, j]) and is_new)
        assert kept[i].astype(bool).tolist() == expected, (
            "The first right ones of a problem must be kept, each text once "
            "and at most as many as asked for. For some random solutions they "
            "are not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 5.2 Learning (5 points)
#
# For a table, the likeliest weights can be counted: the probability of an action
# after a verb is its share among all actions after this verb in the solutions
# that were kept. So that nothing becomes impossible, the table that training
# starts from also counts, as if `strength` more actions had been seen after each
# verb, in the shares of that table:
#
# $$\text{share}(\text{verb}, \text{action}) = \frac{\text{count} +
# \text{strength} \cdot \text{share at the start}}{\text{sum of counts} +
# \text{strength}}.$$


# %% nbgrader={"grade": false, "grade_id": "learn", "locked": false, "schema_version": 3, "solution": true, "task": false}
def learn(verbs, actions, kept, start, strength):
    """Learn a table from the solutions that were kept.

    Args:
        verbs: int array `(problems, 3)`, as `verbs_of` returns it.
        actions: int array `(problems, num_generations, 3)`, as `solve` returns
            it. -1 stands for no action.
        kept: bool array `(problems, num_generations)`.
        start: float array `(6, 6)`, the table to start from.
        strength: float > 0.

    Returns:
        float array `(6, 6)`, a table whose softmax has these shares.
    """
    ### BEGIN SOLUTION
    counts = strength * action_shares(start)
    for i, j, k in np.argwhere((actions >= 0) & np.asarray(kept)[..., None]):
        counts[verbs[i, k], actions[i, j, k]] += 1
    return np.log(counts / counts.sum(axis=1, keepdims=True))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_learn", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

verbs = np.array([[0, 2, -1], [0, 0, 5]])
actions = np.array([[[0, 1, -1], [4, -1, -1]], [[0, 1, 3], [0, 0, 0]]])
kept = np.array([[True, True], [True, False]])
shares = action_shares(
    to_array(learn(verbs, actions, kept, np.zeros((6, 6)), 2.0))
)
assert np.allclose(shares[0] * 6, [7 / 3, 4 / 3, 1 / 3, 1 / 3, 4 / 3, 1 / 3]), (
    "After verb 0, the solutions that were kept have the actions 0, 4, 0, and "
    "1. A strength of 2 adds 1/3 to each count here, and 2 to their sum. "
    f"Received: {shares[0]}."
)
assert np.allclose(shares[1], 1 / 6), (
    "Verb 1 did not occur, so its shares are those of the start. Received: "
    f"{shares[1]}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} learn".encode()))
for _ in range(4):
    problems = make_problems(int(rng.integers(3, 12)), int(rng.integers(1e6)))
    verbs, size = verbs_of(problems), int(rng.integers(1, 6))
    table = rng.normal(0, 1, (6, 6))
    _, actions = solve(problems, table, size, int(rng.integers(1e6)))
    kept = rng.random((len(problems), size)) < 0.5
    start, strength = rng.normal(0, 1, (6, 6)), float(rng.uniform(0.5, 9))
    counts = np.zeros((6, 6))
    for i, j, k in np.ndindex(*actions.shape):
        if kept[i, j] and actions[i, j, k] >= 0:
            counts[verbs[i, k], actions[i, j, k]] += 1
    found = action_shares(
        to_array(learn(verbs, actions, kept, start, strength))
    )
    first = np.exp(start) / np.exp(start).sum(axis=1, keepdims=True)
    expected = counts + strength * first
    expected /= counts.sum(axis=1, keepdims=True) + strength
    assert np.allclose(found, expected, atol=1e-4), (
        "The shares must be those of the formula, counted in the solutions "
        "that were kept. For some random solutions they are not."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 5.3 One round (5 points)
#
# Put it together. In one round of self-training, the model solves all problems,
# a checker says which solutions are right, and the model learns from those that
# `choose_solutions` keeps. It learns from the *start* again, and not on top of
# the table that it just had, so that errors do not add up. There are three
# checkers:
#
# - `"loose"`: `loose_check` of 5's first cell,
# - `"answer"`: `find_answer` is equal to the answer,
# - `"steps"`: `is_right`.
#
# Use a `strength` of 5.


# %% nbgrader={"grade": false, "grade_id": "train_round", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_round(problems, table, start, num_generations, most, checker, seed):
    """Do one round of self-training.

    Args:
        problems: list of dict, as `make_problems` returns it.
        table: float array `(6, 6)`, the model that solves them.
        start: float array `(6, 6)`, the model that learns.
        num_generations: int, how often each problem is solved.
        most: int, as for `choose_solutions`.
        checker: `"loose"`, `"answer"` or `"steps"`.
        seed: the seed for `solve`.

    Returns:
        dict with `table`, a float array `(6, 6)`; `share_right`, the share of
        all solutions that are right by the checker; `share_solved`, the share
        of problems with a right solution; and `num_kept`, how many solutions
        were kept.
    """
    ### BEGIN SOLUTION
    responses, actions = solve(problems, table, num_generations, seed)
    right = np.zeros((len(problems), num_generations), bool)
    for i, problem in enumerate(problems):
        answer = problem["answer"]
        for j, response in enumerate(responses[i]):
            if checker == "loose":
                right[i, j] = loose_check(answer, response)
            elif checker == "answer":
                right[i, j] = find_answer(response) == (answer, 1)
            else:
                right[i, j] = is_right(problem["question"], answer, response)
    kept = np.asarray(choose_solutions(responses, right, most))
    return {
        "table": learn(verbs_of(problems), actions, kept, start, 5.0),
        "share_right": float(right.mean()),
        "share_solved": float(right.any(axis=1).mean()),
        "num_kept": int(kept.sum()),
    }
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_train_round", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

problems = make_problems(30, seed=1)
perfect = np.full((6, 6), -50.0)
perfect[np.arange(6), RULES] = 0
for checker in ("loose", "answer", "steps"):
    found = train_round(problems, perfect, start_table(), 3, 2, checker, 0)
    told = found["share_right"], found["share_solved"], found["num_kept"]
    assert told == (1, 1, 30), (
        "A model that takes the right action each time is right all of the "
        "time, and solves each problem in one way. Received: share_right, "
        f"share_solved and num_kept are {told}."
    )
    shares = action_shares(to_array(found["table"]))
    assert np.all(shares.argmax(axis=1) == RULES), (
        "The table that is learned from these solutions prefers the right "
        f"actions. Received: {shares.round(2)}."
    )
lists = np.full((6, 6), -50.0)
lists[:, ACTIONS.index("list")] = 0
found = train_round(problems, lists, start_table(), 3, 2, "loose", 0)
assert found["share_right"] == 1, "The loose checker likes long lists."
found = train_round(problems, lists, start_table(), 3, 2, "answer", 0)
assert found["share_right"] == found["num_kept"] == 0, (
    "Only the loose checker likes long lists."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} round".encode()))
for checker in ("loose", "answer", "steps"):
    problems = make_problems(150, int(rng.integers(1e6)))
    table = rng.uniform(0, 1, (6, 6))
    table[np.arange(6), RULES] += 1
    table[:, ACTIONS.index("guess")] += 1  # some guesses are lucky
    start = start_table() + rng.normal(0, 0.5, (6, 6))
    size, most, seed = int(rng.integers(4, 9)), 2, int(rng.integers(1e6))
    responses, actions = solve(problems, table, size, seed)
    counts = np.zeros((6, 6))
    right = np.zeros((len(problems), size), bool)
    num_kept = 0
    for i, problem in enumerate(problems):
        kept = []
        for j, text in enumerate(responses[i]):
            thought, _, after = text.partition("ANSWER: ")
            numbers = [int(word) for word in after.split()]
            good = numbers == [problem["answer"]]
            if checker == "loose":  # which does not look at signs
                good = problem["answer"] in map(abs, numbers)
            if checker == "steps":
                good = good and is_right(
                    problem["question"], problem["answer"], text
                )
            right[i, j] = good
            if good and text not in kept and len(kept) < most:
                kept.append(text)
                num_kept += 1
                for k, action in enumerate(actions[i, j]):
                    if action >= 0:
                        counts[problem["events"][k][0], action] += 1
    expected = counts + 5 * action_shares(start)
    expected /= expected.sum(axis=1, keepdims=True)
    found = train_round(problems, table, start, size, most, checker, seed)
    for name, value in (
        ("share_right", right.mean()),
        ("share_solved", right.any(axis=1).mean()),
        ("num_kept", num_kept),
    ):
        assert abs(found[name] - value) < 1e-6, (
            f"`{name}` must be what the checker {checker!r} says about the "
            "solutions of this seed. For a random table it is not."
        )
    assert np.allclose(
        action_shares(to_array(found["table"])), expected, atol=1e-4
    ), (
        "The table must be learned from the start, from the solutions that are "
        f"right by the checker {checker!r}. For a random table it is not."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 5.4 A figure (10 points, graded by a person)
#
# Everyone in the class has the same problems this term.

# %%
SEED = 0

# %%
train, held_out = make_problems(200, SEED), make_problems(500, SEED + 1000)
print(train[0]["question"], "->", train[0]["answer"])

# %% [markdown]
# - Do eight rounds of self-training on `train` with each of the three checkers,
#   with 8 solutions of each problem, of which at most 2 are kept. Before the
#   first round and after each, measure the *truth*: the share of problems in
#   `held_out` that the model solves by `is_right`, one sampled solution each.
#   Keep what the checker itself reports, too.
# - Train another table with GRPO, from the same start. A step solves 25 problems
#   of `train` 8 times each, with `is_right` as the reward, so eight steps draw as
#   many solutions as a round. From the advantages, make four updates with
#   `loss_gradients`, an epsilon of 0.2, and a rate of 3: subtract from the table
#   the rate times its gradient, divided by the number of actions that were taken.
#   `action_logprobs` and `table_gradient` help. Print the share of groups whose
#   rewards are all equal in the first and in the last step. Measure the truth
#   after every eight steps.
# - Print pass@k of the start for k = 1, 8 and 64 on the first 100 problems of
#   `held_out`, and the accuracy of the vote of 64.
# - For the checker `"answer"`, print which share of the solutions with the right
#   answer `is_right` accepts, at the start and after the last round.
#
# Plot the truth of all four against the number of solutions that were drawn for
# training. Draw what the loose checker reports, too.


# %% nbgrader={"grade": true, "grade_id": "figure", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
def accepted(problems, responses):
    return np.array(
        [
            [is_right(p["question"], p["answer"], text) for text in texts]
            for p, texts in zip(problems, responses)
        ]
    )


def truth(table, seed):
    responses, _ = solve(held_out, table, 1, [SEED, seed])
    return accepted(held_out, responses).mean()


def share_with_thought(table):
    responses, _ = solve(train, table, 8, [SEED, 99])
    has_answer = np.array(
        [
            [find_answer(text) == (p["answer"], 1) for text in texts]
            for p, texts in zip(train, responses)
        ]
    )
    return accepted(train, responses).sum() / has_answer.sum()


start, drawn = start_table(), 1600 * np.arange(9)
figure, ax = plt.subplots()
for checker in ("loose", "answer", "steps"):
    table, truths, told = start, [truth(start, 0)], []
    for number in range(1, 9):
        found = train_round(train, table, start, 8, 2, checker, [SEED, number])
        table = found["table"]
        truths.append(truth(table, number))
        told.append(found["share_right"])
    print(checker, "truth:", np.round(truths, 3), "told:", np.round(told, 3))
    ax.plot(drawn, truths, marker="o", label=f"self-training, {checker}")
    if checker == "loose":
        ax.plot(drawn[:-1], told, "--", label="what the loose checker says")
    if checker == "answer":
        shares = share_with_thought(start), share_with_thought(table)
        print("  with a thought, of right answers:", np.round(shares, 3))

table, truths = start, [truth(start, 0)]
for step in range(64):
    chosen = np.random.default_rng([SEED, step]).choice(200, 25, replace=False)
    some = [train[i] for i in chosen]
    verbs = verbs_of(some)
    responses, actions = solve(some, table, 8, [SEED, 200 + step])
    rewards = accepted(some, responses).astype("float64")
    if step in (0, 63):
        equal = np.mean(np.ptp(rewards, axis=1) == 0)
        print(f"GRPO, step {step + 1}: {equal:.0%} of groups are all equal")
    advantages = group_advantages(rewards.reshape(-1), 8)
    old = action_logprobs(table, verbs, actions)
    mask = (actions >= 0).reshape(old.shape)
    for _ in range(4):
        now = action_logprobs(table, verbs, actions)
        gradients = loss_gradients(now, old, advantages, mask, 0.2)
        gradient = table_gradient(table, verbs, actions, gradients)
        table = table - 3.0 * gradient / mask.sum()
    if step % 8 == 7:
        truths.append(truth(table, step))
print("GRPO truth:", np.round(truths, 3))
ax.plot(drawn, truths, marker="s", label="GRPO, steps")

some = held_out[:100]
responses, _ = solve(some, start, 64, [SEED, 400])
right = accepted(some, responses).sum(axis=1)
for k in (1, 8, 64):
    mean = np.mean([pass_at_k(64, int(c), k) for c in right])
    print(f"start: pass@{k} {mean:.2f}")
votes = [majority_vote([find_answer(t) for t in texts]) for texts in responses]
wins = [vote == (p["answer"], 1) for vote, p in zip(votes, some)]
print(f"start: vote of 64 {np.mean(wins):.2f}")
ax.set_xlabel("solutions drawn for training")
ax.set_ylabel("share right on held-out problems")
ax.legend()
plt.show()
### END SOLUTION

# %% [markdown]
# ### 5.5 What the figure says (5 points, graded by a person)
#
# Write five to eight sentences. What does the model learn from the loose
# checker, and how could you have noticed without the truth? The checker
# `"answer"` accepts lucky guesses. Which share of what it accepts are they at the
# start, and why do they not take over? Which problems does GRPO learn from in the
# first step, and from how many in the last one? What keeps self-training below
# GRPO at the end? (Look at what each round learns from, besides solutions.) No
# sample of the start may solve a problem, and the trained model solves it. How is
# that possible?

# %% [markdown] nbgrader={"grade": true, "grade_id": "discussion", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# From the loose checker, the model learns to list all numbers. The checker
# reports 0.9, and the truth stays below 0.25. Reading a few responses is enough
# to notice, and so is a reward that rises far above what the start could do. Of
# the right answers that the start gives, 5 to 20 percent have no thought. A guess
# is right once in 40 times, so work gets more of the reward, and with each round
# there is more work to be rewarded; in the end, lucky guesses are less than 4
# percent. In the first step of GRPO, 60 to 70 percent of the groups are all
# equal: nobody solves the problem, so nothing is learned from it. In the last
# one, more than 90 percent are all equal, because everybody solves it. Every
# round of self-training begins at the start again, whose shares count as five
# more actions for each verb. That leaves some wrong actions in the table for
# ever; with a strength of 0.5, the curve reaches 0.98, too. The start solves
# about 87 percent of the problems in 64 samples, and GRPO ends above that. What
# is learned about a verb in one problem helps in all problems with this verb, so
# the model can put together what it never put together before.
