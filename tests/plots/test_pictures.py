import numpy as np
import pytest
from matplotlib.figure import Figure

from kerasllm import plots

pytestmark = pytest.mark.any_backend


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
    axes = plots.plot_pictures(shown, ["black", "gray"], figure=Figure())
    assert [ax.get_title() for ax in axes] == ["black", "gray"]
    assert axes[1].images[0].get_array().max() == 9
