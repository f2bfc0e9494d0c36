import pytest

from kerasllm import plots

pytestmark = pytest.mark.any_backend


def test_the_factors_have_the_sides_of_the_kernel(ax):
    plots.plot_low_rank(512, 1024, 128, ax)
    kernel, alpha, beta = (
        (box.get_width(), box.get_height()) for box in ax.patches
    )
    assert kernel == pytest.approx((1, 1 / 2))
    assert alpha == pytest.approx((1 / 8, 1 / 2))
    assert beta == pytest.approx((1, 1 / 8))
    texts = [text.get_text() for text in ax.texts]
    assert "beta\n128 × 1,024 = 131,072" in texts
    assert texts[-2:] == ["+", "×"]


def test_a_thin_rank_can_be_seen(ax):
    plots.plot_low_rank(2048, 2048, 1, ax)
    assert ax.patches[1].get_width() > 0.05
    with pytest.raises(ValueError, match="rank"):
        plots.plot_low_rank(4, 4, 0, ax)


def test_memory_is_stacked_and_summed(ax):
    gib = 2**30
    plots.plot_memory(
        {
            "full": {"weights": 4 * gib, "gradients": 2 * gib},
            "LoRA": {"weights": 4 * gib, "gradients": gib // 2},
        },
        ax,
    )
    starts = [bar.get_x() for bar in ax.patches]
    assert starts == [0, 4, 0, 4]
    assert [bar.get_width() for bar in ax.patches] == [4, 2, 4, 0.5]
    assert [t.get_text() for t in ax.texts] == ["6.00 GiB", "4.50 GiB"]
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["weights", "gradients"]
    with pytest.raises(ValueError, match="memory"):
        plots.plot_memory({}, ax)
