import dataclasses
import random
import re

import pytest

from kerasllm import corpora, recipes, tour
from kerasllm.checks import UserError
from kerasllm.gemma import Gemma
from kerasllm.tour import _tuning, _writing
from tests.recipes import TINY


@pytest.fixture
def shard(tmp_path):
    words = "the cat dog sat on a mat and saw red green house tree".split()
    draw = random.Random(0)
    documents = [
        "Return a new " + " ".join(draw.choices(words, k=30))
        for _ in range(100)
    ]
    path = tmp_path / "shard0.txt"
    path.write_text("\n".join(documents) + "\n")
    return str(path)


@pytest.mark.any_backend
def test_the_report_tells_the_stages_in_order(
    shard, tmp_path, monkeypatch, capsys
):
    """The first four stages in full; the two about Gemma take minutes."""
    monkeypatch.setattr(corpora, "local_docs", lambda: [shard])
    tiny = dataclasses.replace(TINY, vocabulary_size=280)
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)
    names = ("greedy", "top-k 20 with penalties")
    strategies = {name: _writing.STRATEGIES[name] for name in names}
    monkeypatch.setattr(_writing, "STRATEGIES", strategies)
    for stage in ("report_tuning", "report_pictures"):
        monkeypatch.setattr(
            tour, stage, lambda report, stage=stage: report.text(stage)
        )
    path = tour.run(tmp_path / "out", recipe="tiny", verbose=0)
    page = path.read_text()
    parts = re.findall("<h2>(.*?)</h2>", page)
    assert [part.partition(".")[0] for part in parts] == [
        *("The machine", "1", "2", "3", "4", "5", "6"),
    ]
    assert page.count("data:image/png") == 2
    out = capsys.readouterr().out
    assert "100 documents" in page and "100 documents" in out
    assert "perplexity" in out and "Done" in out
    for name in names:
        assert f"<h3>{name}</h3>" in page and name in out
    assert "Return a new" in page
    assert "--frequency-penalty 0.3 --presence-penalty 0.3" in page
    assert "kerasllm tour --recipe tiny --out again" in page
    assert page.index("report_tuning") < page.index("report_pictures")


def test_the_tour_seeds_its_adapters(monkeypatch):
    """Each tour draws from the same state, from before its first tokenizer."""
    drawn = []

    def from_preset(name):
        drawn.append(random.random())  # whence Keras's initializers take seeds
        raise InterruptedError

    monkeypatch.setattr(Gemma, "from_preset", from_preset)
    for _ in range(2):
        with pytest.raises(InterruptedError):
            _tuning.report_tuning(None)
    assert drawn[0] == drawn[1]


@pytest.mark.any_backend
def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="can be written to"):
        tour.run(tmp_path / "file" / "out")
