"""The passages of a store, and the checks of texts that are added."""

import dataclasses
import json
import math

import numpy as np

from kerasllm.checks import (
    UserError,
    check_list,
    check_text,
    is_int,
    is_real,
    shown,
)

_LARGEST_INT = 2**63 - 1  # of SQLite


@dataclasses.dataclass(frozen=True)
class Passage:
    """A text in a store, with its id and its metadata.

    Attributes:
        id: str.
        text: str.
        metadata: dict from str to str, int, float, bool or `None`.
    """

    id: str
    text: str
    metadata: dict

    @property
    def source(self):
        """Where the text comes from: `metadata["source"]`, or `None`."""
        return self.metadata.get("source")

    @property
    def offsets(self):
        """`(start, end)` in the source, in characters, or `None`."""
        if {"start", "end"} <= self.metadata.keys():
            return self.metadata["start"], self.metadata["end"]
        return None


@dataclasses.dataclass(frozen=True)
class Hit(Passage):
    """A passage that a search has found.

    Attributes:
        score: float. Higher is better. See `Store.search`.
        rank: int. 1 for the best hit.
    """

    score: float
    rank: int


def check_texts(texts):
    """Check that the texts of `add` are a list of str that are not blank."""
    texts = check_list("texts", texts)
    for index, text in enumerate(texts):
        check_text(f"texts[{index}]", text)
        if not text.strip():
            raise UserError(
                f"`texts[{index}]` must have text. Received: {shown(text)}. "
                "Leave it out."
            )
    return texts


def check_ids(ids):
    """Check that ids are a list of str that are not empty."""
    ids = check_list("ids", ids)
    for index, name in enumerate(ids):
        check_text(f"ids[{index}]", name)
        if not name:
            raise UserError(
                f"`ids[{index}]` must not be empty. Received: ''. Leave `ids` "
                "out, and the store numbers the texts."
            )
    return ids


def check_new_ids(ids, number):
    """Check the ids of `add`: one for each text, and no two the same."""
    ids = check_ids(ids)
    _check_length("ids", ids, number)
    seen = set()
    for name in ids:
        if name in seen:
            raise UserError(
                "`ids` must differ from each other. Received: "
                f"{shown(name)} twice. Give each text an id of its own."
            )
        seen.add(name)
    return ids


def check_metadata(metadata, number):
    """Check the metadata of `add`, and return them as lines of JSON."""
    metadata = check_list("metadata", metadata)
    _check_length("metadata", metadata, number)
    return [
        json.dumps(check_facts(f"metadata[{index}]", facts), ensure_ascii=False)
        for index, facts in enumerate(metadata)
    ]


def check_facts(name, facts):
    """Check that a value is a dict from str to what SQLite can compare.

    Returns:
        A dict of Python's own values, such as an int for one of NumPy.
    """
    if not isinstance(facts, dict):
        raise UserError(
            f"`{name}` must be a dict. Received: {shown(facts)}. Write "
            '{"source": "guide.md"}, for example.'
        )
    plain = {}
    for key, value in facts.items():
        check_text(f"the keys of {name}", key)
        if isinstance(value, np.generic):
            value = value.item()
        plain[key] = value
        if isinstance(value, str):
            check_text(f"{name}[{key!r}]", value)
        elif not _is_simple(value):
            raise UserError(
                f"`{name}[{key!r}]` must be a str, an int of 64 bits, a finite "
                f"float, a bool or None. Received: {shown(value)}. Write a "
                "list as several keys, or as one string."
            )
    return plain


def _is_simple(value):
    """Tell whether JSON and SQLite both hold a value as it is."""
    if value is None or isinstance(value, bool):
        return True
    if is_int(value):
        # NumPy's numbers are not written by `json`.
        return isinstance(value, int) and abs(value) <= _LARGEST_INT
    return is_real(value) and isinstance(value, float) and math.isfinite(value)


def _check_length(name, values, number):
    if len(values) != number:
        raise UserError(
            f"`{name}` must have one entry for each text. Received: "
            f"{len(values)} for {number} texts. Give as many."
        )
