"""Streams that are closed, full or of few characters, and a user at no home."""

import os
import pathlib
import subprocess
import sys

import pytest

from kerasllm import files
from tests.cli.messages import one_line

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.skipif(os.name != "posix", reason="redirections of a shell"),
]


def in_a_shell(command, **environment):
    python = f'"{sys.executable}" -m kerasllm'
    return subprocess.run(
        command.replace("kerasllm", python, 1),
        shell=True,
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        (
            "kerasllm chat --preset tiny <&-",
            2,
            "a standard input that is closed",
        ),
        ("kerasllm --version >&-", 1, "a place for what is printed"),
        ("kerasllm --version > /dev/full", 1, "No space left on device"),
        ("kerasllm --help > /dev/full", 1, "No space left on device"),
        ("kerasllm --nonsense >&-", 1, "a place for what is printed"),
    ],
)
def test_a_stream_that_is_closed_or_full_is_told(command, status, message):
    if "/dev/full" in command and not pathlib.Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    for buffering in ("", "1"):  # the error comes early or late
        done = in_a_shell(command, PYTHONUNBUFFERED=buffering)
        assert done.returncode == status
        assert message in one_line(done.stderr)


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_without_stderr_there_is_still_a_result(stderr):
    if "/dev/full" in stderr and not pathlib.Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = in_a_shell(f"kerasllm --version {stderr}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("kerasllm")
    # Nor does what cannot be said change how a command ends.
    done = in_a_shell(f"kerasllm --nonsense {stderr}")
    assert (done.returncode, done.stderr) == (2, "")


def test_a_reader_that_has_enough_is_no_error():
    done = in_a_shell("kerasllm --help | true", PYTHONUNBUFFERED="1")
    assert done.stderr == ""


def test_characters_that_a_terminal_lacks_are_written_as_codes():
    code = (
        "from kerasllm.cli import _messages; "
        "_messages.open_streams(); print('é 日本')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        capture_output=True,
    )
    assert done.stdout.decode("cp1252").strip() == r"é \u65e5\u672c"
    assert done.stderr == b""


def test_a_user_without_a_home_gets_no_folder_of_that_name(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert files.keras_home() == pathlib.Path("/tmp/.keras")
    monkeypatch.setenv("KERAS_HOME", "here")
    assert files.keras_home() == pathlib.Path("here")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given, expected", [("~/a", "HOME/a"), ("", None)])
def test_the_home_of_keras_is_no_folder_here(run, monkeypatch, given, expected):
    """Keras would make one named "~", or write keras.json here."""
    monkeypatch.setenv("HOME", "HOME")
    monkeypatch.setenv("KERAS_HOME", given)
    assert run("--version")[0] == 0
    assert os.environ.get("KERAS_HOME") == expected


def test_a_terminal_without_columns_gets_help():
    done = in_a_shell("kerasllm --help", COLUMNS="0")
    assert "pretrain" in done.stdout


def test_a_current_folder_that_was_removed_is_told(tmp_path):
    here = tmp_path / "gone"
    here.mkdir()
    command = f'cd "{here}"; rmdir "{here}"; kerasllm pretrain --data a.txt'
    done = in_a_shell(command)
    assert done.returncode == 2
    assert "The current folder must be there" in one_line(done.stderr)


def test_ctrl_c_has_no_traceback_while_modules_are_imported():
    code = """if True:
        import signal, sys
        class Interrupting:
            def find_spec(self, name, *others):
                if name == "kerasllm.cli":
                    signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.meta_path.insert(0, Interrupting())
        from kerasllm.__main__ import main
        try:
            main()
        finally:
            print(signal.getsignal(signal.SIGINT) is signal.SIG_DFL)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "")
    assert done.stdout == "True\n"  # another one ends it without a word


def test_a_tilde_after_an_equals_sign_is_the_home(tmp_path):
    """Shells expand `--model ~/x` only."""
    result = in_a_shell(
        "kerasllm generate --model=~/nothing x", HOME=str(tmp_path)
    )
    assert result.returncode == 2
    assert f"{tmp_path}/nothing" in result.stderr
