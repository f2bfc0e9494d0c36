import keras
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from kerasllm import plots
from kerasllm.schedules import WarmupSchedule

# Probabilities 0.5, 0.25, 0.125, 0.125 of tokens in no order.
LOGITS = np.log([0.125, 0.5, 0.125, 0.25])
TOKENS = ["dog", "a", "$cat$", "\n"]
HISTORY = [
    {"epoch": 1, "loss": 3.0, "val_loss": 3.5, "accuracy": 0.1},
    {"epoch": 2, "loss": 2.0, "val_loss": 3.0, "accuracy": 0.2},
]


@pytest.fixture(autouse=True)
def agg():
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


@pytest.fixture
def ax():
    return Figure().subplots()


def panel(axes, name):
    """Return the one panel whose title begins with `name`."""
    (found,) = [a for a in axes.flat if a.get_title().startswith(name)]
    return found


def filled(ax):
    """Return the widths of the bars that show a strategy."""
    return [bar.get_width() for bar in ax.patches if bar.get_fill()]


def outlines(ax):
    return [bar.get_width() for bar in ax.patches if not bar.get_fill()]


def draw_strategies(**arguments):
    # p=0.7 rather than 0.75: sums of float32 must not decide.
    arguments = {"k": 2, "p": 0.7, "min_p": 0.4, "figure": Figure()} | arguments
    return plots.plot_sampling_strategies(LOGITS, **arguments)


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


def test_schedule_needs_steps():
    with pytest.raises(ValueError, match="`steps` must be a positive int"):
        plots.plot_schedule(WarmupSchedule(), 0)


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


def test_history_without_validation_is_one_line(ax):
    plots.plot_history(HISTORY, "accuracy", ax)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), [0.1, 0.2])
    assert ax.get_legend() is None


def test_history_of_one_epoch_can_be_seen(ax):
    plots.plot_history(HISTORY[:1], ax=ax)
    assert all(line.get_marker() not in ("", "None") for line in ax.lines)


def test_empty_history_is_refused():
    with pytest.raises(ValueError, match="a row for each epoch"):
        plots.plot_history([])


def test_unknown_metric_is_refused_by_naming_the_known():
    with pytest.raises(ValueError, match="'bleu'.*loss, val_loss, accuracy"):
        plots.plot_history(HISTORY, "bleu")


