"""A run in rounds: what each of them does once, and keeps on disk.

The folder of a run has `start.npz`, the weights that it began with;
`checkpoint.npz` and `history.csv`, the rounds that are finished; and for each
round a folder with `samples.jsonl`, `rewards.jsonl`, `weights.npz` and what
was measured. Each is written before the next stage begins.
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import time

import keras
import numpy as np

from kerasllm import backend, files, lora, training
from kerasllm.checks import (
    RunError,
    UserError,
    check_choice,
    is_real,
)
from kerasllm.distribution import num_processes
from kerasllm.instructions import Instruction, TokenizedInstructions
from kerasllm.progress import working
from kerasllm.tuning._finetuning import check_positions, check_tuning, finetune
from kerasllm.tuning._model import check_trainable
from kerasllm.tuning.rounds._sampling import Samples, seeds_of
from kerasllm.tuning.rounds._weights import copy_of

SAMPLES_FILE = "samples.jsonl"
WEIGHTS_FILE = "weights.npz"
START_FILE = "start.npz"
TUNING_FOLDER = "tuning"
NO_STATE = np.zeros(0, "uint8")
# What the file of samples calls the attributes of `Samples`.
COLUMNS = {
    "prompt": "prompts",
    "response": "responses",
    "ended": "ended",
    "num_tokens": "num_tokens",
    "logprob": "logprobs",
}


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How a model is tuned in each round; see `prefer` for the attributes."""

    template: object
    epochs: int
    batch_size: int
    learning_rate: object
    sequence_length: int
    seed: int
    tune_from: str
    callbacks: tuple
    verbose: object

    def __post_init__(self):
        check_tuning(
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self.sequence_length,
            self.seed,
        )
        check_choice("tune_from", self.tune_from, ("last", "start"))
        for name in ("epochs", "batch_size", "sequence_length", "seed"):
            # NumPy's numbers, too, for the file that tells runs apart.
            object.__setattr__(self, name, int(getattr(self, name)))
        if is_real(self.learning_rate):
            rate = float(self.learning_rate)
            object.__setattr__(self, "learning_rate", rate)

    def identity(self):
        """Return what determines the result of a run: a dict for JSON."""
        rate = keras.saving.serialize_keras_object(self.learning_rate)
        return {
            "template": dataclasses.asdict(self.template),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": rate,
            "sequence_length": self.sequence_length,
            "seed": self.seed,
            "tune_from": self.tune_from,
        }


