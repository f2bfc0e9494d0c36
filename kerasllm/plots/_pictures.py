"""Pictures, and the soft tokens of an image among those of a prompt."""

import math

import numpy as np

from kerasllm.checks import UserError, check_list, check_numbers
from kerasllm.plots._drawing import (
    LINE_STYLES,
    OUTLINE,
    check_not_empty,
    figure_or_new,
    readable,
)

# Number of components of each vector that are drawn. More would be too small.
_MAX_NUMBERS = 32


def plot_soft_tokens(image, pieces, embeddings, is_soft, figure=None):
    """Draw where the soft tokens of an image lie among those of a prompt.

    On the left is the image, divided into one cell for each soft token. On the
    right are the first components of each vector that enters the decoder, with
    a column for each position and a frame around the soft tokens.

    Args:
        image: uint8 array `(height, width, 3)`.
        pieces: list of str, the token at each position.
        embeddings: float array `(length, hidden_dim)`.
        is_soft: bool array `(length,)`, true where a vector comes from the
            image. `kerasllm.images.embed` returns these three.
        figure: Matplotlib `Figure`. Defaults to a new one.

    Returns:
        The two `Axes`.

    Raises:
        UserError: no position is soft, or the lengths differ.

    Source: chapter 16, "Extending an LLM with image input".
    """
    is_soft = check_numbers("is_soft", is_soft).astype(bool)
    embeddings = check_numbers("embeddings", embeddings).astype("float32")
    pieces = check_list("pieces", pieces, "a list of strings")
    if not len(pieces) == len(embeddings) == len(is_soft) or not is_soft.any():
        raise UserError(
            "`plot_soft_tokens` needs one vector and one flag for each piece, "
            f"and some of the flags true. Received: {len(pieces)} pieces, "
            f"{len(embeddings)} vectors, {len(is_soft)} flags, "
            f"{is_soft.sum()} true."
        )
    figure = figure_or_new(figure, 12, 4.2)
    axes = figure.subplots(1, 2, width_ratios=[1, 3])
    positions = np.flatnonzero(is_soft)
    _draw_fields(axes[0], image, math.isqrt(len(positions)))
    _draw_vectors(axes[1], pieces, embeddings)
    _draw_frame(axes[1], positions, min(_MAX_NUMBERS, embeddings.shape[-1]))
    return axes


def _draw_fields(ax, image, side):
    """Draw an image, divided into `side` x `side` cells."""
    height, width = image.shape[:2]
    ax.imshow(image, extent=(0, width, height, 0))
    for i in range(1, side):
        ax.axvline(i * width / side, color=OUTLINE, linewidth=0.8)
        ax.axhline(i * height / side, color=OUTLINE, linewidth=0.8)
    ax.set(title=f"image: {side} x {side} soft tokens", xticks=[], yticks=[])


def _draw_vectors(ax, pieces, embeddings):
    """Draw the first components of each vector as a column of grays."""
    values = embeddings[:, :_MAX_NUMBERS].T  # (numbers, length)
    # Soft tokens and text have different scales, so normalize each column.
    values = values / np.maximum(abs(values).max(axis=0), 1e-9)
    ax.imshow(values, aspect="auto", cmap="gray", vmin=-1, vmax=1)
    labels = [readable(piece) for piece in pieces]
    ax.set_xticks(range(len(pieces)), labels, rotation=90, fontsize=8)
    ax.set(
        title="what enters the decoder, the image's tokens in the frame",
        xlabel="position",
        ylabel=f"first {len(values)} of {embeddings.shape[-1]} numbers",
    )


def _draw_frame(ax, positions, height):
    """Draw a frame around the columns of the soft tokens."""
    first, last = positions[0] - 0.5, positions[-1] + 0.5
    bottom, top = -0.5, height - 0.5
    ax.plot(
        [first, last, last, first, first],
        [bottom, bottom, top, top, bottom],
        color=LINE_STYLES[1]["color"],
        linewidth=3,
    )


def plot_pictures(shown, titles, figure=None):
    """Draw pictures side by side, each with a title.

    Args:
        shown: list of uint8 arrays `(height, width, 3)`.
        titles: list of str.
        figure: Matplotlib `Figure`. Defaults to a new one.

    Returns:
        An array of `Axes`.

    Raises:
        UserError: there are no pictures.
    """
    check_not_empty("shown", shown)
    titles = check_list("titles", titles, "a list of strings")
    if len(titles) != len(shown):
        raise UserError(
            "`titles` must have one for each picture. Received: "
            f"{len(titles)} for {len(shown)} pictures. Give as many."
        )
    figure = figure_or_new(figure, 2 * len(shown), 2.5)
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for ax, image, title in zip(axes, shown, titles, strict=True):
        ax.imshow(image)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=9)
    return axes
