"""What a command says when something goes wrong, its streams and folders."""

import errno
import os
import re
import sys

import kerasllm
from kerasllm.checks import ExplainedError, UserError
from kerasllm.progress import discard, say

_ERRORS_OF_STREAMS = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG)
_FEW_COLUMNS = 20  # some terminals say that they have none
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
# What the user's paths and limits lead to, wherever it is found.
_STATUS_OF_ERRNO = {
    errno.ENAMETOOLONG: 2,
    errno.ELOOP: 2,
    errno.EISDIR: 2,
    errno.ENXIO: 2,  # a socket
    errno.EMFILE: 1,
    errno.ENFILE: 1,
}
_PACKAGE = os.path.dirname(kerasllm.__file__)
# What the library calls the values of these options. An option that has the
# same name in the library need not be listed.
_SAMPLERS = {
    "k": "--top-k",
    "p": "--top-p",
    "greedy_search": "--temperature 0",
    "random_sample": "--temperature 1",
}
_OTHER_NAMES = {
    "pretrain": {
        "directory": "--out",
        "data": "--data or --documents",
        "paths": "--data",
        "pattern": "--data",
        "files": "--data",
        "prompt": "--sample",
        "sample_prompt": "--sample",
    },
    "generate": {"name": "--preset", "directory": "--model", **_SAMPLERS},
    "finetune": {
        "name": "--preset",
        "directory": "--out",
        "examples": "--data",
        "model": "--preset",
        "adapters": "--rank or --targets",
        "validation_fraction": "--validation",
        "validation_examples": "--validation",
    },
    "dpo": {
        "name": "--preset",
        "directory": "--out",
        "preferences": "--data",
        "model": "--preset",
        "path": "--lora",
        "loaded_adapters": "--lora",
        "adapters": "--lora, --rank or --targets",
        "validation_fraction": "--validation",
        "validation_preferences": "--validation",
    },
    "grpo": {
        "name": "--preset",
        "directory": "--out",
        "prompts": "--data",
        "examples": "--data",
        "reward_fn": "--reward",
        "model": "--preset",
        "path": "--lora",
        "loaded_adapters": "--lora",
        "adapters": "--lora, --rank or --targets",
        "validation_fraction": "--validation",
        "validation_prompts": "--validation",
    },
    "chat": {
        "name": "--preset",
        "directory": "--model",
        "path": "--lora",
        "images": "--image",
        "prompt": "A line",
        **_SAMPLERS,
    },
    "index": {"path": "--store"},
    "export": {"name": "--model", "causal_lm": "--model", "path": "--lora"},
    "tour": {"directory": "--out"},
    "compare": {"path": "DATA"},
}


def exit_status(error):
    """Return the exit status for an error that the user can fix, or `None`.

    The class of the error decides. A plain `ValueError`, such as that of a
    failed `int(...)`, is a bug in this package.
    """
    if isinstance(error, ExplainedError):
        return error.exit_status
    if isinstance(error, PermissionError | NotADirectoryError):
        return 2
    if isinstance(error, MemoryError):
        return 1
    if isinstance(error, OSError):
        return _STATUS_OF_ERRNO.get(error.errno)
    return None


def message_of(error):
    """Return the message of an error without the text that Keras adds."""
    message = str(error)
    if isinstance(error, MemoryError):
        message = (
            "The process must get the memory that it needs. Received: too "
            "little. Take a smaller model, batch or text, or a larger machine."
        )
    elif isinstance(error, OSError) and error.filename is not None:
        name = str(error.filename)[:200]
        # Without the number, which tells a user nothing.
        message = f"{error.strerror}: {name}"
        if not isinstance(error, ExplainedError):
            message = (
                "A path must be one that can be opened. Received: "
                f"{name} ({error.strerror}). Look at the path."
            )
    elif isinstance(error, OSError) and error.errno in _TOO_MANY_FILES:
        message = f"{error.strerror}."
    if isinstance(error, OSError) and error.errno in _TOO_MANY_FILES:
        message += " Raise the limit, with `ulimit -n 1024`."
    if message.startswith("Exception encountered when calling"):
        # Keras prints the original message in bold.
        bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", message, re.DOTALL)
        message = bold[1] if bold else message
    return message


def options_of(command):
    """Return what a command calls the library's arguments.

    Args:
        command: a command of typer.

    Returns:
        dict from the name of an argument, such as `"top_k"`, to what the user
        types, such as `"--top-k"`.
    """
    options = {
        option.name: option.opts[-1]
        if option.opts[-1].startswith("--")
        else option.name.upper()  # as help shows an argument
        for option in command.params
    }
    return options | _OTHER_NAMES.get(command.name, {})


def in_words_of(options, message):
    """Return a message of the library in the words of the command line.

    Args:
        options: dict, see `options_of`.
        message: str. In it, "`top_k`" becomes "--top-k", and both
            "`top_k=5`" and "top_k=5" become "--top-k 5".
    """
    if not options:
        return message
    # The longest names come first, so that no name hides a longer one.
    names = "|".join(sorted(map(re.escape, options), key=len, reverse=True))

    def option(match):
        value = (match["value"] or "").strip("'\"")
        return f"{options[match['name']]} {value}".rstrip()

    message = re.sub(
        rf"`(?P<name>{names})(=(?P<value>[^`]*))?`", option, message
    )
    return re.sub(
        rf"(?<![\w.`&?-])(?P<name>{names})="
        r"(?P<value>'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\S+?)(?=[.,;:)]*(\s|$))",
        option,
        message,
    )


def open_streams():
    """Make the three streams of the process safe to use.

    A character that the terminal cannot show is written as an escape. A
    stream that the caller closed is opened on the null device. Otherwise the
    next file to be opened would take its place.

    Returns:
        bool. Whether the output of a command has a place to go.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    return sys.stdout is not None


def settle_surroundings():
    """Settle where the process is, and where its home and that of Keras are.

    Keras and other packages create a folder named "~" where they cannot find
    the home, and Keras writes into the current folder if `KERAS_HOME` is empty.

    Raises:
        UserError: the current folder was removed.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            "The current folder must be there. Received: one that was removed. "
            "Go to another with cd."
        ) from error
    if os.path.expanduser("~") == "~":  # the user has none
        os.environ["HOME"] = "/tmp"  # as Keras does
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) < _FEW_COLUMNS:
        del os.environ["COLUMNS"]  # help would be empty
    keras_home = os.environ.pop("KERAS_HOME", "")
    if keras_home:
        os.environ["KERAS_HOME"] = os.path.expanduser(keras_home)


def output_error(error=None):
    """Return the `OSError` from writing what was printed, or `None`.

    Args:
        error: the exception that ended the command, or `None`. An `OSError`
            about a file has the name of the file; one about a stream has none.
    """
    is_of_stream = isinstance(error, OSError) and error.filename is None
    if is_of_stream and error.errno in _ERRORS_OF_STREAMS:
        discard(sys.stdout)
        return error
    try:
        sys.stdout.flush()
    except OSError as error:
        discard(sys.stdout)
        return error
    return None


def warning_printer(options):
    """Return a function that prints a warning as one line, if it is for users.

    Only warnings of this package are for users; those of others are for
    programmers. The function replaces `warnings.showwarning`, which would also
    print a line of source code.

    Args:
        options: dict, see `options_of`.
    """

    def show(message, category, filename, lineno, file=None, line=None):
        if filename.startswith(os.path.join(_PACKAGE, "")):
            words = " ".join(in_words_of(options, str(message)).split())
            say(f"kerasllm: {words}")

    return show
