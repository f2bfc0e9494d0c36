"""No command replaces what it has not written itself, unless it is told to."""

import importlib

import pytest

from kerasllm import files, tour
from tests.cli.messages import one_line

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "command, name",
    [
        ("tour", "report.html"),
        ("finetune", "adapters.lora.h5"),
        ("dpo", "adapters.lora.h5"),
        ("grpo", "adapters.lora.h5"),
        ("pretrain", "model.keras"),
        ("pretrain", "history.csv"),
        ("tour", "model/model.keras"),
    ],
)
def test_a_file_of_somebody_else_is_kept(
    run, text, instructions_file, preferences_file, tmp_path, monkeypatch,
    command, name,
):  # fmt: skip
    """And this is told before a backend starts."""
    room = "tuning." if command in ("finetune", "dpo", "grpo") else ""
    module = importlib.import_module(f"kerasllm.cli.{room}{command}")
    monkeypatch.delattr(module, "starting")
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    options = {
        "tour": (),
        "finetune": ("--data", instructions_file),
        "dpo": ("--data", preferences_file),
        "grpo": ("--data", instructions_file, "--reward", "exact"),
        "pretrain": ("--data", text),
    }
    status, _, err = run(command, "--out", out, *options[command])
    assert status == 2
    said = one_line(err)
    assert str((out / name).parent) in said and (out / name).name in said
    assert "--force" in said or "another --out" in said
    assert (out / name).read_text() == "mine"
    assert [path.name for path in (out / name).parent.iterdir()] == [
        (out / name).name
    ]


def test_a_tour_replaces_its_own_report_and_what_it_is_told_to(
    run, tmp_path, monkeypatch
):
    def write(directory, recipe):
        with files.whole_file(directory / "report.html") as file:
            file.write("a report")
        files.remember(directory / "report.html")

    monkeypatch.setattr(tour, "run", write)
    command = ("tour", "--out", tmp_path)
    assert run(*command)[0] == 0
    assert run(*command)[0] == 0
    (tmp_path / "report.html").write_text("a report, with my notes")
    assert run(*command)[0] == 2
    assert run(*command, "--force")[0] == 0
    assert (tmp_path / "report.html").read_text() == "a report"
