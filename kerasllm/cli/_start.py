"""How a command starts and ends: arguments, backend, messages, exit status."""

import contextlib
import difflib
import gc
import importlib
import importlib.util
import itertools
import json
import os
import shlex
import sys
import types
import warnings
from typing import Annotated

import typer

import kerasllm
from kerasllm.cli import _messages
from kerasllm.lazy import LateModules
from kerasllm.progress import discard, quiet, say

# Each backend's package has the name of the backend.
BACKENDS = ("jax", "tensorflow", "torch")
_HOW_TO_INSTALL = {
    "torch": 'In a clone of kerasllm, use `pip install -e ".[torch]"`. On a '
    "machine without a GPU, first install PyTorch's CPU build, as the "
    "installation page of PyTorch says: the usual build brings gigabytes of "
    "CUDA.",
}
# typer has moved this class between modules, but its subclass stays put.
UsageError = typer.BadParameter.__base__
# Packages that generating text does not need. KerasHub imports the first four,
# and Keras the others.
_NOT_FOR_TEXT = (
    "tensorflow",
    "tensorflow_text",
    "kagglehub",
    "huggingface_hub",
    "matplotlib",
    "jax",
)
_DYNAMO = "torch._dynamo"
# The namespaces of TensorFlow, such as `tf.lite`: lists of names to import.
_TENSORFLOWS_NAMESPACES = "tensorflow._api.v2."

