import ast
import contextlib
import errno
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys
import tomllib

import keras
import keras_hub
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import kerasllm
from kerasllm import backend, checks, layers, tour
from kerasllm.cli import _messages
from kerasllm.training import TrainingInterrupted
from tests.cli.messages import one_line


def in_a_process(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "command",
    [
        *("", "tour", "pretrain", "generate", "finetune", "dpo", "grpo"),
        *("compare", "chat", "index", "info"),
        *("homework", "homework grade"),
    ],
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


@pytest.mark.any_backend
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
        *package.rglob("*.py"),
        hub / "preset_loader.py",
        hub / "convert_gemma3.py",
        hub / "safetensor_utils.py",
    ]

    def is_homework(path):
        where = path.relative_to(package) if package in path.parents else path
        return where.parts[0].startswith("homework")

    imported = set()
    for path in paths:
        room = (
            path.relative_to(package).parts[0]
            if package in path.parents
            else ""
        )
        if room.startswith("homework"):  # extras, which say so
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)  # the package has no relative ones
    imported = {name.partition(".")[0] for name in imported}
    imported -= {*sys.stdlib_module_names, "kerasllm"}
    imported -= {"torch", "pypdf"}  # extras, which say so
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


@pytest.mark.any_backend
def test_without_a_command_there_is_help(run):
    status, out, _ = run()
    assert status == 0
    assert "pretrain" in out


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--wrong"], "No such option: --wrong"),
        (["nonsense"], "No such command 'nonsense'"),
        (["tour", "--wrong"], "See `kerasllm tour --help`"),
        (["pretrain", "--backend", "mxnet"], "'jax', 'tensorflow', 'torch'"),
        (
            ["pretrain", "--recipe", "huge"],
            "'huge' is not one of 'laptop', 'book'",
        ),
        (["tour", "--recipe", "huge"], "'huge' is not one of 'laptop', 'book'"),
        (["pretrain", "--documents", "pages"], "'lines', 'files'"),
        (["pretrain", "--seed", "-1"], "--seed"),
        (["pretrain", "--data", "mini-c4", "--data", "x"], "stand alone"),
        (["pretrain", "--data", "no/such/file"], "no/such/file"),
        (["generate", "--model", "no/such", "x"], "no/such"),
        (["generate", "--model", ".", "x", "--top-k", "five"], "--top-k"),
        (["generate", "--model", ".", "x", "--top-k", "0"], "--top-k must be"),
        (["generate", "--model", ".", "x", "--top-p", "2"], "--top-p must be"),
        (["generate", "--model", ".", "x"], "must hold a finished pretraining"),
        (["generate", "x"], "--model"),
        (["generate", "--model", "."], "Missing argument 'PROMPT'"),
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


@pytest.mark.any_backend
def test_one_line_in_a_process_of_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kerasllm", "generate"]
        + ["--model", str(tmp_path), "x", "--top-k", "0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--top-k must be a positive int" in one_line(done.stderr)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "computes"),
    [
        (["tour"], "tour.run"),
        (
            ["pretrain", "--data", "TEXT", "--vocabulary-size", "290"],
            "pretraining.pretrain_mini_gpt",
        ),
        (
            ["generate", "--model", "MODEL", "x"],
            "pretraining.PretrainedModel.load",
        ),
        (["chat", "--model", "MODEL"], "pretraining.PretrainedModel.load"),
        (["chat", "--preset", "tiny"], "chat.ChatModel.from_preset"),
        (["finetune", "--data", "FILE"], "chat.ChatModel.from_preset"),
        (["dpo", "--data", "PAIRS"], "chat.ChatModel.from_preset"),
        (
            ["grpo", "--data", "FILE", "--reward", "exact"],
            "chat.ChatModel.from_preset",
        ),
        (["info"], "backend.device_name"),
    ],
)
def test_a_command_sets_its_process_up_once(
    run, monkeypatch, instructions_file, preferences_file, text, a_run,
    arguments, computes,
):  # fmt: skip
    calls = []

    def compute(*args, **kwargs):
        calls.append(computes)
        raise checks.UserError("It has come this far.")

    monkeypatch.setattr(backend, "set_up", lambda: calls.append("set up"))
    monkeypatch.setattr(f"kerasllm.{computes}", compute)
    paths = {
        "FILE": instructions_file, "PAIRS": preferences_file, "MODEL": a_run,
        "TEXT": text,
    }  # fmt: skip
    status, _, err = run(*(paths.get(word, word) for word in arguments))
    assert status == 2 and "this far" in one_line(err)
    assert calls == ["set up", computes]


@pytest.mark.any_backend
def test_backend_of_the_environment_is_checked(run, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "mxnet")
    status, out, err = run("info")
    assert status == 2
    assert "Received: 'mxnet', from KERAS_BACKEND" in one_line(err)
    assert "kerasllm" in out  # the versions still help


@pytest.mark.any_backend
def test_backend_of_the_configuration_is_checked(run, monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text('{"backend": "mxnet"}')
    status, _, err = run("tour")
    assert status == 2
    assert "'mxnet'" in one_line(err)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "config, told",
    [
        ("[]", "which is no JSON object"),
        ('{"floatx": ["float32"]}', "floatx ['float32'], which is not one of"),
        ('{"floatx": "bfloat16"}', "float16, float32, float64. Mend it"),
        ('{"epsilon": 1}', "an epsilon of 1, which is no float"),
        ('{"image_data_format": "x"}', "channels_last, channels_first"),
        (None, "which cannot be read"),
        ("no JSON", None),  # Keras ignores it
    ],
)
def test_a_configuration_that_keras_cannot_read_is_told(
    run, monkeypatch, tmp_path, config, told
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    if config is None:
        (tmp_path / "keras.json").mkdir()
    else:
        (tmp_path / "keras.json").write_text(config)
    status, _, err = run("info")
    assert status == (2 if told else 0)
    assert told is None or told in one_line(err)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "backend, command",
    [("torch", 'pip install -e ".[torch]"'), ("jax", "pip install jax")],
)
def test_missing_backend_says_how_to_install_it(
    run, monkeypatch, backend, command
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == backend else find_spec(name),
    )
    status, _, err = run("tour", "--backend", backend)
    assert status == 2
    assert f"`{command}`" in one_line(err)