class Run:
    """A run in rounds.

    Args:
        causal_lm: the model.
        sampler: `ResponseSampler` of this model.
        tuning: `Tuning`.
        directory: str or path of the run's folder, or `None`.

    Attributes:
        history: list of dicts, one for each finished round.
        start: list of arrays, the trainable weights that the run began with.

    Raises:
        UserError: the model cannot be tuned on so long sequences, or has no
            weights to train, or there are several processes.
    """

    def __init__(self, causal_lm, sampler, tuning, directory=None):
        check_positions(causal_lm, tuning.sequence_length)
        check_trainable(causal_lm)
        if num_processes() > 1:
            raise UserError(
                "Learning in rounds must run in a single process, which "
                f"samples and trains. Received: {num_processes()} processes. "
                "Start one."
            )
        self.causal_lm, self.sampler, self.tuning = causal_lm, sampler, tuning
        self.path = None if directory is None else pathlib.Path(directory)
        self.history = []
        self.start = None
        self._kept = None  # the number and the weights of a round

    # --- The run as a whole

    def open(self, identity, rounds):
        """Begin the run, or go on where it was interrupted.

        Args:
            identity: dict for JSON, the arguments that determine the run.
            rounds: int. How many there will be.

        Raises:
            RunError: the folder holds another run, or more rounds.
        """
        if self.path is not None:
            training.claim_for_model(self.path, identity)
            if (self.path / training.CHECKPOINT_FILE).is_file():
                self._go_on(rounds)
                return
        self.start = copy_of(self.causal_lm.trainable_variables)
        if self.path is not None:
            state = training.SavedState({"step": 0}, NO_STATE, self.start, [])
            training.write_state(self.path / START_FILE, state)
            self._note()

    def _go_on(self, rounds):
        saved = training.read_state(self.path / training.CHECKPOINT_FILE)
        self.history = saved.progress["history"]
        finished = self.history[-1]["round"] if self.history else 0
        if finished > rounds:
            raise RunError(
                "`rounds` must be at least the number that the run has "
                f"finished, {finished}. Received: rounds={rounds} for the run "
                f"in {self.path}. Pass at least that many, or use another "
                "`directory` for a shorter run."
            )
        self.start = training.read_state(self.path / START_FILE).values
        self.load(finished)

    def is_finished(self, number):
        """Return whether a round is finished: a bool."""
        return any(logs["round"] == number for logs in self.history)

    def finish(self, number, logs):
        """Note that a round is finished.

        Args:
            number: int.
            logs: dict for JSON.
        """
        self.history.append({"round": number, **logs})
        if self.path is not None:
            self._note()
            # It was for going on in the middle of the round.
            tuning = self._folder(number) / TUNING_FOLDER
            shutil.rmtree(tuning, ignore_errors=True)

    def _note(self):
        progress = {"step": len(self.history), "history": self.history}
        state = training.SavedState(progress, NO_STATE, [], [])
        training.write_state(self.path / training.CHECKPOINT_FILE, state)
        if self.history:
            path = self.path / training.HISTORY_FILE
            training.write_history(path, self.history)

    def _folder(self, number):
        return self.path / f"round_{number}"

    # --- The weights of a round

    def load(self, number):
        """Give the model the weights of a finished round, 0 for the start."""
        if number == 0:
            training.assign(self.causal_lm.trainable_variables, self.start)
        elif self.path is None:
            training.assign(self.causal_lm.trainable_variables, self._kept[1])
        else:
            path = self._folder(number) / WEIGHTS_FILE
            saved = training.read_state(path)
            variables = lora.changing_variables(self.causal_lm)
            training.assign(variables, saved.values)
            backend.set_random_state(saved.random_state)

    def keep(self, number):
        """Keep the weights of this round, and of no other, for `load`."""
        if self.path is None and number > 0:
            weights = copy_of(self.causal_lm.trainable_variables)
            self._kept = number, weights

    # --- The stages of a round

    def once(self, number, name, make):
        """Return records of a round, which are made and written once.

        Args:
            number: int. The number of the round.
            name: str. The name of their file.
            make: function without arguments that returns a list of dicts.

        Raises:
            RunError: the round is finished, and its file is missing.
        """
        if self.path is None:
            return make()
        path = self._folder(number) / name
        if path.is_file():
            found = files.read_records(path, "What a run has kept")
            return [record for record, _ in found]
        if self.is_finished(number):
            raise RunError(
                f"The folder of a run must hold all of its files. Received: "
                f"{self.path}, without {path.relative_to(self.path)} of a "
                "finished round. Put it back, or use another `directory`."
            )
        records = make()
        with files.whole_file(path) as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        return records

    def sample(self, number, prompts, num_generations):
        """Return the responses of a round: `Samples`."""

        def make():
            seeds = seeds_of(self.tuning.seed, number, len(prompts))
            with self.working(f"Round {number}: sampling"):
                sampled = self.sampler.sample(prompts, num_generations, seeds)
            columns = [getattr(sampled, name) for name in COLUMNS.values()]
            return [
                dict(zip(COLUMNS, values, strict=True))
                for values in zip(*columns, strict=True)
            ]

        records = self.once(number, SAMPLES_FILE, make)
        columns = [[record[key] for record in records] for key in COLUMNS]
        asked = [prompt for prompt in prompts for _ in range(num_generations)]
        if columns[0] != asked:
            raise RunError(
                f"{SAMPLES_FILE} must have the responses to the prompts of the "
                f"round. Received: {self._folder(number)}, with others. Put "
                "back the file that the run has written."
            )
        return Samples(*columns, num_generations)

    def tune(self, number, samples, kept):
        """Tune the model on the responses that were kept.

        Args:
            number: int. The number of the round.
            samples: `Samples`.
            kept: bool array `(len(samples),)`.

        Returns:
            dict of `loss` and `tokens_trained`.
        """
        if self.path is not None:
            path = self._folder(number) / WEIGHTS_FILE
            if path.is_file():
                self.load(number)
                return training.read_state(path).progress["logs"]
        examples = [
            Instruction(prompt, response)
            for prompt, response, is_kept in zip(
                samples.prompts, samples.responses, kept, strict=True
            )
            if is_kept
        ]
        if self.tuning.tune_from == "start":
            self.load(0)
        history = self._finetune(number, examples)
        tokenized = TokenizedInstructions.of(
            examples,
            self.causal_lm.preprocessor,
            self.tuning.template,
            self.tuning.sequence_length,
        )
        logs = {
            "loss": history[-1]["loss"],
            "tokens_trained": tokenized.num_tokens * self.tuning.epochs,
        }
        if self.path is not None:
            variables = lora.changing_variables(self.causal_lm)
            state = training.SavedState(
                {"step": number, "logs": logs},
                backend.random_state(),
                copy_of(variables),
                [],
            )
            training.write_state(path, state)
        return logs

    def _finetune(self, number, examples):
        tuning, directory = self.tuning, None
        if self.path is not None:
            directory = self._folder(number) / TUNING_FOLDER
        return finetune(
            self.causal_lm,
            examples,
            template=tuning.template,
            epochs=tuning.epochs,
            batch_size=tuning.batch_size,
            learning_rate=tuning.learning_rate,
            sequence_length=tuning.sequence_length,
            seed=tuning.seed,
            directory=directory,
            callbacks=list(tuning.callbacks),
            verbose=tuning.verbose,
        )

    # --- What the user sees

    def working(self, what):
        """Show what a block does; nothing at once if `verbose` is 0."""
        return working(what, at_once=self.tuning.verbose != 0)

    def say(self, text):
        """Print a line, unless `verbose` is 0."""
        if self.tuning.verbose != 0:
            print(text, flush=True)


class Clock:
    """Seconds since it was made or asked last."""

    def __init__(self):
        self._last = time.perf_counter()

    def lap(self):
        """Return the seconds since the last lap: a float."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last


def digest_of(texts):
    """Return a hash of a list of str in their order, or `None` of `None`."""
    if texts is None:
        return None
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def describe_rule(keep):
    """Return what tells one rule of `keep` from another, for JSON."""
    if dataclasses.is_dataclass(keep):
        return [type(keep).__name__, dataclasses.asdict(keep)]
    return getattr(keep, "__qualname__", type(keep).__qualname__)
