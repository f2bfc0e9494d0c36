import ast
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import io
import json
import os
import pathlib
import random
import re
import shlex
import signal
import subprocess
import sys
import tomllib

import h5py
import keras
import keras_hub
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import kerasllm
from kerasllm import (
    cli,
    corpora,
    generation,
    layers,
    models,
    pretraining,
    samplers,
    tour,
)
from kerasllm.checkpoints import TrainingInterrupted
from tests.recipes import TINY


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line here; return its status, stdout and stderr."""
    # Not what C++ writes: the backend has begun before, with its own words.
    monkeypatch.setenv("KERAS_BACKEND", keras.config.backend())

    def run(*arguments):
        capsys.readouterr()
        try:
            cli.main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as finished:
            status = finished.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    words = "the cat dog sat on a mat and saw red green house tree".split()
    draw = random.Random(0)
    documents = [" ".join(draw.choices(words, k=30)) for _ in range(100)]
    path = tmp_path_factory.mktemp("text") / "shard0.txt"
    path.write_text("\n".join(documents) + "\n")
    return path


@pytest.fixture(scope="module")
def pretrained(text, tmp_path_factory):
    """Run `kerasllm pretrain`; return the folder and what it printed."""
    directory = tmp_path_factory.mktemp("runs") / "a model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", keras.config.backend())
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(models.RECIPES, "tiny", TINY)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            cli.main(
                ["pretrain", "--recipe", "tiny"]
                + ["--data", str(text), "--out", str(directory)]
            )
    return directory, out.getvalue()


@pytest.fixture(scope="module")
def trained(pretrained):
    return pretraining.PretrainedModel.load(pretrained[0])


@pytest.fixture
def loaded(trained, monkeypatch):
    """A model whose folder need not be read again, nor compiled."""
    monkeypatch.setattr(
        pretraining.PretrainedModel, "load", lambda directory: trained
    )
    return trained


def one_line(stderr):
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("kerasllm: ")
    return lines[0]


def in_a_process(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@pytest.mark.parametrize(
    "command",
    ["", "tour", "pretrain", "generate", "finetune", "chat", "info"],
)
def test_help_loads_nothing_heavy(command):
    code = """if True:
        import sys
        from kerasllm.cli import main
        try:
            main([*sys.argv[1:], "--help"])
        except SystemExit as finished:
            heavy = {"keras", "tensorflow", "jax", "torch", "numpy"}
            print(finished.code, sorted(heavy & set(sys.modules)))
    """
    done = in_a_process(code, *command.split())
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert "Usage" in done.stdout
    assert done.stderr == ""


def test_module_is_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kerasllm", "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stdout == f"kerasllm {kerasllm.__version__}\n"


@pytest.mark.any_backend
def test_what_is_imported_comes_with_the_installation():
    """And so does what KerasHub reads a Hugging Face checkpoint with."""
    package = pathlib.Path(kerasllm.__file__).parent
    hub = pathlib.Path(keras_hub.__file__).parent / "src/utils/transformers"
    paths = [
        *package.glob("*.py"),
        hub / "preset_loader.py",
        hub / "convert_gemma3.py",
        hub / "safetensor_utils.py",
    ]
    imported = set()
    for path in paths:
        if path.name.startswith("homework"):  # extras, which say so
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
    imported = {name.partition(".")[0] for name in imported}
    imported -= {*sys.stdlib_module_names, "kerasllm", "torch"}
    assert {"keras", "safetensors", "h5py"} <= imported

    project = tomllib.loads((package.parent / "pyproject.toml").read_text())
    waiting, needed = list(project["project"]["dependencies"]), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        marker = requirement.marker
        if name in needed or marker and not marker.evaluate({"extra": ""}):
            continue
        needed.add(name)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            waiting += importlib.metadata.requires(name) or []
    providers = importlib.metadata.packages_distributions()
    assert [
        name
        for name in sorted(imported)
        if not needed & set(map(canonicalize_name, providers[name]))
    ] == []


def test_without_a_command_there_is_help(run):
    status, out, _ = run()
    assert status == 0
    assert "pretrain" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--wrong"], "No such option: --wrong"),
        (["nonsense"], "No such command 'nonsense'"),
        (["tour", "--wrong"], "See `kerasllm tour --help`"),
        (["pretrain", "--backend", "mxnet"], "'jax', 'tensorflow', 'torch'"),
        (["pretrain", "--recipe", "huge"], "must be one of 'laptop', 'book'"),
        (["tour", "--recipe", "huge"], "must be one of 'laptop', 'book'"),
        (["pretrain", "--documents", "pages"], "'lines', 'files'"),
        (["pretrain", "--seed", "-1"], "--seed"),
        (["pretrain", "--data", "mini-c4", "--data", "x"], "stand alone"),
        (["pretrain", "--data", "no/such/file"], "no/such/file"),
        (["generate", "--model", "no/such", "x"], "no/such"),
        (["generate", "--model", ".", "x", "--top-k", "five"], "--top-k"),
        (["generate", "--model", ".", "x", "--top-k", "0"], "`top_k` must be"),
        (["generate", "--model", ".", "x", "--top-p", "2"], "`top_p` must be"),
        (["generate", "--model", ".", "x"], "must hold a finished pretraining"),
        (["generate", "x"], "--model"),
        (["generate", "--model", "."], "prompt"),
    ],
)
def test_wrong_use_exits_2_with_one_line(
    run, arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert message in one_line(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("devices", ["auto", "2", "many"])
def test_devices_that_are_not_there_are_refused(
    run, tmp_path, devices, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if keras.config.backend() != "jax":
        message = "backend jax only"
    elif devices == "auto":
        pytest.skip("one device is all there are")
    else:
        message = '`devices` must be "auto" or an int in [1, 1]'
    status, out, err = run("pretrain", "--devices", devices)
    assert (status, out) == (2, "")
    assert message in one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_one_line_in_a_process_of_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kerasllm", "generate"]
        + ["--model", str(tmp_path), "x", "--top-k", "0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "`top_k` must be an int" in one_line(done.stderr)


def test_output_below_a_file_is_refused(run, text, monkeypatch):
    monkeypatch.setitem(models.RECIPES, "tiny", TINY)
    status, _, err = run(
        *("pretrain", "--recipe", "tiny", "--data", text, "--out", text / "x")
    )
    assert status == 2
    assert "Not a directory" in one_line(err)


def test_backend_of_the_environment_is_checked(run, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "mxnet")
    status, out, err = run("info")
    assert status == 2
    assert "Received: 'mxnet', from KERAS_BACKEND" in one_line(err)
    assert "kerasllm" in out  # the versions still help


def test_backend_of_the_configuration_is_checked(run, monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text('{"backend": "mxnet"}')
    status, _, err = run("tour")
    assert status == 2
    assert "'mxnet'" in one_line(err)


@pytest.mark.parametrize(
    "backend, package", [("torch", "kerasllm[torch]"), ("jax", "jax")]
)
def test_missing_backend_says_how_to_install_it(
    run, monkeypatch, backend, package
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == backend else find_spec(name),
    )
    status, _, err = run("tour", "--backend", backend)
    assert status == 2
    assert f'pip install "{package}"' in one_line(err)


def test_backend_cannot_change_once_keras_runs(run):
    other = "torch" if keras.config.backend() != "torch" else "jax"
    status, _, err = run("tour", "--backend", other)
    assert status == 2
    assert "before Keras starts" in one_line(err)


def test_mistakes_inside_the_package_show_a_traceback(run, monkeypatch):
    def broken(*arguments, **options):
        raise ValueError("Received: a bug")  # not raised by a room

    monkeypatch.setattr(tour, "run", broken)
    with pytest.raises(ValueError, match="a bug"):
        run("tour")


def test_a_library_error_in_our_code_is_a_mistake():
    def fail(room):
        code = compile("int('Received:')", room, "eval")
        with pytest.raises(ValueError) as caught:
            eval(code)
        return caught.value

    # Of the package by its place, but not by its words.
    error = fail(cli.__file__)
    error.args = ("invalid literal",)
    assert cli._status(error) is None


def test_of_a_keras_error_only_what_matters_is_kept():
    embedding = layers.PositionalEmbedding(4, 10, 8)
    with pytest.raises(ValueError) as caught:
        embedding(keras.ops.zeros((1, 5), "int32"))
    assert "Exception encountered" in str(caught.value)
    assert cli._status(caught.value) == 2
    assert cli._message(caught.value).startswith("The input must not be")
    assert "Arguments received" not in cli._message(caught.value)


def test_diverged_training_exits_1_with_one_line(run, monkeypatch):
    def diverge():
        raise FloatingPointError("The loss must stay finite. Received: NaN")

    # Seen as raised by a room.
    room = pathlib.Path(cli.__file__).with_name("checkpoints.py")
    diverge.__code__ = diverge.__code__.replace(co_filename=str(room))
    monkeypatch.setattr(tour, "run", lambda *args, **options: diverge())
    status, _, err = run("tour")
    assert status == 1
    assert "The loss must stay finite" in one_line(err)


@pytest.mark.parametrize(
    "interrupt, said",
    [
        (TrainingInterrupted("The state is saved in d."), "saved in d."),
        (KeyboardInterrupt(), "Interrupted"),
    ],
)
def test_ctrl_c_exits_130_and_says_how_to_go_on(
    run, monkeypatch, interrupt, said
):
    def interrupted(*arguments, **options):
        raise interrupt

    monkeypatch.setattr(tour, "run", interrupted)
    status, _, err = run("tour", "--out", "my tour")
    assert status == 130
    assert said in one_line(err)
    assert "kerasllm tour --out 'my tour'" in err


def test_tour_gets_folder_and_recipe(run, monkeypatch):
    calls = []
    monkeypatch.setattr(
        tour, "run", lambda *args, **kw: calls.append((args, kw))
    )
    assert run("tour", "--out", "here", "--recipe", "book")[0] == 0
    assert run("tour")[0] == 0
    assert calls == [
        ((pathlib.Path("here"),), {"recipe": "book"}),
        ((pathlib.Path("kerasllm-tour"),), {"recipe": "laptop"}),
    ]


@pytest.mark.parametrize(
    "options, shards",
    [
        ([], ["local"]),
        (["--data", "mini-c4"], ["c4"]),
        (["--data", "a", "--data", "b"], ["a", "b", "lines"]),
        (["--data", "a", "--documents", "files"], ["a", "files"]),
    ],
)
def test_pretrain_finds_the_text(run, monkeypatch, options, shards, trained):
    calls = []
    monkeypatch.setattr(corpora, "local_docs", lambda: ["local"])
    monkeypatch.setattr(corpora, "mini_c4", lambda: ["c4"])
    monkeypatch.setattr(corpora, "text_shards", lambda paths, d: [*paths, d])

    def pretrain(*arguments, **options):
        calls.append((arguments, options))
        return trained

    monkeypatch.setattr(pretraining, "pretrain_mini_gpt", pretrain)
    status, *_ = run(
        *("pretrain", "--out", "d", "--seed", 3, "--sample", "Hi", *options)
    )
    assert status == 0
    ((recipe, found, directory), options) = calls[0]
    assert found == shards
    assert recipe == models.RECIPES["laptop"]
    assert directory == pathlib.Path("d")
    expected = {"seed": 3, "sample_prompt": "Hi", "distribution": None}
    assert options == expected


def test_pretrain_then_generate(run, pretrained):
    directory, out = pretrained
    assert "val perplexity" in out
    command = out.splitlines()[-1].strip()
    assert command == f"kerasllm generate --model '{directory}' The --top-k 5"
    status, out, err = run(*shlex.split(command)[1:])
    assert status == 0, err
    assert out.startswith("The")


def test_generate_is_greedy_by_default(run, loaded):
    expected = generation.compiled_generate(
        loaded.model, loaded.tokenizer, "the cat", max_length=16
    )
    assert run("generate", "--model", loaded.directory, "the cat")[1] == (
        expected + "\n"
    )


@pytest.mark.parametrize(
    "options, chained",
    [
        ([], (0.0, None, None, None, 0.0, 0.0)),
        (["--top-k", 5], (1.0, 5, None, None, 0.0, 0.0)),
        (["--top-p", 0.9, "--min-p", 0.1], (1.0, None, 0.9, 0.1, 0.0, 0.0)),
        (["--temperature", 0.5], (0.5, None, None, None, 0.0, 0.0)),
        (
            ["--frequency-penalty", 0.3, "--presence-penalty", 0.2],
            (0.0, None, None, None, 0.3, 0.2),
        ),
    ],
)
def test_options_make_the_sampler(run, monkeypatch, options, chained, loaded):
    calls = []
    chain = samplers.chain

    def record(*arguments):
        calls.append(arguments)
        return chain(*arguments)

    monkeypatch.setattr(samplers, "chain", record)
    run("generate", "--model", loaded.directory, "the", *options)
    assert calls == [chained]


def test_a_seed_repeats_a_text(run, loaded):
    def texts(seed):
        options = ("--temperature", 1, "--seed", seed)
        return run("generate", "--model", loaded.directory, "a", *options)[1]

    # 13 or more draws from nearly equal odds: no two seeds agree by chance.
    assert texts(1) == texts(1) != texts(2)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--top-k", 5000], r"vocabulary_size=300"),
        (["--max-length", 17], "must be at most 16"),
        (["--max-length", 2], "prompt"),
    ],
)
def test_what_does_not_fit_the_model_exits_2(run, loaded, options, message):
    status, out, err = run(
        "generate", "--model", loaded.directory, "the cat sat", *options
    )
    assert (status, out) == (2, "")
    assert message in one_line(err)


def test_a_stream_prints_the_same_text_and_the_speed(run, loaded):
    command = ("generate", "--model", loaded.directory, "the cat", "--seed", 3)
    command += ("--top-k", 5)
    status, whole, _ = run(*command)
    assert status == 0
    status, streamed, err = run(*command, "--stream")
    assert (status, streamed) == (0, whole)
    assert re.fullmatch(r"[\d,]+ tokens/s\n", err)


def test_chat_continues_line_after_line(run, loaded, monkeypatch):
    too_long = "the cat sat " * 20
    # Of Windows, too, where a line ends with two characters.
    lines = f"the cat\r\n{too_long}\na dog\r\n\r\nnot read\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    status, out, err = run("chat", "--model", loaded.directory, "--seed", 0)
    assert status == 0
    assert "the cat" in out and "a dog" in out and "not read" not in out
    assert err.count("tokens/s") == 2
    assert "fewer than `max_length` tokens" in err


def test_ctrl_c_leaves_a_chat_without_a_word(run, loaded, monkeypatch):
    class Interrupted(io.StringIO):
        def readline(self):
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Interrupted())
    assert run("chat", "--model", loaded.directory) == (130, "", "")


@pytest.mark.parametrize("of", ["model", "preset"])
def test_chat_refuses_a_length_of_nothing(run, loaded, monkeypatch, of):
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n"))
    name = loaded.directory if of == "model" else "tiny_instruct"
    status, out, err = run("chat", f"--{of}", name, "--max-length", 0)
    assert "max_length" in err and "0" in err
    assert status == (2 if of == "preset" else 0)  # or each line is refused


def test_chat_refuses_a_line_that_is_no_text_and_goes_on(
    run, loaded, monkeypatch
):
    lines = io.BytesIO("Grüße\n".encode("latin-1") + b"the cat\n\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines, "utf-8"))
    status, out, err = run("chat", "--model", loaded.directory, "--seed", 0)
    assert status == 0
    assert "the cat" in out
    assert "`prompt` must be text that UTF-8 can write" in err


def test_info_names_versions_backend_and_recipes(run):
    status, out, _ = run("info")
    assert status == 0
    for package in ("kerasllm", "keras", "keras-hub", "jax", "tensorflow"):
        version = importlib.metadata.version(package)
        assert f"{package:13} {version}" in out
    assert f"backend       {keras.config.backend()}" in out
    for name, recipe in models.RECIPES.items():
        assert f"{name}: vocabulary {recipe.vocabulary_size:,}" in out


@pytest.mark.once  # `test_pretraining.py` has it without a process for each
def test_ctrl_c_in_training_can_be_resumed(text, tmp_path):
    long = dataclasses.replace(TINY, epochs=4, steps_per_epoch=100)
    code = f"""if True:
        import sys
        from kerasllm import models
        from kerasllm.cli import main
        from kerasllm.models import Recipe
        models.RECIPES["long"] = {long!r}
        main(sys.argv[1:])
    """
    command = [sys.executable, "-u", "-c", code, "pretrain", "--recipe", "long"]
    command += ["--data", str(text), "--out", str(tmp_path / "model")]
    environment = os.environ | {"KERAS_BACKEND": keras.config.backend()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        for line in process.stdout:
            if "Epoch 2/4" in line:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "The state is saved" in err.splitlines()[-1]
    done = subprocess.run(
        command, env=environment, timeout=120, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Epoch 1/4" not in done.stdout


# --- Gemma -------------------------------------------------------------------


@pytest.fixture
def instructions_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            json.dumps({"prompt": f"Say {i}.", "response": f"{i} it is."})
            + "\n"
            for i in range(24)
        )
    )
    return path


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
    # Finished, it is not begun again.
    status, again, _ = run(*command)
    assert status == 0 and "Epoch 1/1" not in again
    status, _, err = run(*command, "--learning-rate", 0.1)
    assert status == 2 and "a run of another learning_rate" in err

    monkeypatch.setattr("sys.stdin", io.StringIO("Say 3.\n\n"))
    status, out, err = run(
        "chat", "--preset", "tiny", "--lora", adapters, "--max-length", 40
    )
    assert status == 0 and "tokens/s" in err


@pytest.fixture
def untrained(tiny_untrained, monkeypatch):
    """Each preset is a Gemma that is not trained, and gains nothing."""
    from kerasllm.gemma import Gemma

    def from_preset(name, dtype=None, template="gemma"):
        backbone = tiny_untrained.backbone
        model = keras_hub.models.Gemma3CausalLM(
            backbone=backbone.from_config(backbone.get_config()),
            preprocessor=tiny_untrained.preprocessor,
        )
        return Gemma(model, template)

    monkeypatch.setattr(Gemma, "from_preset", from_preset)
    monkeypatch.setattr(Gemma, "finetune", lambda *args, **kwargs: [])


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


def test_finetune_prints_the_command_that_asks_what_it_tuned(
    run, untrained, instructions_file, tmp_path
):
    adapters = tmp_path / "my adapters" / "adapters.lora.h5"
    for given, rest in (
        (["--template", "book"], ["--template", "book"]),
        (["--template", "gemma"], []),
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


def test_numbers_are_refused_before_a_model_is_loaded(
    run, instructions_file, tmp_path, monkeypatch
):
    from kerasllm.gemma import Gemma

    monkeypatch.delattr(Gemma, "from_preset")
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
        assert option[2:].replace("-", "_") in one_line(err)


@pytest.mark.parametrize(
    ("options", "num_held_out"),
    [((), None), (("--validation", 0), None), (("--validation", 0.5), 1)],
)
def test_few_rows_are_all_trained_on_unless_a_share_is_asked_for(
    run, untrained, tmp_path, monkeypatch, options, num_held_out
):
    from kerasllm.gemma import Gemma

    seen = []
    monkeypatch.setattr(
        Gemma, "finetune", lambda self, *parts, **kwargs: seen.extend(parts)
    )
    path = tmp_path / "five.jsonl"
    path.write_text('{"prompt": "Say it.", "response": "It."}\n' * 2)
    with path.open("a") as file:
        for i in range(3):
            row = {"prompt": f"Say {i}.", "response": f"{i}."}
            file.write(json.dumps(row) + "\n")
    status, out, err = run("finetune", "--data", path, *options)
    assert status == 0, err
    train, held_out = seen
    assert (held_out and len(held_out)) == num_held_out
    assert len(train) == 5 - (num_held_out or 0)
    assert ("all are trained on" in out) == (not options)


def test_without_a_folder_each_run_has_one_in_the_cache(
    run, untrained, instructions_file, tmp_path, monkeypatch
):
    from kerasllm.gemma import Gemma

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    directories = []

    def finetune(self, *args, directory, **kwargs):
        directories.append(directory)

    monkeypatch.setattr(Gemma, "finetune", finetune)

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


def test_chat_loads_a_model_in_the_dtype_that_is_asked_for(run, monkeypatch):
    from kerasllm.gemma import Gemma

    seen = []

    def from_preset(name, dtype=None, template="gemma"):
        seen.append(dtype)
        raise ValueError("Received: enough")

    monkeypatch.setattr(Gemma, "from_preset", from_preset)
    for options, dtype in (((), None), (("--dtype", "bfloat16"), "bfloat16")):
        with pytest.raises(ValueError, match="enough"):
            run("chat", "--preset", "any", *options)
        assert seen.pop() == dtype


def test_chat_with_a_model_refuses_what_only_a_preset_takes(
    run, loaded, instructions_file
):
    for option, value in (
        ("--lora", instructions_file),
        ("--image", "picture.png"),
        ("--template", "gemma"),
        ("--dtype", "bfloat16"),
    ):
        status, _, err = run("chat", "--model", loaded.directory, option, value)
        assert status == 2
        assert f"Received: {option} with --model" in one_line(err)


def test_chat_reads_images_before_it_loads_a_model(run, monkeypatch, tmp_path):
    from kerasllm.gemma import Gemma

    monkeypatch.delattr(Gemma, "from_preset")
    status, _, err = run(
        "chat", "--preset", "tiny", "--image", tmp_path / "none.png"
    )
    assert status == 2
    assert "none.png, which does not exist" in one_line(err)


def test_chat_shows_images_with_the_first_line_that_is_short_enough(
    run, untrained, monkeypatch, tmp_path
):
    from PIL import Image

    from kerasllm.text_generator import TextGenerator

    prompts = []

    def stream(self, prompt, *args, **kwargs):
        prompts.append(prompt)
        return iter(["Red."])

    monkeypatch.setattr(TextGenerator, "stream", stream)
    path = tmp_path / "picture.png"
    Image.new("RGB", (48, 48)).save(path)
    lines = f"{'word ' * 200}\nWhat colour is it?\nAnd now?\n\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    status, out, err = run(
        "chat", "--preset", "any", "--image", path, "--max-length", 120
    )
    assert (status, out) == (0, "Red.\nRed.\n")
    assert "a quarter of `max_length`" in one_line(err)
    # The second prompt remembers the first one, its picture and the answer.
    assert [len(prompt.images) for prompt in prompts] == [1, 1]
    length = len(prompts[0].token_ids)
    assert prompts[1].token_ids[: length - 1] == prompts[0].token_ids[:-1]


@pytest.mark.once
def test_chat_shows_images_with_the_first_line(run, tmp_path, monkeypatch):
    from PIL import Image

    from kerasllm.toyworld import pictures

    picture = pictures(1, seed=4321)[0]
    path = tmp_path / "picture.png"
    Image.fromarray(picture.image).save(path)
    lines = "What colour are the shapes?\nWhere is it?\n\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    status, out, err = run("chat", "--preset", "tiny_instruct", "--image", path)
    assert status == 0, err
    assert out.splitlines()[0] == picture.questions()[0].answer
    assert len(out.splitlines()) >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chat",), "either a --preset or a --model. Received: none"),
        (("chat", "--preset", "gemma9"), "`name` must be one of tiny"),
        (("chat", "--preset", "tiny", "--top-k", 0), "`top_k`"),
        (("finetune", "--preset", "gemma9"), "`name` must be one of tiny"),
        (("chat", "--preset", "tiny", "--dtype", "fp16"), "a Keras dtype"),
        (("finetune", "--validation", 2), "--validation must be at least 0"),
        (("finetune", "--validation", "nan"), "--validation must be at least"),
        (("finetune", "--validation", 1e-9), "--validation must leave rows"),
        (("finetune", "--epochs", 0), "`epochs` must be a positive int"),
        (("finetune", "--batch-size", 0), "`batch_size` must be a positive"),
        (("finetune", "--sequence-length", 0), "`sequence_length` must be"),
        (("finetune", "--learning-rate", -1), "`learning_rate` must be"),
        (("finetune", "--rank", 0), "`rank` must be a positive int"),
        (("finetune", "--targets", "queery"), "`targets` must name layers"),
        (("finetune", "--targets", "query,vale"), "a layer for ['vale']"),
        (("finetune", "--template", "gema"), "`template` must be one of"),
        (("finetune", "--dtype", "fp16"), "`dtype` must be a Keras dtype"),
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
