"""Self-training: a model learns from those of its solutions that are right.

`self_train` is longer than other functions because of its arguments, all of
which are described where a user looks for them.
"""

import dataclasses
import numbers

import numpy as np

from kerasllm import distribution as devices
from kerasllm import training
from kerasllm.checks import (
    UserError,
    check_callable,
    check_int,
    check_list,
    check_real,
    shown,
)
from kerasllm.generation import scores_of
from kerasllm.prompts import get_template
from kerasllm.tuning._identity import describe_model, noting_the_end
from kerasllm.tuning._model import check_causal_lm
from kerasllm.tuning.rounds._keeping import Cutoff, choose
from kerasllm.tuning.rounds._measuring import standard_error
from kerasllm.tuning.rounds._run import (
    Clock,
    Run,
    Tuning,
    describe_rule,
    digest_of,
)
from kerasllm.tuning.rounds._sampling import (
    ResponseSampler,
    check_held_out,
    check_prompts,
    seeds_of,
)

RIGHT = Cutoff(0.5)
CHECKED_FILE = "checked.jsonl"
VALIDATION_FILE = "validation.jsonl"


def self_train(
    causal_lm,
    problems,
    checker,
    validation_problems=None,
    *,
    rounds=3,
    num_generations=8,
    most_per_problem=4,
    tune_from="start",
    prompt=None,
    temperature=1.0,
    template="auto",
    epochs=1,
    batch_size=8,
    learning_rate=1e-4,
    sequence_length=256,
    sampling_batch_size=256,
    seed=0,
    directory=None,
    callbacks=(),
    verbose="auto",
):
    """Tune a model on those of its own solutions that are right.

    In each round, the model solves each problem several times, a program
    checks the answers, and the model is tuned with `finetune` on the right
    solutions. Equal solutions count once, and there are at most
    `most_per_problem` for each problem, so that the easy ones do not outweigh
    the others.

    A right answer may come from wrong steps, and is then learned, too.

    Args:
        causal_lm: any `keras_hub.models.CausalLM` with a cache and a
            preprocessor; see `prefer`.
        problems: list of objects with a `prompt`, a str without any template,
            such as `kerasllm.reasoning.Problem`.
        checker: callable `(problems, responses) -> (batch_size,)` of bools or
            floats, with a problem for each response. More than 0.5 is right.
        validation_problems: held-out problems. The model solves each of them
            twice before the first round and after each: greedily, and by
            sampling with the same draws each time.
        rounds: int.
        num_generations: int. Solutions of each problem in a round.
        most_per_problem: int. The largest number of right solutions of one
            problem that a round learns from, the first ones; `None` for all.
        tune_from: `"start"` tunes in each round the model of the beginning,
            so that errors do not add up, and `"last"` that of the round
            before.
        prompt: callable from a problem's `prompt` to what the model is asked,
            such as one that adds "Let's think step by step"; or `None`.
        temperature: float, positive.
        template: see `prefer`, as for the rest.
        epochs: int.
        batch_size: int.
        learning_rate: float or schedule.
        sequence_length: int.
        sampling_batch_size: int.
        seed: int.
        directory: str or path, or `None`.
        callbacks: more Keras callbacks for `finetune`.
        verbose: as for `fit`.

    Returns:
        A list of dicts, one a round, with `round`, from 1; `share_right`, the
        share of all solutions that are right; `share_solved`, the share of
        problems that were solved at least once; `num_kept`, how many solutions
        were learned from; `diversity`, the share of distinct ones among the
        right solutions; `length`, the mean number of sampled tokens;
        `entropy`, the mean of minus the log-probability of a solution, in
        nats, which at temperature 1 estimates the entropy of the solutions to
        a problem;
        `share_ended`; and `tokens_sampled`, `tokens_trained`, `loss`,
        `sampling_seconds` and `training_seconds` as for `prefer`. With
        `validation_problems` also `val_greedy` and `val_sampled`, the shares
        of right solutions, with standard errors, `val_greedy_error` and
        `val_sampled_error`, and `val_length`, that of greedy solutions. The
        list then begins with a dict of the start, round 0.

    Raises:
        UserError: an argument does not fit the others or the model; or no
            solution of a round was right, and what to do about it.
        RunError: as for `prefer`.

    Source: chapter 16, section 16.4.4; Zelikman et al., 2022, arXiv:2203.14465
    (STaR); Yuan et al., 2023, arXiv:2308.01825 (several distinct solutions);
    Singh et al., 2023, arXiv:2312.06585 (from the start model).

    Example:
    ```python
    history = self_train(
        causal_lm, problems, AnswerChecker(), held_out, num_generations=16
    )
    ```
    """
    directory, callbacks = training.check_run(directory, callbacks, verbose)
    check_causal_lm(causal_lm)
    template = get_template(template, causal_lm.preprocessor.tokenizer)
    tuning = Tuning(
        template, epochs, batch_size, learning_rate, sequence_length, seed,
        tune_from, tuple(callbacks), verbose,
    )  # fmt: skip
    plan = _Plan(
        _asked("problems", problems, prompt), checker,
        _asked("validation_problems", validation_problems, prompt),
        check_int("rounds", rounds, 1),
        check_int("num_generations", num_generations, 1), most_per_problem,
        temperature,
    )  # fmt: skip
    check_int("sampling_batch_size", sampling_batch_size, 1)
    sampler = ResponseSampler(
        causal_lm, template, tuning.sequence_length, plan.temperature,
        int(sampling_batch_size),
    )  # fmt: skip
    run = Run(causal_lm, sampler, tuning, directory)
    for part in (plan.problems, plan.validation_problems):
        if part is not None:
            sampler.encode(list(part))  # each must leave room for a solution
    with noting_the_end(causal_lm), devices.only_run_in(directory):
        identity = None
        if directory is not None:
            model = describe_model(causal_lm, directory)
            identity = plan.identity() | tuning.identity() | model
        run.open(identity, plan.rounds)
        for number in range(plan.rounds + 1):
            if not run.is_finished(number):
                _one_round(run, plan, number)
        return run.history


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What the rounds do; see `self_train` for the attributes.

    Problems are dicts from what the model is asked to the problem.
    """

    problems: dict
    checker: object
    validation_problems: dict | None
    rounds: int
    num_generations: int
    most_per_problem: int | None
    temperature: float

    def __post_init__(self):
        check_callable("checker", self.checker, "An `AnswerChecker` is.")
        if self.most_per_problem is not None:
            check_int("most_per_problem", self.most_per_problem, 1)
        check_real(
            "temperature",
            self.temperature,
            lambda value: 0 < value <= 1e30,
            "positive and finite",
            cure="1 samples from the model itself.",
        )
        held_out = self.validation_problems or ()
        check_held_out("validation_problems", held_out, self.problems)
        # An `AnswerChecker` has it: zeros for all would be told late.
        if hasattr(self.checker, "look_for_marker"):
            self.checker.look_for_marker(self.problems)

    def identity(self):
        """Return what determines the result of a run: a dict for JSON."""
        held_out = self.validation_problems
        problems = [*self.problems.values(), *(held_out or {}).values()]
        return {
            "problems": digest_of(list(self.problems)),
            "validation_problems": held_out and digest_of(list(held_out)),
            "answers": digest_of(list(map(_answer_of, problems))),
            "checker": describe_rule(self.checker),
            "num_generations": self.num_generations,
            "most_per_problem": self.most_per_problem,
            "temperature": float(self.temperature),
        }

    def check(self, samples):
        """Return which solutions are right, 1 or 0: a float64 array."""
        problem_of = self.problems | (self.validation_problems or {})

        def check(prompts, responses):
            return self.checker([problem_of[p] for p in prompts], responses)

        found = scores_of(check, samples.prompts, samples.responses, "checker")
        return RIGHT(found).astype("float64")


def _asked(name, problems, prompt):
    """Return problems by what the model is asked: a dict, or `None`."""
    if problems is None and name == "validation_problems":
        return None
    problems = check_list(name, problems, "a list of problems")
    if prompt is not None and not callable(prompt):
        raise UserError(
            "`prompt` must be a function from a question to what the model is "
            f"asked, or None. Received: prompt={shown(prompt)}. "
            "`kerasllm.reasoning.step_prompt` is one."
        )
    for problem in problems:
        if not isinstance(getattr(problem, "prompt", None), str):
            raise UserError(
                f"Each of `{name}` must have a str `prompt`. Received: "
                f"{shown(problem)}. `kerasllm.reasoning.Problem` has."
            )
    asked = [prompt(p.prompt) if prompt else p.prompt for p in problems]
    by_prompt = dict(zip(check_prompts(name, asked), problems, strict=True))
    if len(by_prompt) < len(problems):
        raise UserError(
            f"Each of `{name}` must have a prompt of its own. Received: "
            f"{len(problems)} problems with {len(by_prompt)} different ones. "
            "Leave out the others."
        )
    return by_prompt


def _answer_of(problem):
    """Return the answer of a problem as a str, `None` if it has none."""
    answer = getattr(problem, "answer", None)
    # What else there may be has an address for a text.
    return str(answer) if isinstance(answer, str | numbers.Number) else None


def _one_round(run, plan, number):
    """Learn, but for round 0, and measure; note both."""
    logs = _learn(run, plan, number) if number else {}
    if plan.validation_problems is not None:
        logs |= _measure(run, plan, number)
    if logs:
        run.finish(number, logs)
        run.say(_line(run.history[-1], plan))


def _learn(run, plan, number):
    """Sample, check, keep and tune; return the logs of a round."""
    clock = Clock()
    samples = run.sample(number, list(plan.problems), plan.num_generations)

    def make():
        with run.working(f"Round {number}: checking"):
            return [{"right": right} for right in plan.check(samples).tolist()]

    records = run.once(number, CHECKED_FILE, make)
    right = np.array([record["right"] for record in records])
    sampling_seconds = clock.lap()
    kept = choose(samples, right, RIGHT, plan.most_per_problem)
    _check_right(kept, samples, right, number)
    tuned = run.tune(number, samples, kept)
    solutions = [
        solution
        for solution, is_right in zip(
            zip(samples.prompts, samples.responses, strict=True),
            right,
            strict=True,
        )
        if is_right
    ]
    solved = right.reshape(-1, plan.num_generations).max(axis=1)
    return {
        "share_right": float(right.mean()),
        "share_solved": float(solved.mean()),
        "num_kept": int(kept.sum()),
        "diversity": len(set(solutions)) / len(solutions),
        "length": float(np.mean(samples.num_tokens)),
        "entropy": -float(np.mean(samples.logprobs)),
        "share_ended": float(np.mean(samples.ended)),
        "tokens_sampled": sum(samples.num_tokens),
        **tuned,
        "sampling_seconds": sampling_seconds,
        "training_seconds": clock.lap(),
    }


def _check_right(kept, samples, right, number):
    if kept.any():
        return
    raise UserError(
        "At least one solution must be right and end, to be learned from. "
        f"Received: {len(samples)} in round {number}, of which "
        f"{int(right.sum())} are right and {sum(samples.ended)} were not cut "
        "off. Raise `num_generations` or `sequence_length`, bring easier "
        "problems, or first tune the model on worked examples with `finetune`."
    )


def _measure(run, plan, number):
    """Return the accuracies on held-out problems: a dict."""

    def make():
        asked = list(plan.validation_problems)
        seeds = seeds_of(run.tuning.seed, 0, len(asked))
        with run.working(f"Round {number}: measuring"):
            greedy = run.sampler.sample(asked, 1, seeds, temperature=0.0)
            sampled = run.sampler.sample(asked, 1, seeds)
            rows = zip(
                asked,
                greedy.responses,
                plan.check(greedy).tolist(),
                greedy.num_tokens,
                sampled.responses,
                plan.check(sampled).tolist(),
                strict=True,
            )
        keys = "prompt greedy greedy_right greedy_length sampled sampled_right"
        return [dict(zip(keys.split(), row, strict=True)) for row in rows]

    records = run.once(number, VALIDATION_FILE, make)
    logs = {}
    for name in ("greedy", "sampled"):
        right = [record[f"{name}_right"] for record in records]
        logs[f"val_{name}"] = float(np.mean(right))
        logs[f"val_{name}_error"] = standard_error(right)
    lengths = [record["greedy_length"] for record in records]
    return logs | {"val_length": float(np.mean(lengths))}


def _line(logs, plan):
    """Return what a round has done as a line of text."""
    parts = []
    if logs["round"]:
        parts.append(
            f"{logs['share_solved']:.0%} of {len(plan.problems)} problems "
            f"solved, {logs['num_kept']} solutions kept"
        )
    if "val_greedy" in logs:
        parts.append(
            f"held-out {logs['val_greedy']:.1%} greedily, "
            f"{logs['val_sampled']:.1%} sampled"
        )
    where = f"Round {logs['round']} of {plan.rounds}"
    return f"{where if logs['round'] else 'Start'}: {', '.join(parts)}"
