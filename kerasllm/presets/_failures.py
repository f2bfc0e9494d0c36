"""Explaining why a preset could not be loaded, and what to do.

Failures are told apart by the classes of the exceptions and by the status
codes of HTTP. Where these are missing, a table of patterns reads the message:
KerasHub makes a `ValueError` of most of what Kaggle and Hugging Face say, and
its text is all that is left. No other place in the package reads the text of
a message.
"""

import dataclasses
import os
import re

import safetensors

from kerasllm.checks import EnvironmentFailure, UserError


@dataclasses.dataclass(frozen=True)
class _Download:
    """A way in which a download fails.

    Attributes:
        statuses: tuple of ints. The status codes that mean it.
        pattern: str. The regular expression of a message that means it.
        problem: str. What to say of it.
        cure: str. What to do about it.
    """

    statuses: tuple
    pattern: str
    problem: str
    cure: str


_TERMS = _Download(
    (403,),
    r"\b403\b|\bgated\b|not accessible",
    "its terms have not been accepted by this account",
    "Accept them on the model's page of {hub}, then try again",
)
_CREDENTIALS = _Download(
    (401,),
    r"\b401\b|credential|unauthenticated",
    "there are no valid {hub} credentials",
    "Create an API token in your {hub} account and set {login}",
)
# KerasHub tells nothing else, whatever went wrong.
_NOTHING_FOUND = _Download(
    (404,),
    r"has no config\.json",
    "it could not be downloaded, or there is no such model",
    "Check the network and the room on the disk, and try again; a model whose "
    "terms must be accepted needs {login}",
)
# A preset of KerasHub does exist: it is closed to this account.
_NOT_SHOWN = dataclasses.replace(_TERMS, pattern=_NOTHING_FOUND.pattern)
_NETWORK = _Download(
    (),
    r"",  # whatever else
    "it could not be downloaded; is there a network?",
    "Check the network and the room on the disk, and try again",
)
# In the order in which they are looked for.
_OF_A_NAME = (_TERMS, _NOT_SHOWN, _CREDENTIALS, _NETWORK)
_OF_AN_ADDRESS = (_TERMS, _CREDENTIALS, _NOTHING_FOUND, _NETWORK)

# What is wrong with a folder: classes of exceptions, the pattern of a message,
# the rule that is broken, and the cure.
_OF_A_FOLDER = (
    (
        Exception,
        r"does not contain tensor",
        "The tensors of a Hugging Face checkpoint must have the names that "
        "KerasHub looks for, those of the published checkpoints.",
        "Transformers 5 writes a vision tower under other names: save that "
        "model with an older version, or its language model alone.",
    ),
    (
        safetensors.SafetensorError,
        r"",
        "The safetensors files of a folder must be whole.",
        "Copy or download them again.",
    ),
    (
        (OSError, ValueError, KeyError),
        r"",
        "A folder must hold a KerasHub preset of a `CausalLM`, or a Hugging "
        "Face checkpoint of a model that KerasHub knows.",
        "Write one with `causal_lm.save_to_preset(folder)`.",
    ),
)


def explain_failure(name, source, error):
    """Return what explains that a preset was not loaded.

    Args:
        name: str or path. What was asked for.
        source: str or path. What `preset_source` made of it.
        error: the exception that KerasHub raised.

    Returns:
        A `UserError` for a folder, an `EnvironmentFailure` for a download,
        or `None` for what is no fault of the preset: a lack of memory, a bug.
    """
    if not os.path.isdir(source):
        return _explain_download(name, error)
    for classes, pattern, rule, cure in _OF_A_FOLDER:
        if isinstance(error, classes) and re.search(pattern, str(error)):
            return UserError(f"{rule} Received: {name} ({error}). {cure}")
    return None


def _explain_download(name, error):
    causes = _causes(error)
    if not _is_of_download(error, causes):
        return None
    hub = "Kaggle"
    login = "KAGGLE_USERNAME and KAGGLE_KEY, or run `kagglehub.login()`"
    if name.startswith("hf://"):
        hub, login = "Hugging Face", "HF_TOKEN, or run `hf auth login`"
    failure = _recognize(
        _OF_AN_ADDRESS if "://" in name else _OF_A_NAME, causes
    )
    is_closed = failure in (_TERMS, _NOT_SHOWN)
    # Kaggle says the same to an account that has not accepted the terms and to
    # nobody at all.
    if is_closed and hub == "Kaggle" and not _has_kaggle_credentials():
        failure = _CREDENTIALS
    cure = failure.cure.format(hub=hub, login=login)
    offline = "tiny_instruct" if "instruct" in name else "tiny"
    return EnvironmentFailure(
        f"The preset must be reachable. Received: {name!r}, but "
        f"{failure.problem.format(hub=hub)} ({_describe(error)[:200]}). "
        f"{cure}. {offline!r} is a small Gemma 3 that needs no network."
    )


def _causes(error):
    """Return an exception and what it was raised for, and so on: a list."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    return causes


def _is_of_download(error, causes):
    """Tell whether an exception comes from a download at all."""
    # KerasHub makes a `ValueError` of what Kaggle said, and of a file that
    # may not be read one that is not there.
    of_network = causes if isinstance(error, ValueError) else [error]
    return any(
        isinstance(cause, OSError)
        or type(cause).__module__ == "kagglehub.exceptions"
        for cause in of_network
    ) or bool(re.search(_NOTHING_FOUND.pattern, str(error)))


def _recognize(failures, causes):
    """Return the first of the ways to fail that fits: a `_Download`."""
    statuses = {
        getattr(getattr(cause, "response", None), "status_code", None)
        for cause in causes
    }
    for failure in failures:
        if statuses.intersection(failure.statuses):
            return failure
    text = " ".join(map(_describe, causes))
    return next(
        failure
        for failure in failures
        if re.search(failure.pattern, text, re.IGNORECASE)
    )


def _describe(error):
    return f"{type(error).__name__}: {error}"


def _has_kaggle_credentials():
    """Tell whether anybody has logged in to Kaggle, as KerasHub would."""
    from kagglehub import config  # only where a download has failed

    return config.get_kaggle_credentials() is not None
