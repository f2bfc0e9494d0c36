"""The parts of chapter 7's long experiment that need no model."""

import argparse
import importlib
import pathlib

import numpy as np
import pytest

EXPERIMENTS = pathlib.Path(__file__).parents[1] / "chapters" / "experiments"
pytestmark = pytest.mark.any_backend


@pytest.fixture
def lab(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("preferences_lab")


def test_a_stage_that_is_in_the_file_is_not_done_again(lab, tmp_path):
    args = argparse.Namespace(
        seed=3, part="final", verbose=0, out=tmp_path, csv=tmp_path / "r.csv"
    )
    done = []

    def stage(run):
        done.append(run.seed)
        return [lab.of_number("all", 4, "true", 0.5)]

    for name in ("first", "second", "first"):
        lab.Run(args).learn(name, stage)
    rows = lab.read_rows(args.csv)
    assert done == [3, 3]
    assert [row["stage"] for row in rows] == ["first", "second"]
    assert rows[0]["value"] == "0.5"
    assert rows[0]["low"] == ""


def test_intervals_of_means_and_shares(lab):
    # The standard error of 1, 2, 3, 4 is sqrt(5 / 3) / 2.
    row = lab.of_mean("all", 1, "true", [1, 2, 3, 4])
    half = 1.96 * np.sqrt(5 / 3) / 2
    found = [float(row[name]) for name in ("value", "low", "high")]
    np.testing.assert_allclose(found, [2.5, 2.5 - half, 2.5 + half], rtol=1e-4)
    # Wilson's interval of 3 of 4: the centre is (3 + z^2 / 2) / (4 + z^2).
    row = lab.of_share("all", 1, "right", [True, True, True, False])
    z = 1.959964
    centre = (3 + z**2 / 2) / (4 + z**2)
    assert float(row["value"]) == 0.75
    np.testing.assert_allclose(
        (float(row["low"]) + float(row["high"])) / 2, centre, rtol=1e-3
    )
