"""The stage with SmolLM2, where it is installed and where it is not."""

import dataclasses
import html
import re

import pytest

from kerasllm import gguf, presets
from kerasllm.chat import ChatModel
from kerasllm.checks import EnvironmentFailure
from kerasllm.gguf import _names
from kerasllm.tour import _real_model
from kerasllm.tour._live_report import LiveReport
from tests.tour import numbers

pytestmark = pytest.mark.any_backend


@pytest.fixture
def report():
    report = LiveReport("A tour", shows_work=False)
    report.stage("A real model")
    return report


def text_of(report):
    words = html.unescape(re.sub("<.*?>", " ", report.page())).split()
    return " ".join(words)


def test_without_the_package_its_command_is_shown(report, monkeypatch, capsys):
    monkeypatch.setattr(_names, "_PACKAGE", "no_such_package")
    real = _real_model.ask_real_model(report)
    _real_model.write_real_model(report, real)
    assert real is None
    assert _real_model.INSTALL in text_of(report)
    assert _real_model.INSTALL in " ".join(capsys.readouterr().out.split())
    assert numbers.commands_of(report.page()) == []


def test_a_cache_without_room_ends_no_tour(report, monkeypatch, capsys):
    """The stages before it took minutes."""

    def from_preset(name):
        raise EnvironmentFailure("The cache must have room.")

    monkeypatch.setattr(gguf, "find_smollm2", lambda: None)
    monkeypatch.setattr(ChatModel, "from_preset", from_preset)
    assert _real_model.ask_real_model(report) is None
    assert "The cache must have room." in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, is_right",
    [
        ('{"name": "Ann", "age": 31}', True),
        ('{"age": 31, "name": "Ann"}\n', True),
        ('{"name": "Ann", "age": 32}', False),
        ("Ann is 31.", False),
        ("[]", False),
    ],
)
def test_json_is_called_right_if_it_is(report, text, is_right):
    real = dataclasses.replace(numbers.REAL, json=text)
    _real_model.write_real_model(report, real)
    assert ("valid JSON with the right values" in text_of(report)) == is_right
    assert ("not the JSON that was" in text_of(report)) != is_right


@pytest.mark.once
def test_smollm2_answers_as_the_page_says(report, tmp_path, monkeypatch):
    try:
        presets.check_name(_real_model.PRESET)
    except EnvironmentFailure as error:
        pytest.skip(str(error))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    real = _real_model.ask_real_model(report)
    assert "Paris" in real.answer
    assert real.is_right
    assert real.parameters == numbers.REAL.parameters