# Options whose value is a path, or may be one.
_PATHS = {
    *("--data", "--image", "--lora", "--model", "--out", "--preset"),
    *("--store", "--embedder", "--agreement"),
    *("--sources", "--csv", "--feedback", "--course"),
}
# Commands whose arguments are paths.
_TAKE_PATHS = ("index", "compare", "homework")
# What Keras accepts in keras.json: it fails on other values as it is imported.
_KERAS_SETTINGS = {
    "floatx": ("float16", "float32", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}

# Commands that write no file which a second call could go on with.
_KEEP_NOTHING = ("chat", "export", "generate", "info")

app = typer.Typer(
    help="The life of a language model in Keras 3, on the command line.",
    add_completion=False,
    rich_markup_mode="markdown",
)


def main(arguments=None):
    """Run the command line and exit.

    The exit status is 0 for success, 2 for wrong options and values, 1 for
    other failures, and 130 for Ctrl-C. An error that the user can fix prints
    one line on stderr; any other error prints a traceback.

    Args:
        arguments: list of str. Defaults to those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    arguments = [_expand_home(argument) for argument in arguments]
    # Imports and traced functions create millions of objects, and hardly any
    # are garbage. A command starts in 12% less time with fewer collections,
    # and `starting` has none.
    gc.set_threshold(50_000)
    # TensorFlow would print lines about the CPU that tell a user nothing.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not _messages.open_streams():
        _fail(1, "There must be a place for what is printed. Received: none.")
    with warnings.catch_warnings():
        command = typer.main.get_command(app)
        options = _options_of(command, arguments)
        warnings.showwarning = _messages.warning_printer(options)
        _run(command, arguments, options)


def _expand_home(argument):
    """Return `--out=/home/me/x` for `--out=~/x`, and others unchanged.

    A shell does this for `--out ~/x` only. A command would otherwise create a
    folder named "~", and a user who removes it may remove their home instead.
    """
    option, equals, path = argument.partition("=")
    if option not in _PATHS or not path.startswith("~"):
        return argument
    return f"{option}={os.path.expanduser(path)}"


def _check_paths(arguments):
    """Refuse an empty path, such as of a variable that the shell lacks.

    Python would take it for the current folder.
    """
    takes_paths = bool(arguments) and arguments[0] in _TAKE_PATHS
    for before, value in itertools.pairwise(["", *arguments]):
        option, equals, path = value.partition("=")
        if option in _PATHS and equals and not path:
            before, value = option, path
        is_path = before in _PATHS or (takes_paths and before[:1] != "-")
        if value == "" and is_path:
            name = before if before in _PATHS else "An argument"
            raise UsageError(
                f"{name} must be a path. Received: an empty one. Write . for "
                "the current folder."
            )


def _run(command, arguments, options):
    """Run the command line; end the process if something goes wrong."""
    try:
        _messages.settle_surroundings()
        _check_paths(arguments)
        # Not `app()`, which would draw a box around errors.
        with command.make_context("kerasllm", arguments) as context:
            command.invoke(context)
            sys.stdout.flush()
    except typer.Exit as finished:  # after --help and --version
        _check_output()
        raise SystemExit(finished.exit_code) from None
    except UsageError as error:
        running = error.ctx.command_path if error.ctx else "kerasllm"
        problem = error.format_message().rstrip(". ")
        end = "" if problem.endswith("?") else "."
        _fail(2, f"{problem}{end} See `{running} --help`.")
    except KeyboardInterrupt as interrupt:
        # Training says what it saved. Other files are complete or absent.
        if arguments and arguments[0] in _KEEP_NOTHING:
            _fail(130, "Interrupted.")
        said = str(interrupt) or "Interrupted; what was finished is kept."
        # As it was typed: a path may have two spaces in a row.
        again = f" {shlex.join(['kerasllm', *arguments])}"
        _fail(130, f"{said} To go on:", again)
    except BrokenPipeError:  # `kerasllm info | head -1`
        discard(sys.stdout)
        raise SystemExit(1) from None
    except Exception as error:
        _check_output(error)
        status = _messages.exit_status(error)
        if status is None:
            raise
        message = _messages.message_of(error)
        _fail(status, _messages.in_words_of(options, message))


def _check_output(error=None):
    """End the process if what was printed cannot be written.

    Args:
        error: the exception that ended the command, or `None`.
    """
    error = _messages.output_error(error)
    if isinstance(error, BrokenPipeError):
        raise SystemExit(1) from None
    if error is not None:
        _fail(
            1,
            "What is printed must fit where it goes. Received: "
            f"{error.strerror}. Send it to another place.",
        )


def _fail(status, message, again=""):
    say(f"kerasllm: {' '.join(message.split())}{again}")
    raise SystemExit(status) from None


def _options_of(command, arguments):
    """Return `options_of` for the command that the arguments name."""
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    return _messages.options_of(command)


@contextlib.contextmanager
def starting(backend, only_text=False):
    """Start a backend quietly for the imports in this block.

    This is the one place where a command sets the process up to compute.

    Args:
        backend: str, or `None` for the one that Keras is configured for.
        only_text: bool. Whether the command only generates text with a model
            that is on this machine. It then starts several seconds earlier.

    Raises:
        UsageError: there is no such backend, it is not installed, or another
            one is running.
    """
    _select_backend(backend)
    is_ours = "keras" not in sys.modules  # and not a program's that calls us
    with quiet(), _without_collections():
        if only_text:
            _import_for_text(os.environ["KERAS_BACKEND"])
        import keras

        from kerasllm import backend as running

        if is_ours:  # options say what is computed in, and not keras.json
            keras.config.set_floatx("float32")
        running.set_up()
        yield


@contextlib.contextmanager
def _without_collections():
    """Collect no garbage in this block, and never look at its objects again.

    The block imports packages: millions of objects, which stay. If Keras has
    been imported already, this does nothing, since the process is a program's.
    """
    if "keras" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _import_for_text(backend):
    """Import Keras and KerasHub as if other packages were not installed.

    They import TensorFlow and others on every backend, which takes several
    seconds, longer than a short answer. Both also work without them, but
    `tf.data`, downloads, and images no longer work in this process. With the
    backend TensorFlow, a third of its modules run only when they are used. If
    Keras or one of the packages has been imported already, this does nothing.

    Args:
        backend: str. The backend that Keras is going to start.
    """
    hidden = [package for package in _NOT_FOR_TEXT if package != backend]
    if any(package in sys.modules for package in ("keras", *hidden)):
        return  # a program that calls `main` may need them
    for package in hidden:
        sys.modules[package] = None  # an import of it now fails
    if backend == "torch":
        importlib.import_module("torch")
        sys.modules[_DYNAMO] = _LateDynamo(_DYNAMO)
    if backend == "tensorflow":
        sys.meta_path.insert(0, LateModules(_TENSORFLOWS_NAMESPACES))
    keras_hub = importlib.import_module("keras_hub")
    # Gemma 3's preprocessor needs TensorFlow for images and `tf.data`. Without
    # it, the preprocessor cannot be created, although text does not need it.
    preprocessor = keras_hub.models.Gemma3CausalLMPreprocessor
    module = sys.modules[preprocessor.__module__]
    module.assert_tf_installed = lambda name: None


class _LateDynamo(types.ModuleType):
    """A stand-in for PyTorch's compiler that imports it when it is needed.

    The compiler takes as long to import as everything else together. While
    they are imported, Keras and PyTorch only use `disable`, which excludes
    functions from compilation and has no effect as long as nothing is
    compiled. Any other attribute imports the compiler.
    """

    @staticmethod
    def disable(function=None, *options, **others):
        """Return the function unchanged, or a decorator that does so."""
        return function or (lambda function: function)

    def __getattr__(self, name):
        # `inspect` looks at all modules, which should not import the compiler.
        # `__path__` is different: importing a submodule reads it.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(_DYNAMO) is self:
            del sys.modules[_DYNAMO]
        return getattr(importlib.import_module(_DYNAMO), name)


def _select_backend(backend):
    """Set `KERAS_BACKEND` before Keras is imported."""
    config = _keras_config()
    name = str(
        backend
        or os.environ.get("KERAS_BACKEND")
        or config.get("backend", "tensorflow")  # as Keras does
    )
    if name not in BACKENDS:
        raise UsageError(
            f"The backend must be one of {', '.join(BACKENDS)}. Received: "
            f"{name!r}, from KERAS_BACKEND or keras.json. "
            f"{did_you_mean(name, BACKENDS)}Choose with --backend."
        )
    if importlib.util.find_spec(name) is None:
        raise UsageError(
            f"The backend {name} needs a package that is not installed. "
            f"{_HOW_TO_INSTALL.get(name, f'Use `pip install {name}`.')}"
        )
    if "keras" in sys.modules and _running_backend() != name:
        raise UsageError(
            "The backend must be chosen before Keras starts. Received: "
            f"{name}, while {_running_backend()} is running. Set KERAS_BACKEND."
        )
    os.environ["KERAS_BACKEND"] = name


def did_you_mean(word, words):
    """Return a question that offers the most similar word, or nothing."""
    former = {"tf": "tensorflow", "pt": "torch"}
    similar = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    similar += [former[word]] if former.get(word) in words else []
    return f"Did you mean {similar[0]}? " if similar else ""


def _keras_config():
    """Return what keras.json says, a dict; refuse what Keras fails on."""
    from kerasllm import files

    path = files.keras_home() / "keras.json"
    config, problem = {}, None
    if path.exists():
        try:
            config = json.loads(path.read_text())
        except ValueError:
            pass  # Keras ignores what is no JSON
        except OSError as error:
            problem = f"which cannot be read ({error.strerror})"
    if not isinstance(config, dict):
        problem = "which is no JSON object"
    elif not isinstance(config.get("epsilon", 1e-7), float):
        problem = f"with an epsilon of {config['epsilon']!r}, which is no float"
    else:
        for name, values in _KERAS_SETTINGS.items():
            if config.get(name, values[0]) not in values:
                problem = (
                    f"with {name} {config[name]!r}, which is not one of "
                    f"{', '.join(values)}"
                )
    if problem is not None:
        raise UsageError(
            f"keras.json must be one that Keras can use. Received: {path}, "
            f"{problem}. Mend it, or remove it: Keras writes a new one."
        )
    return config


def _running_backend():
    import keras

    return keras.backend.backend()


def _print_version(wanted: bool):
    if wanted:
        print(f"kerasllm {kerasllm.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
):
    if context.invoked_subcommand is None:
        print(context.get_help())