def test_curves_differ_in_more_than_colour(ax):
    curves = {name: ([1, 2], [1, 2]) for name in "abcd"}
    plots.plot_curves(curves, "tokens", "time (s)", ax)
    styles = {(line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len(styles) == 4
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("tokens", "time (s)")


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


@pytest.mark.parametrize("measurements", [{}, {"eager": []}])
def test_comparison_of_nothing_is_refused(measurements):
    with pytest.raises(ValueError, match="must hold something to draw"):
        plots.plot_comparison(measurements, "time (s)")


def test_curves_of_nothing_are_refused():
    with pytest.raises(ValueError, match="`curves` must hold something"):
        plots.plot_curves({}, "x", "y")


@pytest.mark.parametrize(
    "name, probabilities",
    [
        ("greedy", [1, 0, 0, 0]),
        ("top-k, k = 2", [2 / 3, 1 / 3, 0, 0]),
        ("random", [1 / 2, 1 / 4, 1 / 8, 1 / 8]),
        # Squares of 4, 2, 1, 1 eighths, which sum to 22.
        ("temperature 0.5", [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
        ("top-p, p = 0.7", [2 / 3, 1 / 3, 0, 0]),
        ("min-p, p = 0.4", [2 / 3, 1 / 3, 0, 0]),
    ],
)
def test_strategies_by_hand(name, probabilities):
    ax = panel(draw_strategies(), name)
    np.testing.assert_allclose(filled(ax), probabilities, rtol=1e-5)
    np.testing.assert_allclose(outlines(ax), [1 / 2, 1 / 4, 1 / 8, 1 / 8], 1e-5)
    kept = sum(np.array(probabilities) > 0)
    assert ax.get_title() == f"{name}: {kept} of 4 tokens"
    crosses = [text.get_text() == "×" for text in ax.texts]
    assert crosses == [p == 0 for p in probabilities]


def test_temperature_zero_is_greedy():
    ax = panel(draw_strategies(temperature=0), "temperature 0")
    np.testing.assert_array_equal(filled(ax), [1, 0, 0, 0])


def test_tokens_without_a_row_share_one():
    axes = draw_strategies(num_tokens=2, tokens=TOKENS)
    names = [label.get_text() for label in axes[0, 0].get_yticklabels()]
    assert names == ["a", r"'\n'", "2 others"]
    random = panel(axes, "random")
    np.testing.assert_allclose(filled(random), [0.5, 0.25, 0.25], rtol=1e-5)
    assert random.patches[-2].get_hatch()


def test_dollar_signs_are_no_mathematics():
    axes = draw_strategies(tokens=TOKENS)
    for ax in axes[:, 0]:
        labels = ax.get_yticklabels()
        assert [label.get_text() for label in labels][2:] == ["dog", "$cat$"]
        assert not any(label.get_parse_math() for label in labels)


def test_tokens_without_names_show_their_ids():
    labels = draw_strategies()[0, 0].get_yticklabels()
    names = [label.get_text() for label in labels]
    assert names == ["id 1", "id 3", "id 0", "id 2"]


def test_strategies_take_tensors_of_the_backend():
    logits = keras.ops.convert_to_tensor(LOGITS, dtype="bfloat16")
    axes = plots.plot_sampling_strategies(logits, k=2, figure=Figure())
    np.testing.assert_allclose(sum(filled(panel(axes, "random"))), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"k": 5}, r"`k` must be an int in \[1, vocabulary_size=4\]"),
        ({"p": 0}, r"`p` must be a probability in \(0, 1\]"),
        ({"min_p": 2}, "`p` must be a ratio"),
        ({"temperature": -1}, "`temperature` must be a finite number"),
        ({"num_tokens": 0}, "`num_tokens` must be a positive int"),
        ({"tokens": ["a"]}, "1 texts for 4 logits"),
    ],
)
def test_strategies_refuse_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_strategies(**arguments)


@pytest.mark.parametrize("logits", [[[0.0, 1.0]], [np.nan, 1.0], []])
def test_strategies_refuse_what_is_not_a_row(logits):
    with pytest.raises(ValueError, match="`logits` must be one row of numbers"):
        plots.plot_sampling_strategies(np.array(logits))


def test_without_axes_each_call_makes_a_figure_and_changes_no_setting():
    before = pyplot.rcParams.copy()
    first = plots.plot_history(HISTORY)
    second = plots.plot_history(HISTORY)
    axes = plots.plot_sampling_strategies(LOGITS, k=2)
    assert len({first.figure, second.figure, axes[0, 0].figure}) == 3
    assert pyplot.rcParams == before


def test_with_axes_pyplot_stays_as_it_was(ax):
    plots.plot_history(HISTORY, ax=ax)
    plots.plot_comparison({"a": 1}, "time (s)", ax)
    plots.plot_schedule(WarmupSchedule(), 10, ax)
    draw_strategies()
    assert pyplot.get_fignums() == []


def test_figures_can_be_written(tmp_path):
    figure = draw_strategies(tokens=TOKENS)[0, 0].figure
    figure.savefig(tmp_path / "strategies.png")
    assert (tmp_path / "strategies.png").read_bytes().startswith(b"\x89PNG")


def test_soft_tokens_are_framed_where_they_are():
    image = np.zeros((64, 64, 3), "uint8")
    pieces = ["<bos>", "a", *["<img>"] * 4, "b"]
    is_soft = np.array([0, 0, 1, 1, 1, 1, 0], "bool")
    embeddings = np.random.default_rng(0).normal(size=(7, 40))
    picture, sequence = plots.plot_soft_tokens(
        image, pieces, embeddings, is_soft, figure=Figure()
    )
    x, _ = sequence.lines[0].get_data()
    assert (min(x), max(x)) == (1.5, 5.5)
    drawn = sequence.images[0].get_array()
    assert drawn.shape == (32, 7) and abs(drawn).max() == 1
    assert [t.get_text() for t in sequence.get_xticklabels()][1] == "a"
    assert len(picture.lines) == 2  # cut into 2 x 2
    with pytest.raises(ValueError, match="0 true"):
        plots.plot_soft_tokens(image, pieces, embeddings, ~is_soft & is_soft)


def test_pictures_stand_beside_their_titles():
    shown = [np.full((8, 8, 3), value, "uint8") for value in (0, 9)]
    axes = plots.plot_pictures(shown, ["black", "grey"], figure=Figure())
    assert [ax.get_title() for ax in axes] == ["black", "grey"]
    assert axes[1].images[0].get_array().max() == 9
