"""Stages that train and write, with the smallest models there are."""

import dataclasses
import html
import io
import random
import re
import shlex
import signal
import sys

import numpy as np
import pytest

from kerasllm import cli, corpora, recipes, tiny_gemma, tour, toyworld
from kerasllm.checks import UserError
from kerasllm.evaluation import ask_all
from kerasllm.gemma import Gemma
from kerasllm.tour import _pictures, _pretraining, _tuning, _writing
from kerasllm.training import TrainingInterrupted
from tests.recipes import TINY
from tests.tour import numbers


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


@pytest.fixture
def stdout_of(capsys, monkeypatch):
    """Run a command of the page here, and return what it prints."""

    def run(command):
        words = shlex.split(command)
        if "|" in words:
            monkeypatch.setattr(sys, "stdin", io.StringIO(f"{words[1]}\n"))
            words = words[words.index("|") + 1 :]
        assert words[0] == "kerasllm"
        capsys.readouterr()
        cli.main(words[1:])
        return capsys.readouterr().out

    return run


@pytest.mark.any_backend
def test_the_mini_gpt_writes_again_what_the_page_shows(
    shard, tmp_path, monkeypatch, capsys, stdout_of
):
    """The first four stages in full; the two about Gemma take minutes."""
    monkeypatch.setattr(corpora, "local_docs", lambda: [shard])
    tiny = dataclasses.replace(TINY, vocabulary_size=280)
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)
    names = ("greedy", "top-k 20 with penalties")
    strategies = {name: _writing.STRATEGIES[name] for name in names}
    monkeypatch.setattr(_writing, "STRATEGIES", strategies)
    directory = tmp_path / "the tour"
    for stage in ("measure_tuning", "measure_pictures"):
        monkeypatch.setattr(tour, stage, numbers.stages(directory)[stage])
    page = tour.run(directory, recipe="tiny").read_text("utf-8")
    out = capsys.readouterr().out
    assert "100 documents" in page and "100 documents" in out
    assert "epoch 2: the next token is right" in out and "Done" in out
    texts = re.findall("<blockquote.*?>(.*?)</blockquote>", page, re.DOTALL)
    commands = numbers.commands_of(page)
    assert any(c.startswith("kerasllm tour --recipe tiny") for c in commands)
    commands = [c for c in commands if " generate " in c]
    for name, text, command in zip(names, texts, commands, strict=False):
        assert f"<h3>{name}</h3>" in page and name in out
        assert stdout_of(command) == f"{html.unescape(text)}\n"


@pytest.mark.any_backend
def test_ctrl_c_prints_no_epoch_that_looks_finished(
    shard, tmp_path, monkeypatch, capsys
):
    def interrupt(callback, batch, logs=None):
        steps.append(batch)
        if len(steps) == TINY.steps_per_epoch + 1:
            signal.raise_signal(signal.SIGINT)

    steps = []

    monkeypatch.setattr(corpora, "local_docs", lambda: [shard])
    tiny = dataclasses.replace(TINY, vocabulary_size=280)
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)
    monkeypatch.setattr(_pretraining.StepsDone, "on_train_batch_end", interrupt)
    with pytest.raises(TrainingInterrupted):
        tour.run(tmp_path / "out", recipe="tiny")
    out = capsys.readouterr().out
    assert "epoch 1: the next token" in out and "epoch 2" not in out


@pytest.mark.any_backend
def test_a_tuned_model_answers_again_what_the_page_shows(tmp_path, stdout_of):
    """Its adapters are random: what they make it say, no other model says."""
    gemma = Gemma.from_preset("tiny")
    gemma.enable_lora(rank=_tuning.RANK, targets="attention")
    draw = np.random.default_rng(0)
    for weight in gemma.causal_lm.trainable_variables:
        weight.assign(draw.normal(0, 0.3, weight.shape))
    path = _tuning._save(gemma, tmp_path, "refusals")
    (question,) = toyworld.World().questions("unknown")[:1]
    answers = ask_all(gemma, [question], max_length=_tuning.MAX_LENGTH)
    *_, sample = _tuning._samples(
        question, question, 4 * answers, {"lora": path, "refusals": path}
    )
    assert sample.answer == answers[0]
    assert stdout_of(sample.command).strip() == sample.answer


@pytest.mark.any_backend
def test_the_tour_seeds_its_adapters(tmp_path, monkeypatch):
    """Each tour draws from the same state, from before its first tokenizer."""
    drawn = []

    def from_preset(name):
        drawn.append(random.random())  # whence Keras's initializers take seeds
        raise InterruptedError

    monkeypatch.setattr(Gemma, "from_preset", from_preset)
    for _ in range(2):
        with pytest.raises(InterruptedError):
            _tuning.measure_tuning(None, tmp_path)
    assert drawn[0] == drawn[1]


@pytest.mark.slow
@pytest.mark.any_backend
def test_the_pictures_of_the_tour_are_none_of_training():
    seen = tiny_gemma._data._seen_pictures(tiny_gemma.TinyRecipe())
    asked = {picture.digest() for picture in _pictures.unseen_pictures()}
    assert len(asked) == _pictures.NUM_PICTURES and asked.isdisjoint(seen)


@pytest.mark.any_backend
def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="can be written to"):
        tour.run(tmp_path / "file" / "out")
