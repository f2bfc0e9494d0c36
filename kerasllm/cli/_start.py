"""How a command starts and ends: arguments, backend, messages, exit status."""

import contextlib
import gc
import importlib.util
import json
import os
import pathlib
import re
import shlex
import sys
import tempfile
from typing import Annotated

import typer

import kerasllm
from kerasllm.checks import ExplainedError

# The packages that the three backends live in have the same names.
BACKENDS = ("jax", "tensorflow", "torch")
# typer has moved this class between modules; its base is always there.
UsageError = typer.BadParameter.__base__

app = typer.Typer(
    help="The life of a language model in Keras 3, on the command line.",
    add_completion=False,
    rich_markup_mode="markdown",
)


def main(arguments=None):
    """Run the command line and exit.

    The exit status is 0 for success, 2 for wrong options and values, 1 for
    what went wrong on the way and 130 for Ctrl-C. An error that the user can
    mend gives one line on stderr; any other error gives a traceback.

    Args:
        arguments: list of str. Defaults to those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Imports and traced functions are millions of objects, hardly any of them
    # garbage: a command starts in 12% less time where it is looked for less.
    gc.set_threshold(50_000)
    # TensorFlow greets with lines about the CPU that tell a user nothing.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    command = typer.main.get_command(app)
    try:
        # Not `app()`, which would draw a box around errors.
        with command.make_context("kerasllm", arguments) as context:
            command.invoke(context)
            sys.stdout.flush()
    except typer.Exit as finished:  # after --help and --version
        raise SystemExit(finished.exit_code) from None
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "kerasllm"
        problem = error.format_message().rstrip(".")
        _fail(2, f"{problem}. See `{command} --help`.")
    except KeyboardInterrupt as interrupt:
        # Training says what it saved; everything else is whole or absent.
        said = str(interrupt) or "Interrupted; what was finished is kept."
        again = shlex.join(["kerasllm", *arguments])
        _fail(130, f"{said} The same command continues: {again}")
    except BrokenPipeError:  # `kerasllm info | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        status = exit_status(error)
        if status is None:
            raise
        _fail(status, message_of(error))


def _fail(status, message):
    print(f"kerasllm: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status) from None


def exit_status(error):
    """Return the exit status of an error that the user can mend, or `None`.

    The class of an error decides. A `ValueError` that is none of ours, such
    as that of a failed `int(...)`, is a mistake in this package.
    """
    if isinstance(error, ExplainedError):
        return error.exit_status
    if isinstance(error, PermissionError | NotADirectoryError):
        return 2
    return None


def message_of(error):
    """Return what an error says, without what Keras writes around it."""
    message = str(error)
    if message.startswith("Exception encountered when calling"):
        # Keras prints the original message in bold.
        bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", message, re.DOTALL)
        message = bold[1] if bold else message
    return message


@contextlib.contextmanager
def starting(backend):
    """Start a backend for what is imported in this block, quietly.

    This is the one place where a command sets the process up to compute.

    Args:
        backend: str, or `None` for the one that Keras is configured for.

    Raises:
        UsageError: there is no such backend, it is not installed, or another
            one is running.
    """
    _select_backend(backend)
    with quiet():
        from kerasllm import backend as running

        running.set_up()
        yield


@contextlib.contextmanager
def quiet():
    """Show what is written to stderr in this block only if it fails.

    Libraries in C++ write to file 2 while they are loaded, past Python and
    whatever log level is set.
    """
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _select_backend(backend):
    """Set `KERAS_BACKEND` before Keras is imported."""
    name = str(backend or configured_backend())
    if name not in BACKENDS:
        raise UsageError(
            f"The backend must be one of {', '.join(BACKENDS)}. Received: "
            f"{name!r}, from KERAS_BACKEND or keras.json. Choose with "
            "--backend."
        )
    if importlib.util.find_spec(name) is None:
        package = "kerasllm[torch]" if name == "torch" else name
        raise UsageError(
            f"The backend {name} needs a package that is not installed. "
            f'Install it with `pip install "{package}"`.'
        )
    if "keras" in sys.modules and _running_backend() != name:
        raise UsageError(
            "The backend must be chosen before Keras starts. Received: "
            f"{name}, while {_running_backend()} is running. Set KERAS_BACKEND."
        )
    os.environ["KERAS_BACKEND"] = name


def configured_backend():
    """Return the name of the backend that Keras would choose by itself."""
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    try:
        config = json.loads(pathlib.Path(home, "keras.json").read_text())
    except (OSError, ValueError):
        config = {}
    return os.environ.get("KERAS_BACKEND") or config.get(
        "backend", "tensorflow"
    )


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
