"""Checkpoints: where they are written, and for whom they are."""

import json
import re

import numpy as np
import pytest

from kerasllm.checks import EnvironmentFailure, RunError
from kerasllm.lora import changing_variables, enable_lora
from kerasllm.models import mini_gpt
from kerasllm.training import (
    CHECKPOINT_FILE,
    claim,
    claim_for_model,
    describe_batch,
    read_run,
)
from kerasllm.training._checkpoint_file import write_history
from kerasllm.training._first_batch import check_same_data
from tests.training.small_runs import (
    EPOCHS,
    STEPS,
    KillAt,
    Killed,
    dataset,
    in_dtype,
    kill,
    model,
    saved_progress,
    train,
    without_speed,
)


@pytest.mark.any_backend
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, unbroken):
    resource = pytest.importorskip("resource", reason="a limit of POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():  # from now on no file may be longer than a kilobyte
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))

    try:
        with pytest.raises(
            EnvironmentFailure, match="step 4.*Make room.*can then go on"
        ):
            train(tmp_path, model(), callbacks=[KillAt(3, fill)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved_progress(tmp_path / CHECKPOINT_FILE)["step"] == 2
    history = train(tmp_path, model(seed=99))
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )


@pytest.mark.any_backend
def test_where_nothing_can_be_written_nothing_is_trained(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for place in (tmp_path / "file", "/proc/self"):
        with pytest.raises(OSError, match="folder that can be written to"):
            train(place, model(), callbacks=[KillAt(1, kill)])


@pytest.mark.any_backend
def test_a_log_that_cannot_be_written_says_what_is_saved(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EnvironmentFailure, match="checkpoint is saved. Make"):
        write_history(tmp_path / "file" / "history.csv", [{"epoch": 1}])


@pytest.mark.any_backend
@pytest.mark.parametrize("share", [0.1, 0, 0.9])
def test_a_checkpoint_cut_short_is_refused(finished, share):
    path = finished / CHECKPOINT_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RunError, match="must be whole.*delete it"):
        train(finished, model(), callbacks=[KillAt(1, kill)])
    path.write_bytes(whole)
    assert len(train(finished, model())) == EPOCHS


@pytest.mark.any_backend
def test_a_run_goes_on_with_its_own_data_only(tmp_path):
    """Otherwise it would skip as many batches of the others."""
    first = dataset()
    train(tmp_path, model(), train_dataset=first, steps_per_epoch=None)
    sequences = first.unbatch()
    others = {
        "(?s)same shape, but other tokens.*`seed`": (
            sequences.map(lambda x, y: ((x + 1) % 20, y)).batch(4)
        ),
        r"the shape \[2, 8\], not \[4, 8\]": sequences.batch(2),
    }
    for message, other in others.items():
        for steps in (STEPS, None):  # the data are the reason, not the steps
            with pytest.raises(RunError, match=message):
                train(
                    tmp_path,
                    model(),
                    train_dataset=other,
                    steps_per_epoch=steps,
                    callbacks=[KillAt(1, kill)],
                )
    history = train(
        tmp_path, model(), train_dataset=first, steps_per_epoch=None
    )
    assert len(history) == EPOCHS  # the refused calls have changed nothing
    longer = first.concatenate(dataset(2))
    with pytest.raises(RunError, match="data, which may have changed"):
        train(tmp_path, model(), train_dataset=longer, steps_per_epoch=None)


@pytest.mark.any_backend
def test_data_that_are_shuffled_must_come_in_the_same_order(tmp_path):
    def shuffled(**options):
        data = dataset().unbatch().shuffle(48, **options)
        return data.batch(4)

    steady = shuffled(seed=3, reshuffle_each_iteration=False)
    train(tmp_path, model(), train_dataset=steady, epochs=1)
    assert len(train(tmp_path, model(), train_dataset=steady)) == EPOCHS
    with pytest.raises(RunError, match="in the same order.*a `seed` and"):
        train(tmp_path, model(), train_dataset=shuffled())


@pytest.mark.any_backend
def test_a_batch_is_the_same_whoever_reads_it(tmp_path):
    """Begun by two processes, a run goes on with one, and the other way."""
    ((x, y),) = dataset(1)
    whole, half = describe_batch((x, y)), describe_batch((x[:2], y[:2]), 2)
    for begun, now in ((whole, half), (half, whole)):
        check_same_data(begun, now, tmp_path)
    with pytest.raises(RunError, match="with the data"):
        check_same_data(describe_batch((x[2:], y[2:]), 2), now, tmp_path)
    check_same_data(None, now, tmp_path)  # of a caller who is trusted


@pytest.mark.any_backend
def test_a_checkpoint_of_another_model_is_refused(finished):
    other = mini_gpt(20, 8, 32, 16, 2, num_layers=1)
    with pytest.raises(RunError, match="only the model") as caught:
        train(finished, other)
    count = len(model().variables)
    count = count + 2 * len(model().trainable_variables) + 1
    assert f"with {count} variables for {count}; " in str(caught.value)
    assert re.search(
        r"differs, of shape \(20, 16\), is for \S+/embeddings of shape "
        r"\(20, 32\)\. Its dtype is float32, the model's float32\.",
        str(caught.value),
    )
    deeper = mini_gpt(20, 8, 16, 16, 2, num_layers=2)
    with pytest.raises(RunError, match=f"with {count} variables for "):
        train(finished, deeper)
    with pytest.raises(RunError, match="is float32, .*s mixed_float16"):
        train(finished, in_dtype("mixed_float16", model))
    with pytest.raises(RunError, match="steps_per_epoch` that it began"):
        train(finished, model(), steps_per_epoch=STEPS + 1)


@pytest.mark.parametrize(
    "first_version",
    [False, pytest.param(True, marks=pytest.mark.any_backend)],
)
def test_what_adapters_leave_frozen_need_not_be_saved(tmp_path, first_version):
    """The first version left it out unasked; its files are read, too."""

    def adapted():
        net = model()
        enable_lora(net, rank=2)
        return net

    whole = adapted()
    history = train(None, whole)
    with pytest.raises(Killed):
        stop = KillAt(7, kill)
        train(
            tmp_path,
            adapted(),
            variables=changing_variables,
            callbacks=[stop],
        )
    with np.load(tmp_path / CHECKPOINT_FILE) as file:
        arrays = dict(file)
    sizes = {array.size for array in arrays.values()}
    # The embedding; a query's adapter of rank 2, for two heads.
    assert 20 * 16 not in sizes and 16 * 2 * 2 in sizes
    variables = changing_variables
    if first_version:
        progress = json.loads(str(arrays.pop("progress")))
        del progress["format"]
        np.savez(
            tmp_path / CHECKPOINT_FILE, progress=json.dumps(progress), **arrays
        )
        variables = None
    net = adapted()
    again = train(tmp_path, net, variables=variables)
    np.testing.assert_allclose(
        without_speed(again), without_speed(history), atol=1e-5
    )
    for ours, theirs in zip(
        net.get_weights(), whole.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.any_backend
def test_a_directory_holds_one_run_only(tmp_path):
    identity = {"recipe": 1, "data": ["a"], "seed": 0}
    claim(tmp_path, identity)
    # Until something is trained, the arguments may be corrected.
    assert claim(tmp_path, identity | {"data": ["b"]}) == 1
    (tmp_path / CHECKPOINT_FILE).write_text("something trained")
    assert claim(tmp_path, identity | {"data": ["b"]}) == 1
    with pytest.raises(RunError, match="one run only.*`data` and `seed`"):
        claim(tmp_path, identity | {"seed": 1})


@pytest.mark.any_backend
def test_the_first_version_finds_everything_where_it_was():
    from kerasllm import checkpoints, losses, pretraining, training

    for room, names in {
        checkpoints: "CHECKPOINT_FILE HISTORY_FILE RUN_FILE Checkpoint "
        "TrainingInterrupted describe_batch",
        losses: "NextTokenLoss training_model next_token_objective "
        "with_labels token_loss accuracy",
        pretraining: "resumable_fit claim claim_for_model MODEL_FILE "
        "CHECKPOINT_FILE RUN_FILE Checkpoint describe_batch",
    }.items():
        for name in names.split():
            assert getattr(room, name) is getattr(training, name)


@pytest.mark.any_backend
def test_a_checkpoint_of_an_unknown_run_is_not_claimed(tmp_path):
    (tmp_path / CHECKPOINT_FILE).write_text("of somebody")
    with pytest.raises(RunError, match=r"which has no run\.json"):
        claim(tmp_path, {"seed": 0})
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "record",
    [{"mine": 1}, {}, {"recipe": 1, "data": [], "seed": 0, "streams": 1}],
)
def test_a_record_of_something_else_is_kept(tmp_path, record):
    """Even where nothing is trained yet."""
    path = tmp_path / "run.json"
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match="records something else: .*another"):
        claim_for_model(tmp_path, {"seed": 0, "batch_size": 2})
    assert json.loads(path.read_text()) == record


@pytest.mark.any_backend
@pytest.mark.parametrize("content", [b"no JSON", b"", b"\xff", b"3", b"[1]"])
def test_a_record_that_cannot_be_read_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    for read in (
        lambda: claim(tmp_path, {"seed": 0}),
        lambda: claim_for_model(tmp_path, {"seed": 0}),
        lambda: read_run(tmp_path),
    ):
        with pytest.raises(RunError, match=r"JSON object.*run\.json, which"):
            read()
    assert (tmp_path / "run.json").read_bytes() == content
