import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from kerasllm import plots

# Probabilities 0.5, 0.25, 0.125, 0.125 of tokens in no order.
LOGITS = np.log([0.125, 0.5, 0.125, 0.25])
TOKENS = ["dog", "a", "$cat$", "\n"]


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


@pytest.mark.parametrize(
    "name, probabilities",
    [
        ("top-p, p = 0.7", [2 / 3, 1 / 3, 0, 0]),
        *(
            pytest.param(*case, marks=pytest.mark.any_backend)
            for case in (
                ("greedy", [1, 0, 0, 0]),
                ("top-k, k = 2", [2 / 3, 1 / 3, 0, 0]),
                ("random", [1 / 2, 1 / 4, 1 / 8, 1 / 8]),
                # Squares of 4, 2, 1, 1 eighths, which sum to 22.
                ("temperature 0.5", [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
                ("min-p, p = 0.4", [2 / 3, 1 / 3, 0, 0]),
            )
        ),
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


@pytest.mark.any_backend
def test_temperature_zero_is_greedy():
    ax = panel(draw_strategies(temperature=0), "temperature 0")
    np.testing.assert_array_equal(filled(ax), [1, 0, 0, 0])


@pytest.mark.any_backend
def test_tokens_without_a_bar_share_one():
    axes = draw_strategies(num_tokens=2, tokens=TOKENS)
    names = [label.get_text() for label in axes[0, 0].get_yticklabels()]
    assert names == ["a", r"'\n'", "2 others"]
    random = panel(axes, "random")
    np.testing.assert_allclose(filled(random), [0.5, 0.25, 0.25], rtol=1e-5)
    assert random.patches[-2].get_hatch()


@pytest.mark.any_backend
def test_dollar_signs_are_no_mathematics():
    axes = draw_strategies(tokens=TOKENS)
    for ax in axes[:, 0]:
        labels = ax.get_yticklabels()
        assert [label.get_text() for label in labels][2:] == ["dog", "$cat$"]
        assert not any(label.get_parse_math() for label in labels)


@pytest.mark.any_backend
def test_tokens_without_names_show_their_ids():
    labels = draw_strategies()[0, 0].get_yticklabels()
    names = [label.get_text() for label in labels]
    assert names == ["id 1", "id 3", "id 0", "id 2"]


def test_strategies_take_tensors_of_the_backend():
    logits = keras.ops.convert_to_tensor(LOGITS, dtype="bfloat16")
    axes = plots.plot_sampling_strategies(logits, k=2, figure=Figure())
    np.testing.assert_allclose(sum(filled(panel(axes, "random"))), 1, rtol=1e-5)


@pytest.mark.any_backend
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


@pytest.mark.any_backend
@pytest.mark.parametrize("logits", [[[0.0, 1.0]], [np.nan, 1.0], []])
def test_strategies_refuse_what_is_not_a_vector(logits):
    with pytest.raises(ValueError, match="`logits` must be one vector"):
        plots.plot_sampling_strategies(np.array(logits))


@pytest.mark.any_backend
def test_figures_can_be_written(tmp_path):
    figure = draw_strategies(tokens=TOKENS)[0, 0].figure
    figure.savefig(tmp_path / "strategies.png")
    assert (tmp_path / "strategies.png").read_bytes().startswith(b"\x89PNG")
