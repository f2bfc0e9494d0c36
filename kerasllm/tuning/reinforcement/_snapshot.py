"""Weights that a run comes back to: those of its start, and the best ones."""

import json
import zipfile

import numpy as np

from kerasllm import files, training
from kerasllm.checks import RunError
from kerasllm.tuning.rounds._weights import copy_of, other_weights


class Snapshot:
    """The values that variables had at some time.

    Args:
        variables: list of `keras.Variable`.
        path: `pathlib.Path` of an `.npz` file that keeps the values beyond
            the end of the process, or `None`.

    Attributes:
        facts: dict of what `take` was given; empty before.
    """

    def __init__(self, variables, path=None):
        self._variables, self._path = list(variables), path
        self._values = []
        self.facts = {}

    def take(self, **facts):
        """Keep the present values of the variables.

        Args:
            **facts: numbers that tell when that was.
        """
        self._values = copy_of(self._variables)
        self.facts = facts
        if self._path is not None:
            arrays = {f"{i:05}": x for i, x in enumerate(self._values)}
            with files.whole_file(self._path, "wb") as file:
                np.savez(file, facts=json.dumps(facts), **arrays)

    def read(self):
        """Take the values from the file.

        Raises:
            RunError: it is damaged, or of other variables.
        """
        try:
            with np.load(self._path) as file:
                arrays = dict(file)
            self.facts = json.loads(str(arrays.pop("facts")))
            self._values = [arrays[name] for name in sorted(arrays)]
            self._check_shapes()
        except (
            OSError,
            EOFError,
            ValueError,
            KeyError,
            zipfile.BadZipFile,
        ) as error:
            raise RunError(
                f"The folder of a run must hold its {self._path.name}, which "
                f"has weights to come back to. Received: {self._path}, which "
                f"cannot be read ({error}). Put back a copy of it, or use "
                "another `directory`."
            ) from error

    def _check_shapes(self):
        found = [value.shape for value in self._values]
        expected = [tuple(variable.shape) for variable in self._variables]
        if found != expected:
            raise ValueError("it is of another model")

    def put_back(self):
        """Give the variables the values that were taken."""
        training.assign(self._variables, self._values)

    def in_place(self):
        """Give the variables these values while a block runs."""
        return other_weights(self._variables, self._values)
