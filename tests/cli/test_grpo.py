import importlib
import json
import shlex

import pytest

from kerasllm import tuning
from kerasllm.cli.tuning import _rewards
from kerasllm.cli.tuning import grpo as command
from tests.cli.messages import one_line

pytestmark = pytest.mark.any_backend


@pytest.fixture
def questions_file(tmp_path):
    path = tmp_path / "questions.jsonl"
    lines = [{"question": f"Say {i}.", "answer": str(i)} for i in range(24)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def called(untrained, monkeypatch):
    """What the command asks of the library, call by call."""
    calls = []

    def grpo(model, prompts, reward, held_out, **options):
        calls.append((prompts, reward, held_out, options))
        return [
            {"step": 0, "val_reward": 0.25},
            {"step": 1, "reward": 0.5, "val_reward": 0.75},
        ]

    monkeypatch.setattr(tuning, "grpo", grpo)
    return calls


def test_the_options_reach_the_library(run, called, questions_file, tmp_path):
    numbers = {
        "num_generations": 4, "beta": 0.1, "epsilon": 0.3,
        "scale_rewards": "none", "loss_type": "dapo", "num_iterations": 2,
        "temperature": 0.9, "max_completion_length": 12, "steps": 7,
        "batch_size": 2, "minibatch_size": 4, "learning_rate": 1e-5, "seed": 3,
    }  # fmt: skip
    typed = [
        part
        for name, value in numbers.items()
        for part in (f"--{name.replace('_', '-')}", value)
    ]
    status, out, err = run(
        "grpo", "--data", questions_file, "--reward", "exact",
        "--out", tmp_path / "out", "--template", "book", "--validation", 0.25,
        *typed,
    )  # fmt: skip
    assert status == 0, err
    ((prompts, reward, held_out, options),) = called
    assert len(prompts) + len(held_out) == 24 and len(held_out) > 1
    assert options.pop("template").name == "book"
    assert options.pop("directory") == tmp_path / "out/checkpoint"
    assert options == numbers
    assert reward(["Say 3.", "Say 4."], [" 3\n", "3"]) == [1.0, 0.0]
    assert reward.__name__ == "exact"
    assert f"Mean reward of {len(held_out)} held-out prompt" in out
    assert "0.250 at the start, 0.750 with the weights that are kept" in out
    assert shlex.split(out.splitlines()[-1])[:2] == ["kerasllm", "chat"]
    # Another reward makes another run.
    (tmp_path / "out" / "checkpoint").mkdir(exist_ok=True)
    (tmp_path / "out" / "checkpoint" / "checkpoint.npz").touch()
    status, _, err = run(
        "grpo", "--data", questions_file, "--reward", "contains",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert status == 2 and "of --reward exact, not contains" in one_line(err)


def test_a_function_of_ones_own_may_ask_for_answers(
    run, called, questions_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rewards.py").write_text(
        "def short(prompts, responses):\n"
        "    return [-len(response) for response in responses]\n"
        "def near(prompts, responses, answers):\n"
        "    return [a in r for a, r in zip(answers, responses)]\n"
        "some = 3\n"
    )
    # A file beside it takes the place of no package, but for its own imports.
    (tmp_path / "wave.py").write_text("1 / 0")
    for name, expected in (("short", [-4, -1]), ("near", [True, False])):
        status, _, err = run(
            "grpo", "--data", questions_file, "--reward", f"my_rewards:{name}",
            "--out", tmp_path / name,
        )  # fmt: skip
        assert status == 0, err
        _, reward, _, _ = called[-1]
        assert reward(["Say 3.", "Say 4."], ["is 3", "3"]) == expected
    for name, said in (
        ("my_rewards:other", "no attribute 'other'"),
        ("no_such_module:f", "there is no module no_such_module"),
        ("my_rewards:some", "--reward must name a function"),
    ):
        status, _, err = run("grpo", "--data", questions_file, "--reward", name)
        assert status == 2 and said in one_line(err)
    assert importlib.import_module("wave").__file__ != str(tmp_path / "wave.py")


def test_questions_have_one_answer_each(run, called, questions_file):
    lines = questions_file.read_text()
    for more, said in (
        ({"question": "Say 3.", "answer": "three"}, "'3' and 'three' to"),
        ({"question": "Say?", "answer": "1", "context": "x"}, "a context or"),
    ):
        questions_file.write_text(lines + json.dumps(more))
        status, _, err = run(
            "grpo", "--data", questions_file, "--reward", "exact"
        )
        assert status == 2 and said in one_line(err)


def test_rewards_of_the_command():
    asked = ["q"] * 3, ["It is 12.", " 12 ", "21"], ["12", "12", "12"]
    assert _rewards.exact(*asked) == [0.0, 1.0, 0.0]
    assert _rewards.contains(*asked) == [1.0, 1.0, 0.0]


def test_the_reward_for_one_number(run, called, questions_file, tmp_path):
    """Answers may be those of GSM8K, and a list of numbers earns nothing."""
    lines = questions_file.read_text()
    solved = {"question": "How many?", "answer": "3*4=<<3*4=12>>12\n#### 1,012"}
    questions_file.write_text(lines + json.dumps(solved))
    options = "grpo", "--data", questions_file, "--reward", "answer"
    status, _, err = run(*options, "--out", tmp_path / "out")
    assert status == 0, err
    _, reward, _, _ = called[-1]
    responses = "ANSWER: 3", "ANSWER: 1 2 3", "3", "ANSWER: 1012"
    asked = ["Say 3."] * 3 + ["How many?"]
    assert reward(asked, responses).tolist() == [1, 0, 0, 1]
    solved["answer"] = "a dozen"
    questions_file.write_text(lines + json.dumps(solved))
    status, _, err = run(*options)
    assert status == 2 and "number as each answer" in one_line(err)
    assert "'a dozen' to 'How many?'" in one_line(err)


@pytest.mark.parametrize("last", [1, 0.5])
def test_a_run_that_had_nothing_to_learn_says_so(last):
    history = [{"step": 0, "val_reward": 0.0}]
    history += [{"reward": 0.0, "equal_groups": share} for share in (1, last)]
    said = " ".join(command._what_it_earns(history, 1))
    assert "of 1 held-out prompt:" in said
    assert ("nothing to learn" in said) == (last == 1)
