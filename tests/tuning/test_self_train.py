"""Self-training on solutions that a program finds right."""

import dataclasses

import numpy as np
import pytest

from kerasllm.checks import RunError, UserError
from kerasllm.reasoning import AnswerChecker, word_problems
from kerasllm.tuning import self_train
from tests.several_models import LENGTH, make_mini_gpt
from tests.tuning import scripted
from tests.tuning.scripted import Interruption, without_seconds
from tests.tuning.test_dpo import copy_of

pytestmark = pytest.mark.any_backend

OPTIONS = {
    "rounds": 2, "num_generations": 6, "sequence_length": LENGTH, "verbose": 0
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Problem:
    prompt: str
    answer: int


PROBLEMS = [Problem(f"Count to {i}.", i) for i in range(8)]
HELD_OUT = [Problem(f"Count to {i}.", i) for i in range(100, 110)]


def checker(problems, responses):
    """Return whether a number is odd or even like the answer."""
    return [
        (problem.answer - int(response)) % 2 == 0
        for problem, response in zip(problems, responses, strict=True)
    ]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model that nobody tunes: take copies."""
    return make_mini_gpt(tmp_path_factory.mktemp("vocabulary"), None)


@pytest.fixture
def stages(monkeypatch):
    return scripted.install(monkeypatch)


def test_right_solutions_are_learned_from(start, stages, tmp_path, monkeypatch):
    learned = []
    finetune = scripted._run.finetune

    def note(causal_lm, examples, **options):
        learned.append(examples)
        return finetune(causal_lm, examples, **options)

    monkeypatch.setattr(scripted._run, "finetune", note)
    history = self_train(
        copy_of(start), PROBLEMS, checker, HELD_OUT, most_per_problem=2,
        directory=tmp_path, **OPTIONS,
    )  # fmt: skip
    assert [logs["round"] for logs in history] == [0, 1, 2]
    by_prompt = {problem.prompt: problem for problem in PROBLEMS}
    for logs, examples in zip(history[1:], learned, strict=True):
        assert len(examples) == logs["num_kept"]
        pairs = [(x.instruction, x.response) for x in examples]
        assert len(set(pairs)) == len(pairs)
        prompts = [prompt for prompt, _ in pairs]
        assert max(map(prompts.count, prompts)) == 2
        problems = [by_prompt[prompt] for prompt in prompts]
        assert all(checker(problems, [response for _, response in pairs]))
        assert 0 < logs["share_right"] < 1
        assert logs["share_right"] <= logs["share_solved"] <= 1
        assert 0 < logs["diversity"] <= 1
        # The scripted model's log-probabilities are -1 minus the number.
        assert logs["entropy"] > 1 and 1 <= logs["length"] <= 7
    for logs in history:
        assert 0 <= logs["val_greedy"] <= 1
        assert logs["val_sampled_error"] >= 0


def test_what_a_round_reports_by_hand(start, stages, monkeypatch):
    """Six solutions of two problems: 1 1 2 3 4 5, and only even ones."""

    def sample(self, prompts, num_generations, seeds, temperature=None):
        numbers = [1, 1, 2, 3, 4, 5] + [2, 2, 2, 4, 6, 8]
        return scripted._sampling.Samples(
            [p for p in prompts for _ in range(6)],
            [str(i) for i in numbers],
            [i != 3 for i in numbers],
            numbers,
            [-float(i) for i in numbers],
            6,
        )

    monkeypatch.setattr(scripted._sampling.ResponseSampler, "sample", sample)
    problems = [Problem("Count to one.", 1), Problem("Say nine.", 9)]
    (logs,) = self_train(
        copy_of(start), problems, checker, rounds=1, num_generations=6,
        sequence_length=LENGTH, verbose=0,
    )  # fmt: skip
    assert logs["share_right"] == 4 / 12  # 1 1 3 5
    assert logs["share_solved"] == 1 / 2
    assert logs["diversity"] == 3 / 4
    assert logs["num_kept"] == 2  # 1 and 5: 3 was cut off
    assert logs["share_ended"] == 11 / 12
    assert logs["length"] == logs["entropy"] == 40 / 12
    assert logs["tokens_sampled"] == 40


@pytest.mark.parametrize("tune_from", ["start", "last"])
def test_an_interrupted_run_goes_on(start, stages, tmp_path, tune_from):
    def train(model, directory, **changed):
        arguments = {
            "problems": PROBLEMS, "checker": checker, "tune_from": tune_from,
            "validation_problems": HELD_OUT, "directory": directory, **OPTIONS,
        }  # fmt: skip
        return self_train(model, **arguments | changed)

    whole = copy_of(start)
    history = train(whole, tmp_path / "whole")
    moments = len(stages.calls)
    assert stages.calls == ["sample"] * 2 + 2 * [
        "sample", "tune", "sample", "sample"
    ]  # fmt: skip
    for moment in range(moments):
        stages.calls.clear()
        stages.interrupt_at = moment
        model, folder = copy_of(start), tmp_path / str(moment)
        with pytest.raises(Interruption):
            train(model, folder)
        stages.interrupt_at = None
        again = train(model, folder)
        assert without_seconds(again) == without_seconds(history)
        assert scripted.level_of(model) == pytest.approx(
            scripted.level_of(whole), abs=1e-6
        )
    for changed, named in (
        ({"most_per_problem": 1}, "most_per_problem"),
        ({"num_generations": 5}, "num_generations"),
        ({"temperature": 0.5}, "temperature"),
        # A mistake that was mended would be found right or wrong as before.
        ({"problems": [Problem(p.prompt, 5) for p in PROBLEMS]}, "answers"),
        ({"checker": lambda problems, responses: [1.0] * 48}, "checker"),
    ):
        with pytest.raises(RunError, match=rf"one run only.*`{named}`\."):
            train(copy_of(start), tmp_path / "whole", **changed)


def test_a_prompt_may_be_made_of_a_question(start, stages):
    seen = []

    def check(problems, responses):
        seen.extend(problems)
        return checker(problems, responses)

    def ask(question):
        asked.append(question)
        return f"{question} Think."

    asked = []
    self_train(copy_of(start), PROBLEMS, check, prompt=ask, **OPTIONS)
    assert seen[:6] == [PROBLEMS[0]] * 6 and len(seen) == 2 * 6 * 8
    assert asked == [problem.prompt for problem in PROBLEMS]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"problems": ["Count."]}, "Each of `problems` must have a str"),
        ({"problems": PROBLEMS * 2}, "a prompt of its own.*16 problems with 8"),
        ({"problems": []}, "`problems` must have at least one"),
        ({"problems": None}, "`problems` must be a list"),
        ({"validation_problems": "ab"}, "`validation_problems` must be a list"),
        ({"prompt": "Think."}, "`prompt` must be a function"),
        ({"validation_problems": PROBLEMS[:2]}, "must be held out.*: 2 that"),
        ({"checker": None}, "`checker` must be callable"),
        ({"callbacks": [3]}, "Each of `callbacks` must be"),
        ({"directory": 5}, "`directory` must be a str or a path"),
        ({"most_per_problem": 0}, "`most_per_problem` must be"),
        ({"rounds": 0}, "`rounds` must be"),
        ({"num_generations": 0}, "`num_generations` must be"),
        ({"temperature": 0}, "`temperature` must be positive"),
        ({"tune_from": "best"}, "`tune_from` must be one of"),
        ({"sequence_length": 65}, "`sequence_length` must be at most 64"),
        ({"prompt": lambda text: text * 40}, "leave room for a response"),
    ],
)
def test_arguments_are_checked_where_they_enter(
    start, stages, tmp_path, arguments, message
):
    arguments = {
        "problems": PROBLEMS,
        "checker": checker,
        "directory": tmp_path / "run",
        **OPTIONS,
    } | arguments
    with pytest.raises(UserError, match=message):
        self_train(start, **arguments)
    assert not (tmp_path / "run").exists() and stages.calls == []


def test_who_solves_nothing_is_told_what_to_do(start, stages):
    def never(problems, responses):
        return np.zeros(len(problems), bool)

    message = "48 in round 1, of which 0 are right.*bring easier problems"
    with pytest.raises(UserError, match=message):
        self_train(copy_of(start), PROBLEMS, never, **OPTIONS)


def test_a_marker_of_another_kind_is_told_before_the_first_round(start):
    problems = word_problems(3, notation="notes")
    with (
        pytest.warns(UserWarning, match="looks for the marker 'ANSWER:'"),
        pytest.raises(UserError, match="`sampling_batch_size` must be"),
    ):
        self_train(start, problems, AnswerChecker(), sampling_batch_size=0)
