import pathlib

import pytest

from kerasllm import tour

pytestmark = pytest.mark.any_backend


def test_tour_gets_folder_and_recipe(run, monkeypatch):
    calls = []
    monkeypatch.setattr(
        tour, "run", lambda *args, **kw: calls.append((args, kw))
    )
    assert run("tour", "--out", "here", "--recipe", "book")[0] == 0
    assert run("tour")[0] == 0
    assert calls == [
        ((pathlib.Path("here"),), {"recipe": "book"}),
        ((pathlib.Path("kerasllm-tour"),), {"recipe": "short"}),
    ]
