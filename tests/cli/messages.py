"""What the tests of the command line share."""

import re


def one_line(stderr):
    """Return the one line of an error, after those that show progress."""
    lines = [
        line
        for line in stderr.splitlines()
        if not re.fullmatch(r"(Starting|Loading .+) \.\.\.( \d+ s)?", line)
    ]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("kerasllm: ")
    return lines[0]
