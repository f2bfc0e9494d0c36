import keras
import numpy as np
import pytest

from kerasllm import plots
from kerasllm.schedules import WarmupSchedule

HISTORY = [
    {"epoch": 1, "loss": 3.0, "val_loss": 3.5, "accuracy": 0.1},
    {"epoch": 2, "loss": 2.0, "val_loss": 3.0, "accuracy": 0.2},
]


def test_schedule_is_drawn_as_it_is(ax):
    schedule = WarmupSchedule(2e-4, 100)
    assert plots.plot_schedule(schedule, 400, ax) is ax
    x, y = ax.lines[0].get_data()
    assert (x[0], x[-1]) == (0, 400)
    np.testing.assert_allclose(y, 2e-4 * np.minimum(x / 100, 1), rtol=1e-6)
    assert "step" in ax.get_xlabel()
    assert "per step" in ax.get_ylabel()


def test_schedules_that_take_one_step_at_a_time_can_be_drawn(ax):
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, 10, warmup_target=1.0, warmup_steps=10
    )
    plots.plot_schedule(schedule, 20, ax)
    x, y = ax.lines[0].get_data()
    np.testing.assert_array_equal(x, np.arange(21))
    np.testing.assert_allclose(y[[0, 5, 10, 20]], [0, 0.5, 1, 0], atol=1e-6)


@pytest.mark.any_backend
@pytest.mark.parametrize("steps", [0, True, 2.0])
def test_schedule_needs_steps(steps):
    with pytest.raises(ValueError, match="`steps` must be a positive int"):
        plots.plot_schedule(WarmupSchedule(), steps)


@pytest.mark.any_backend
def test_steps_and_measurements_may_be_of_numpy(ax):
    plots.plot_schedule(WarmupSchedule(), np.int64(4), ax)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.arange(5))
    bars = plots.plot_comparison({"a": np.float32(2)}, "time (s)", ax)
    assert bars.patches[0].get_width() == 2


@pytest.mark.any_backend
def test_history_shows_training_and_validation(ax):
    assert plots.plot_history(HISTORY, ax=ax) is ax
    training, validation = ax.lines
    np.testing.assert_array_equal(training.get_xydata(), [[1, 3], [2, 2]])
    np.testing.assert_array_equal(validation.get_xydata(), [[1, 3.5], [2, 3]])
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["training", "validation"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "epoch",
        "loss (nats per token)",
    )


@pytest.mark.any_backend
def test_history_without_validation_is_one_line(ax):
    plots.plot_history(HISTORY, "accuracy", ax)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), [0.1, 0.2])
    assert ax.get_legend() is None


@pytest.mark.any_backend
def test_history_of_one_epoch_can_be_seen(ax):
    plots.plot_history(HISTORY[:1], ax=ax)
    assert all(line.get_marker() not in ("", "None") for line in ax.lines)


@pytest.mark.any_backend
def test_empty_history_is_refused():
    with pytest.raises(ValueError, match="an entry for each epoch"):
        plots.plot_history([])


@pytest.mark.any_backend
def test_unknown_metric_is_refused_by_naming_the_known():
    with pytest.raises(ValueError, match="'bleu'.*loss, val_loss, accuracy"):
        plots.plot_history(HISTORY, "bleu")


@pytest.mark.any_backend
def test_curves_differ_in_more_than_color(ax):
    curves = {name: ([1, 2], [1, 2]) for name in "abcd"}
    plots.plot_curves(curves, "tokens", "time (s)", ax)
    styles = {(line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len(styles) == 4
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("tokens", "time (s)")


@pytest.mark.any_backend
def test_comparison_shows_mean_and_each_measurement(ax):
    measurements = {"eager": [4.0, 6.0], "compiled": 0.5}
    assert plots.plot_comparison(measurements, "time (s)", ax) is ax
    assert [bar.get_width() for bar in ax.patches] == [5.0, 0.5]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [4, 6])
    assert len(ax.lines) == 1  # one measurement needs no dot
    assert [text.get_text() for text in ax.texts] == ["5", "0.5"]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["eager", "compiled"]
    assert ax.yaxis_inverted()  # the first one on top


@pytest.mark.any_backend
@pytest.mark.parametrize("measurements", [{}, {"eager": []}])
def test_comparison_of_nothing_is_refused(measurements):
    with pytest.raises(ValueError, match="must hold something to draw"):
        plots.plot_comparison(measurements, "time (s)")


@pytest.mark.any_backend
def test_curves_of_nothing_are_refused():
    with pytest.raises(ValueError, match="`curves` must hold something"):
        plots.plot_curves({}, "x", "y")
