import contextlib
import io
import itertools
import json
import pathlib
import shlex

import h5py
import pytest

from tests.cli.messages import one_line


@pytest.mark.once
def test_finetune_writes_adapters_that_chat_reads(
    run, instructions_file, tmp_path, monkeypatch
):
    command = (
        "finetune", "--data", instructions_file, "--preset", "tiny",
        "--rank", 2, "--epochs", 1, "--out", tmp_path / "out",
    )  # fmt: skip
    status, out, err = run(*command)
    assert status == 0, err
    adapters = tmp_path / "out" / "adapters.lora.h5"
    assert adapters.is_file()
    assert f"kerasllm chat --preset tiny --lora {adapters}" in out
    assert "trainable" in out and "GiB" in out
    assert out.index("The preset tiny knows") < out.index("tokens_per_second")
    # Finished, it is not begun again.
    status, again, _ = run(*command)
    assert status == 0 and "tokens_per_second" not in again
    # What the options do not say, the library compares.
    status, _, err = run(*command, "--sequence-length", 60)
    assert status == 2 and "a run of another --sequence-length" in err

    monkeypatch.setattr("sys.stdin", io.StringIO("Say 3.\n\n"))
    status, out, err = run(
        "chat", "--preset", "tiny", "--lora", adapters, "--max-length", 40
    )
    assert status == 0 and "tokens/s" in err


def test_a_seed_repeats_the_adapters(
    run, untrained, instructions_file, tmp_path
):
    def adapters(seed):
        status, _, err = run(
            "finetune", "--data", instructions_file, "--out", tmp_path,
            "--validation", 0.5, "--seed", seed,
        )  # fmt: skip
        assert status == 0, err
        with h5py.File(tmp_path / "adapters.lora.h5") as file:
            return {key: file[key]["a"][()].tobytes() for key in file}

    assert adapters(1) == adapters(1) != adapters(2)


@pytest.mark.any_backend
def test_finetune_prints_the_command_that_asks_what_it_tuned(
    run, untrained, instructions_file, tmp_path
):
    adapters = tmp_path / "my adapters" / "adapters.lora.h5"
    for given, rest in (
        (["--template", "book"], ["--template", "book"]),
        (["--template", "auto"], []),
        (["--dtype", "bfloat16"], ["--dtype", "bfloat16"]),
    ):
        # Of a preset with an address nothing is known before it is loaded.
        status, out, err = run(
            "finetune", "--data", instructions_file, "--out", adapters.parent,
            "--preset", "hf://google/gemma-3-1b-pt", *given,
        )  # fmt: skip
        assert status == 0, err
        assert shlex.split(out.splitlines()[-1]) == [
            *("kerasllm", "chat", "--preset", "hf://google/gemma-3-1b-pt"),
            *("--lora", str(adapters), *rest),
        ]


@pytest.mark.any_backend
def test_numbers_are_refused_before_a_model_is_loaded(
    run, instructions_file, tmp_path, monkeypatch
):
    from kerasllm.chat import ChatModel

    monkeypatch.delattr(ChatModel, "from_preset")
    for option, number in (
        ("--validation", 1e-9),
        ("--epochs", 0),
        ("--batch-size", -1),
        ("--sequence-length", 0),
    ):
        status, _, err = run(
            "finetune", "--data", instructions_file, "--out", tmp_path,
            option, number,
        )  # fmt: skip
        assert status == 2
        assert option in one_line(err)


@pytest.mark.any_backend
def test_a_folder_of_another_run_is_refused_before_a_backend_starts(
    run, untrained, instructions_file, tmp_path, monkeypatch
):
    from kerasllm.chat import ChatModel
    from kerasllm.cli.tuning import finetune

    checkpoint = tmp_path / "out" / "checkpoint"

    def finish(self, *args, **kwargs):
        """Leave what a finished run leaves, and its record of numbers."""
        checkpoint.mkdir()
        (checkpoint / "checkpoint.npz").write_bytes(b"")
        numbers = {"learning_rate": 1e-3, "batch_size": 8, "seed": 0}
        (checkpoint / "run.json").write_text(json.dumps(numbers))
        return []

    monkeypatch.setattr(ChatModel, "finetune", finish)
    options = {
        "--data": instructions_file, "--out": tmp_path / "out",
        "--sequence-length": 70, "--template": "chatml", "--validation": 0.25,
        "--dtype": "bfloat16", "--targets": "query, value",
    }  # fmt: skip
    status, _, err = run("finetune", *itertools.chain(*options.items()))
    assert status == 0, err
    monkeypatch.delattr(finetune, "starting")
    other = tmp_path / "other.jsonl"
    other.write_text(instructions_file.read_text() * 2)
    for option, value, said in (
        ("--preset", "tiny_instruct", "--preset tiny, not tiny_instruct"),
        ("--rank", 4, "--rank 8, not 4"),
        ("--targets", "query", "--targets query,value, not query"),
        ("--batch-size", 4, "--batch-size 8, not 4"),
        ("--learning-rate", 0.1, "--learning-rate 0.001, not 0.1"),
        ("--sequence-length", 60, "--sequence-length 70, not 60"),
        ("--template", "book", "--template chatml, not book"),
        ("--validation", 0, "--validation 0.25, not 0.0"),
        ("--seed", 1, "--seed 0, not 1"),
        ("--dtype", "float32", "--dtype bfloat16, not float32"),
        ("--data", other, "a run of another --data"),
    ):
        changed = options | {option: value}
        status, _, err = run("finetune", *itertools.chain(*changed.items()))
        assert status == 2
        assert said in one_line(err)


