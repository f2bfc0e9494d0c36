"""How long a new process takes to the first word of an answer.

    python -m tests.benchmarks.start [--before FOLDER] [--turns 3]

Each turn starts `kerasllm chat --preset tiny_instruct` on each backend and asks
one question. With `--before`, the folder of another version of this package,
the two versions take turns, and the ratio within a turn is printed, too. Each
version has an empty folder for compiled functions at the start of a turn:
its first process is the first run on a machine, and its second a later one.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent.parent.parent
QUESTION = b"What is the river of Marnerburg called?\n"


def first_byte(folder, backend, home):
    """Return the seconds until a process prints the first byte of an answer."""
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "KERAS_HOME": home,
        "PYTHONPATH": str(folder),
    }
    command = [sys.executable, "-m", "kerasllm", "chat"]
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, "--preset", "tiny_instruct"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=folder,
    ) as process:
        process.stdin.write(QUESTION)
        process.stdin.close()
        begin = process.stdout.read(1)
        seconds = time.perf_counter() - start
        answer = begin + process.stdout.read()
    assert b"Wiva" in answer, answer
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--before", type=pathlib.Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--backends", nargs="*", default=["jax", "tensorflow",
                                                          "torch"])  # fmt: skip
    options = parser.parse_args()
    folders = {"now": HERE}
    if options.before:
        folders = {"before": options.before.absolute()} | folders
    for backend in options.backends:
        seconds = {}
        for _ in range(options.turns):
            for version, folder in folders.items():
                with tempfile.TemporaryDirectory() as home:
                    for run in ("first run", "later run"):
                        seconds.setdefault((version, run), []).append(
                            first_byte(folder, backend, home)
                        )
        for (version, run), values in seconds.items():
            line = f"{backend:10} {version:6} {run}: "
            line += " ".join(f"{value:5.1f}" for value in values)
            if options.before and version == "now":
                ratios = [
                    value / before
                    for value, before in zip(
                        values, seconds["before", run], strict=True
                    )
                ]
                line += f"  of before: {statistics.median(ratios):.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
