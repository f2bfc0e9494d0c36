"""`kerasllm compare`: a page until Ctrl-C, and two labellers."""

import json

import pytest

from kerasllm.preferences import LabellingServer, read_labels
from tests.cli.messages import one_line

pytestmark = pytest.mark.any_backend


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"{i}?", "responses": ["a", "b"]} for i in range(4)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def write_labels(path, *ranks):
    lines = [
        {"prompt": f"{i}?", "responses": ["a", "b"], "ranks": rank}
        for i, rank in enumerate(ranks)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_labels_are_kept_at_ctrl_c(run, pairs, tmp_path, monkeypatch):
    def label_two(server):
        done, _ = server.progress()
        for number in range(done, done + 2):
            server.choose(number, server.left(number))  # the first one
        raise KeyboardInterrupt

    monkeypatch.setattr(LabellingServer, "serve_forever", label_two)
    out = tmp_path / "labels.jsonl"
    for done in (2, 4):
        status, said, err = run("compare", pairs, "--out", out)
        assert status == 0, err
        assert "Open http://127.0.0.1:" in said
        assert f"{done} of 4 pairs are labelled, in {out}." in said
        assert f"kerasllm dpo --data {out}" in said
        assert list(read_labels(out).values()) == [1] * done


def test_two_labellers_are_compared(run, tmp_path):
    """The first says a, a, b, tie, and the second a, b, b, b.

    They agree on 2 of 4 pairs, and chance explains (2 * 1 + 1 * 3) / 16. So
    kappa is (1/2 - 5/16) / (1 - 5/16) = 3/11.
    """
    first = write_labels(
        tmp_path / "a.jsonl", [1, 2], [1, 2], [2, 1], [1, 1], [1, 1]
    )
    second = write_labels(
        tmp_path / "b.jsonl", [1, 2], [2, 1], [2, 1], [2, 1]
    )  # the fifth pair is missing
    status, said, err = run("compare", "--agreement", first, second)
    assert status == 0, err
    assert "agree on 2 of 4 pairs: 50.0% (95% interval 15.0% to 85.0%)" in said
    assert "kappa is 0.27" in said


def test_mistakes_are_told(run, pairs, tmp_path):
    labels = write_labels(tmp_path / "a.jsonl", [1, 2])
    other = tmp_path / "b.jsonl"
    other.write_text(labels.read_text().replace("0?", "9?"))
    for options, message in (
        ((), "a file of pairs and --out"),
        ((pairs,), "a file of pairs and --out"),
        ((pairs, "--agreement", labels, labels), "--agreement must stand"),
        ((tmp_path / "gone", "--out", labels), "gone"),
        (("--agreement", labels, other), "no pair in common"),
        (("--agreement", labels, pairs), "A label must have.*pairs.jsonl, "),
        ((pairs, "--out", pairs), "--out must be a new file, or one with"),
        ((pairs, "--out", labels / "x"), "must be a folder"),
    ):
        before = pairs.read_text()
        status, _, err = run("compare", *options)
        assert status == 2
        assert all(part in one_line(err) for part in message.split(".*")), err
        assert pairs.read_text() == before