@pytest.mark.any_backend
def test_a_run_that_has_trained_nothing_may_have_other_options(
    run, untrained, instructions_file, tmp_path
):
    for rank in (2, 4):
        status, _, err = run(
            "finetune", "--data", instructions_file, "--out", tmp_path / "out",
            "--rank", rank,
        )  # fmt: skip
        assert status == 0, err
    recorded = json.loads((tmp_path / "out" / "options.json").read_text())
    assert recorded["rank"] == 4


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("options", "num_held_out"),
    [((), None), (("--validation", 0), None), (("--validation", 0.5), 1)],
)
def test_few_examples_are_all_trained_on_unless_a_share_is_asked_for(
    run, untrained, tmp_path, monkeypatch, options, num_held_out
):
    from kerasllm.chat import ChatModel

    seen = []
    monkeypatch.setattr(
        ChatModel, "finetune", lambda self, *parts, **kwargs: seen.extend(parts)
    )
    path = tmp_path / "five.jsonl"
    path.write_text('{"prompt": "Say it.", "response": "It."}\n' * 2)
    with path.open("a") as file:
        for i in range(3):
            example = {"prompt": f"Say {i}.", "response": f"{i}."}
            file.write(json.dumps(example) + "\n")
    status, out, err = run("finetune", "--data", path, *options)
    assert status == 0, err
    train, held_out = seen
    assert (held_out and len(held_out)) == num_held_out
    assert len(train) == 5 - (num_held_out or 0)
    assert ("all are trained on" in out) == (not options)


@pytest.mark.any_backend
def test_without_a_folder_each_run_has_one_in_the_cache(
    run, untrained, instructions_file, tmp_path, monkeypatch
):
    from kerasllm.chat import ChatModel

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    directories = []

    def finetune(self, *args, directory, **kwargs):
        directories.append(directory)

    monkeypatch.setattr(ChatModel, "finetune", finetune)

    def directory(*options):
        status, out, err = run(
            "finetune", "--data", instructions_file, *options
        )
        assert status == 0, err
        adapters = shlex.split(out.splitlines()[-1])[5]
        assert pathlib.Path(adapters).is_file()
        assert pathlib.Path(adapters).parent == directories[-1].parent
        return directories[-1]

    first = directory("--targets", "query,value")
    assert tmp_path / "cache" in first.parents
    # The same run, maybe a longer one, however it is written.
    assert first == directory("--epochs", 9) == directory()
    assert first == directory("--targets", "query, value")
    others = [
        directory(*options)
        for options in (
            ("--rank", 4),
            ("--targets", "query"),
            ("--batch-size", 4),
            ("--learning-rate", 0.1),
            ("--sequence-length", 60),
            ("--template", "book"),
            ("--validation", 0),
            ("--seed", 1),
            ("--dtype", "bfloat16"),
            ("--preset", "tiny_instruct"),
        )
    ]
    instructions_file.write_text(instructions_file.read_text() * 2)
    others.append(directory())
    assert len({first, *others}) == 12


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("finetune", "--preset", "gemma9"), "--preset must be one of tiny"),
        (("finetune", "--validation", 2), "--validation must be at least 0"),
        (("finetune", "--validation", "nan"), "--validation must be at least"),
        (
            ("finetune", "--validation", 1e-9),
            "--validation must leave",
        ),
        (("finetune", "--epochs", 0), "--epochs must be a positive int"),
        (("finetune", "--batch-size", 0), "--batch-size must be a positive"),
        (("finetune", "--sequence-length", 0), "--sequence-length must be"),
        (("finetune", "--learning-rate", -1), "--learning-rate must be"),
        (("finetune", "--rank", 0), "--rank must be a positive int"),
        (("finetune", "--targets", "queery"), "--targets must name layers"),
        (("finetune", "--targets", "query,vale"), "a layer for ['vale']"),
        (("finetune", "--template", "gema"), "Did you mean gemma?"),
        (("finetune", "--dtype", "fp16"), "Did you mean float16?"),
    ],
)
def test_wrong_words_about_gemma_are_answered(
    run, instructions_file, tmp_path, arguments, message
):
    command, *options = arguments
    if command == "finetune":
        options += ["--data", instructions_file, "--out", tmp_path / "out"]
    status, _, err = run(command, *options)
    assert status == 2
    assert message in " ".join(err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.any_backend
@pytest.mark.parametrize("command", ["finetune", "dpo", "grpo"])
def test_nothing_is_printed_where_the_seconds_are_shown(
    run, untrained, instructions_file, preferences_file, tmp_path,
    monkeypatch, command,
):  # fmt: skip
    """It would stand in the same line of a terminal."""

    @contextlib.contextmanager
    def working(what, at_once=True):
        shown.append(what)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            yield
        assert out.getvalue() == "", what

    shown = []
    for name in ("_runs", command):
        module = f"kerasllm.cli.tuning.{name}"
        monkeypatch.setattr(f"{module}.working", working)
    data = preferences_file if command == "dpo" else instructions_file
    more = ["--reward", "exact"] if command == "grpo" else []
    status, out, err = run(
        command, "--data", data, "--out", tmp_path / "out", *more
    )
    assert status == 0, err
    assert shown == ["Starting", "Loading tiny"] and "trainable" in out
