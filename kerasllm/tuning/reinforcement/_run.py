"""The steps of a run of `grpo`: what is logged, kept, and where it ends."""

import dataclasses
import math
import time
import warnings

from kerasllm.checks import RunError
from kerasllm.progress import SECONDS_OF_SILENCE, working
from kerasllm.tuning.reinforcement._learner import Questions
from kerasllm.tuning.reinforcement._snapshot import Snapshot


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out questions, and the weights that answer them best.

    Attributes:
        questions: `Questions`, or `None`.
        steps: int. Steps between measurements.
        best: `Snapshot`. Its facts are `step` and `val_reward`.
    """

    questions: Questions | None
    steps: int
    best: Snapshot

    def is_due(self, step, is_last):
        """Return whether to measure after a step: a bool."""
        if self.questions is None:
            return False
        return is_last or step % self.steps == 0

    def measure(self, step, learner):
        """Measure the reward, and keep the weights if they are the best.

        Args:
            step: int. 0 is the start, whose weights are kept in any case.
            learner: `Learner`.

        Returns:
            dict for the logs.
        """
        with working("Measuring the held-out reward", at_once=False):
            reward = learner.reward_of(self.questions)
        if step == 0 or reward > self.best.facts["val_reward"]:
            self.best.take(step=step, val_reward=reward)
        return {"val_reward": reward}

    def put_back(self):
        """Restore the best weights; return which the model has now, a str."""
        if self.questions is None:
            return "The model has the weights of the last step."
        self.best.put_back()
        facts = self.best.facts
        return (
            f"The model has the weights of step {facts['step']}, with a "
            f"held-out reward of {facts['val_reward']:.3f}."
        )


class Run:
    """Steps of a `Learner`, with checkpoints, held-out rewards and an end.

    Args:
        learner: `Learner`.
        checkpoint: `training.Checkpoint`, which has been restored.
        held_out: `HeldOut`.
        floors: `Floors`.
        verbose: see `grpo`.
    """

    def __init__(self, learner, checkpoint, held_out, floors, verbose):
        self._learner, self._checkpoint = learner, checkpoint
        self._held_out, self._floors = held_out, floors
        self._verbose, self._shown = verbose, -math.inf

    def learn(self, steps, callbacks):
        """Take the rest of a number of steps.

        Args:
            steps: int. With those that the run has had.
            callbacks: `keras.callbacks.CallbackList`.

        Returns:
            list of dicts, the logs of all steps.

        Raises:
            RunError: the run has had more steps.
            DivergedError, TrainingInterrupted: see `grpo`.
        """
        checkpoint = self._checkpoint
        if checkpoint.step > steps:
            raise RunError(
                "`steps` must be at least the number that the run has had, "
                f"{checkpoint.step}. Received: steps={steps}. Pass at least "
                "that many, or use another `directory` for a shorter run."
            )
        with checkpoint.interrupts:
            if not checkpoint.history and self._held_out.is_due(0, False):
                logs = self._held_out.measure(0, self._learner)
                checkpoint.history.append({"step": 0, **logs})
            callbacks.on_train_begin()
            while checkpoint.step < steps and not self._must_end():
                self._take_step(steps, callbacks)
            callbacks.on_train_end()
        checkpoint.raise_if_stopped()
        self._report(self._held_out.put_back())
        return checkpoint.history

    def _take_step(self, steps, callbacks):
        checkpoint = self._checkpoint
        callbacks.on_train_batch_begin(checkpoint.step)
        with working(f"Step {checkpoint.step + 1}", at_once=False):
            logs = self._learner.step(checkpoint.step)
        checkpoint.step += 1
        if not math.isfinite(logs["loss"]):
            checkpoint.stopped = "diverged"
            return
        is_last = checkpoint.step == steps
        if self._held_out.is_due(checkpoint.step, is_last):
            logs |= self._held_out.measure(checkpoint.step, self._learner)
        checkpoint.history.append({"step": checkpoint.step, **logs})
        callbacks.on_train_batch_end(checkpoint.step - 1, logs)
        self._show(steps)
        self._save(is_last or self._must_end())

    def _must_end(self):
        """Return whether there is a reason not to go on: a bool."""
        collapse = self._floors.what_collapsed(self._checkpoint.history)
        stopped = self._checkpoint.stopped or self._learner.is_stopped
        return bool(stopped or collapse)

    def _save(self, is_last):
        """Save the run if it ends or a checkpoint is due."""
        checkpoint = self._checkpoint
        interrupted = checkpoint.interrupts.arrived
        is_due = checkpoint.step % checkpoint.checkpoint_steps == 0
        if (is_last or is_due or interrupted) and not checkpoint.save():
            checkpoint.stopped = "diverged"
        elif interrupted:
            checkpoint.stopped = "interrupted"

    def _show(self, steps):
        """Print the newest logs, unless others were printed just now."""
        logs, now = self._checkpoint.history[-1], time.monotonic()
        is_due = now - self._shown >= SECONDS_OF_SILENCE
        if self._verbose == 2 or (
            self._verbose and (is_due or logs["step"] == steps)
        ):
            self._shown = now
            numbers = [f"{k}: {v:.4g}" for k, v in logs.items() if k != "step"]
            line = " - ".join([f"step {logs['step']}/{steps}", *numbers])
            print(line, flush=True)

    def _report(self, kept):
        """Say which weights the model has, and whether it has collapsed."""
        collapse = self._floors.what_collapsed(self._checkpoint.history)
        if collapse:
            warnings.warn(
                f"The policy has collapsed: {collapse}. {kept} Lower the "
                "learning rate, raise `beta`, or lower the floor.",
                stacklevel=4,
            )
        elif self._verbose:
            print(kept, flush=True)