@pytest.mark.any_backend
def test_backend_cannot_change_once_keras_runs(run):
    other = "torch" if keras.config.backend() != "torch" else "jax"
    status, _, err = run("tour", "--backend", other)
    assert status == 2
    assert "before Keras starts" in one_line(err)


@pytest.mark.any_backend
def test_mistakes_inside_the_package_show_a_traceback(run, monkeypatch):
    def broken(*arguments, **options):
        raise ValueError("Received: a bug")  # not raised by a room

    monkeypatch.setattr(tour, "run", broken)
    with pytest.raises(ValueError, match="a bug"):
        run("tour")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "error, status",
    [
        (checks.UserError("a wrong value"), 2),
        (checks.MissingFileError("no such file"), 2),
        (checks.RunError("another run"), 2),
        (checks.ForbiddenPathError(13, "not yours", "folder"), 2),
        (checks.NotAFolderError(20, "in a file", "file/folder"), 2),
        (checks.FolderIsFileError(17, "a file", "file"), 2),
        (checks.EnvironmentFailure("a full disk"), 1),
        (checks.DivergedError("NaN"), 1),
        (PermissionError(13, "Permission denied"), 2),
        (NotADirectoryError(20, "Not a directory"), 2),
        # Of libraries, or mistakes of ours, whatever they say.
        (ValueError("It must be a number. Received: 'x'."), None),
        (FileNotFoundError("Received: a path that is not there"), None),
        (FloatingPointError("Received: NaN"), None),
        (OSError("Received: no answer"), None),
        # Limits of the system.
        (OSError(errno.ENAMETOOLONG, "File name too long", "a"), 2),
        (OSError(errno.EMFILE, "Too many open files"), 1),
        (MemoryError(), 1),
    ],
)
def test_the_class_of_an_error_decides_the_exit_status(error, status):
    assert _messages.exit_status(error) == status


@pytest.mark.any_backend
def test_limits_of_the_system_are_told_with_a_cure():
    files = OSError(errno.EMFILE, "Too many open files")
    assert _messages.message_of(files).endswith("with `ulimit -n 1024`.")
    assert "needs. Received: too little." in _messages.message_of(MemoryError())


@pytest.mark.any_backend
def test_a_library_error_in_our_code_is_a_mistake():
    with pytest.raises(ValueError) as caught:
        int("Received:")
    assert _messages.exit_status(caught.value) is None


def test_of_a_keras_error_only_what_matters_is_kept():
    embedding = layers.PositionalEmbedding(4, 10, 8)
    with pytest.raises(ValueError) as caught:
        embedding(keras.ops.zeros((1, 5), "int32"))
    assert "Exception encountered" in str(caught.value)
    assert _messages.exit_status(caught.value) == 2
    assert _messages.message_of(caught.value).startswith(
        "The input must not be"
    )
    assert "Arguments received" not in _messages.message_of(caught.value)


@pytest.mark.any_backend
def test_diverged_training_exits_1_with_one_line(run, monkeypatch):
    def diverge(*arguments, **options):
        raise checks.DivergedError("The loss must stay finite. Received: NaN")

    monkeypatch.setattr(tour, "run", diverge)
    status, _, err = run("tour")
    assert status == 1
    assert "The loss must stay finite" in one_line(err)


@pytest.mark.any_backend
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
    status, _, err = run("tour", "--out", "my  tour")
    assert status == 130
    assert said in one_line(err)
    assert "kerasllm tour --out 'my  tour'" in err


@pytest.mark.any_backend
def test_a_part_of_pytorchs_compiler_is_imported_when_it_is_asked_for():
    """What records a mini-GPT imports such a part."""
    pytest.importorskip("torch")
    result = in_a_process(
        "import sys, torch\n"
        "from kerasllm.cli import _start\n"
        "sys.modules['torch._dynamo'] = _start._LateDynamo('torch._dynamo')\n"
        "import torch._dynamo.aot_compile_types\n"
        "print(hasattr(sys.modules['torch._dynamo'], '__file__'))\n"
    )
    assert result.stdout == "True\n", result.stderr


@pytest.mark.any_backend
def test_what_a_command_imports_is_not_looked_at_for_garbage(tmp_path):
    """And it computes in float32, whatever keras.json says."""
    (tmp_path / "keras.json").write_text('{"floatx": "float64"}')
    result = in_a_process(
        "import gc\n"
        "from kerasllm.cli._start import starting\n"
        "with starting(None):\n"
        "    import keras\n"
        "    print(gc.isenabled(), keras.config.floatx())\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)\n"
        "gc.unfreeze()\n"
        "with starting(None):\n"
        "    print(gc.isenabled())\n"
        "print(gc.get_freeze_count())\n",
        env=os.environ | {"KERAS_HOME": str(tmp_path)},
    )
    # Once Keras has been imported, the process is a program's.
    expected = ["False float32", "True True", "True", "0"]
    assert result.stdout.splitlines() == expected, result.stderr
