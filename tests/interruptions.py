"""Kill a run of two processes again and again; it must end as if unbroken.

    python -m tests.interruptions KILLS SEED STEPS

A restart that read a batch twice, or lost one, would end with other weights:
all batches differ, and so does what each of them does to Adam's averages.
"""

import json
import pathlib
import random
import sys
import tempfile

import numpy as np

from kerasllm.training import CHECKPOINT_FILE
from tests.forked import start_two


def check(directory, kills, seed, steps):
    """Compare a run that is killed with one that is not.

    Args:
        directory: path of an empty folder.
        kills: int.
        seed: int or str. Decides the moments.
        steps: int. In each of two epochs; every other one is saved. A kill
            comes within two seconds of a first batch, as a rule.

    Returns:
        The last step that was saved at each kill, a list of ints.
    """
    directory = pathlib.Path(directory)
    draw = random.Random(seed)
    broken, unbroken = directory / "broken", directory / "unbroken"
    for out in (broken, unbroken):
        out.mkdir()
    _run_to_the_end(unbroken, steps)
    moments = []
    while len(moments) < kills:
        _run_and_kill(broken, steps, draw)
        moments.append(_last_step(broken))
    _run_to_the_end(broken, steps)
    hidden = [path.name for path in (broken / "run").glob(".*")]
    assert not hidden, f"kills have left {hidden}"
    expected, found = (
        json.loads((out / "history0.json").read_text())
        for out in (unbroken, broken)
    )
    for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(
            [epoch[key] for epoch in found],
            [epoch[key] for epoch in expected],
            atol=1e-5,
        )
    for index in (0, 1):
        with (
            np.load(unbroken / f"weights{index}.npz") as expected,
            np.load(broken / f"weights{index}.npz") as found,
        ):
            for name in expected:
                np.testing.assert_allclose(
                    found[name], expected[name], atol=1e-5
                )
    return moments


def _run_to_the_end(out, steps):
    for process in start_two("one_of_several", [out, "data", steps]):
        status, _, err = process.finish()
        assert status == 0, err


def _run_and_kill(out, steps, draw):
    """Start two processes that are killed, one a little after the other.

    One time in five that is while they start, else after the first batch.
    """
    batches = int(draw.random() < 0.8)
    seconds = draw.uniform(0, 2 if batches else 5)
    kills = [(batches, seconds), (batches, seconds + draw.uniform(0, 0.2))]
    draw.shuffle(kills)
    arguments = [[out, "data", steps, kill] for kill in kills]
    for process in start_two("one_of_several", *arguments):
        process.finish()


def _last_step(out):
    path = out / "run" / CHECKPOINT_FILE
    if not path.exists():
        return 0
    with np.load(path) as file:
        return json.loads(str(file["progress"]))["step"]


if __name__ == "__main__":
    number, seed, steps = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        found = check(folder, int(number), seed, int(steps))
    print(f"killed {len(found)} times, with step {found} as the last one saved")
    print(f"of {2 * int(steps)}; the end is that of a run that nobody killed")
