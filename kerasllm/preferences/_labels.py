"""Pairs to label, and files of labels."""

import dataclasses
import json
import os

from kerasllm import files
from kerasllm.checks import UserError, shown
from kerasllm.preferences._reading import (
    parse_prompt,
    parse_record,
    to_messages,
)

TIE = 0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two different responses to a prompt. Nobody has said which is better.

    The responses are in alphabetical order, so that two files can have them
    in different orders.

    Attributes:
        messages: tuple of pairs `(role, text)`, what was said before.
        prompt: str.
        responses: tuple of two str.
    """

    messages: tuple
    prompt: str
    responses: tuple

    @classmethod
    def of(cls, messages, prompt, responses):
        """Return the comparison of two responses in any order."""
        return cls(messages, prompt, tuple(sorted(responses)))


def read_comparisons(path):
    """Read pairs of responses to label.

    Args:
        path: str or path of a file as for `read_preferences`. Which response
            is the better one is not read. A line with k `responses` gives all
            pairs of them.

    Returns:
        list of `Comparison`, each pair once.

    Raises:
        MissingFileError: there is no such file.
        UserError: a line has none of the forms, or there is no pair of
            different responses.
    """
    comparisons = {}  # in order
    for record, where in files.read_records(path, "Pairs to label"):
        unranked = record | {"ranks": None, "scores": None}
        for pair in parse_record(unranked, where):
            responses = pair.chosen, pair.rejected
            comparison = Comparison.of(pair.messages, pair.prompt, responses)
            comparisons[comparison] = None
    if not comparisons:
        raise UserError(
            "A file to label must have at least one pair of different "
            f"responses. Received: {path}, with none. Look at the file."
        )
    return list(comparisons)


def read_labels(path):
    """Read the labels that `kerasllm compare` has written.

    Each line is a ranking of two responses, which `read_preferences` can read,
    too. Equal `ranks` are a tie.

    Args:
        path: str or path.

    Returns:
        dict from `Comparison` to an int: 1 or 2 for the first or the second
        of its responses, 0 for a tie. If a pair was labelled twice, the last
        label counts.

    Raises:
        MissingFileError: there is no such file.
        UserError: a line is no such ranking.
    """
    labels = {}
    for record, where in files.read_records(path, "Labels"):
        responses, ranks = record.get("responses"), record.get("ranks")
        if (
            not _are_two(responses, str)
            or not _are_two(ranks, int)
            or responses[0] == responses[1]
        ):
            raise UserError(
                "A label must have two different `responses` and their "
                f"`ranks`, as `kerasllm compare` writes them. Received: "
                f"{where} with {shown(record)}. Name a file of labels."
            )
        messages, prompt = parse_prompt(record, where)
        comparison = Comparison.of(messages, prompt, responses)
        best = responses[ranks[1] < ranks[0]]
        is_tie = ranks[0] == ranks[1]
        labels[comparison] = (
            TIE if is_tie else comparison.responses.index(best) + 1
        )
    return labels


def append_label(path, comparison, label, left):
    """Add a label to a file, at once and as a whole line.

    Args:
        path: str or path. The file is created if it does not exist.
        comparison: `Comparison`.
        label: int: 1 or 2 for the better response, 0 for a tie.
        left: int: 1 or 2 for the response that was seen on the left. Most
            people prefer one side a little.

    Raises:
        EnvironmentFailure: the disk is full, read-only or broken.
    """
    turns = [*comparison.messages, ("user", comparison.prompt)]
    record = {
        "prompt": to_messages(turns)
        if comparison.messages
        else comparison.prompt,
        "responses": comparison.responses,
        "ranks": {TIE: (1, 1), 1: (1, 2), 2: (2, 1)}[label],
        "left": left,
    }
    line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
    with files.explaining_disk_errors(path), open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            # Somebody has edited the file, and left the last line open.
            line = line if file.read() == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _are_two(values, kind):
    """Return whether a value is a list of two values of a type."""
    return (
        isinstance(values, list)
        and len(values) == 2
        and all(type(value) is kind for value in values)
    )
