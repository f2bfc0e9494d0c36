"""What `kerasllm grpo` can score responses with."""

import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import sys

from kerasllm import checks
from kerasllm.cli._start import UsageError, did_you_mean


def exact(prompts, responses, answers):
    """Return 1 for a response that is the answer, 0 for any other."""
    return [
        float(response.strip() == answer.strip())
        for response, answer in zip(responses, answers, strict=True)
    ]


def contains(prompts, responses, answers):
    """Return 1 for a response with the answer in it, in upper or lower case."""
    return [
        float(answer.strip().lower() in response.lower())
        for response, answer in zip(responses, answers, strict=True)
    ]


def answer(prompts, responses, answers):
    """Return 1 for one number after `ANSWER:`, which is that of the answer."""
    from kerasllm import reasoning

    right = [_number_of(text) for text in answers]
    return reasoning.AnswerChecker()(right, responses)


REWARDS = {"exact": exact, "contains": contains, "answer": answer}


def check_reward(name, reward):
    """Refuse what names neither a reward of ours nor a function."""
    if reward in REWARDS:
        return
    module, _, function = reward.partition(":")
    parts = [*module.split("."), function]
    if not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"--reward must be {', '.join(REWARDS)} or module:function. "
            f"Received: --reward {reward}. {did_you_mean(reward, REWARDS)}"
        )
    package = parts[0]  # looking for a module in it would import it
    if not _is_package(package):
        raise UsageError(
            "--reward must name a function in a module that Python can "
            f"import. Received: --reward {reward}, but there is no module "
            f"{package}. Run the command in the folder of the module"
        )


def check_numbers(answers):
    """Refuse answers that the reward `answer` cannot compare."""
    for prompt, text in answers.items():
        if _number_of(text) is None:
            raise UsageError(
                "--reward answer must have a number as each answer of --data, "
                "alone, after #### or after ANSWER:. Received: "
                f"{checks.shown(text[-60:])} to {checks.shown(prompt)}. Use "
                "--reward exact for words"
            )


def _number_of(text):
    """Return the number of an answer, which may have steps before it."""
    from kerasllm import reasoning

    found = reasoning.AnswerChecker().find(text)
    if found is None:
        return reasoning.read_number(text.rpartition("####")[2])
    return found


def make_scorer(reward, answers):
    """Return the function that an option names, as the library takes it.

    Args:
        reward: str, see `check_reward`.
        answers: dict from prompts to answers.
    """
    function = REWARDS.get(reward) or _import(reward)
    if "answers" not in inspect.signature(function).parameters:
        return function

    @functools.wraps(function)
    def score(prompts, responses):
        return function(prompts, responses, [answers[p] for p in prompts])

    return score


@contextlib.contextmanager
def _from_here():
    """Let Python find a module beside the data, in this block first of all.

    After it, modules of the current folder come last. Otherwise one that has
    the name of a package, such as `datasets.py`, would be imported instead.
    """
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)


def _is_package(name):
    """Return whether Python finds a module or a package."""
    with _from_here(), contextlib.suppress(ValueError):  # of `__main__`
        return importlib.util.find_spec(name) is not None
    return False


def _import(name):
    """Return a function that `module:function` names."""
    module, _, function = name.partition(":")
    try:
        with _from_here():
            found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            "--reward must name a function in a module that Python can "
            f"import. Received: --reward {name} ({error}). Run the command in "
            "the folder of the module"
        ) from error
    if not callable(found):
        raise UsageError(
            f"--reward must name a function. Received: --reward {name}, which "
            f"is {checks.shown(found)}. Look at its name"
        )
    return found
