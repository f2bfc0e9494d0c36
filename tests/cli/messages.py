"""What the tests of the command line share."""


def one_line(stderr):
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("kerasllm: ")
    return lines[0]
