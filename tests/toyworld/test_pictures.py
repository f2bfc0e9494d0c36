"""Pictures show what their captions and answers say."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.toyworld import (
    BACKGROUND,
    COLORS,
    SHAPES,
    picture_instructions,
    pictures,
)
from kerasllm.toyworld._pictures import _inside

pytestmark = pytest.mark.any_backend


def areas(picture):
    """Count connected areas that differ from the ground, by flood fill."""
    left = {
        tuple(p) for p in np.argwhere((picture.image != BACKGROUND).any(-1))
    }
    sizes = []
    while left:
        queue, size = [left.pop()], 0
        while queue:
            y, x = queue.pop()
            size += 1
            for spot in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if spot in left:
                    left.remove(spot)
                    queue.append(spot)
        sizes.append(size)
    return sizes


def test_pictures_show_what_they_say():
    drawn = pictures(60, seed=1)
    for picture in drawn:
        assert picture.image.shape == (48, 48, 3)
        assert len(areas(picture)) == picture.count
        ink = picture.image[(picture.image != BACKGROUND).any(-1)]
        assert set(map(tuple, ink)) == {COLORS[picture.color]}
        number, color, shape = picture.caption.split()
        singular = shape.removesuffix("es" if "cross" in shape else "s")
        assert [q.answer for q in picture.questions()] == [
            f"The colour is {color}.",
            f"The shape is a {singular if picture.count > 1 else shape}.",
            f"The number is {number}.",
        ]
    assert {p.shape for p in drawn} == set(SHAPES)
    assert {p.count for p in drawn} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("shape", "share"),
    # Of the square around it: pi / 4, all, one half, 1 - 4 / 9.
    [("circle", np.pi / 4), ("square", 1), ("triangle", 0.5), ("cross", 5 / 9)],
)
def test_shapes_cover_what_geometry_says(shape, share):
    y, x = np.mgrid[-400:401, -400:401]
    inside = _inside(shape, y, x, 300)
    assert inside.sum() / 600**2 == pytest.approx(share, abs=0.01)


def test_requests_about_pictures_carry_them():
    drawn = pictures(2, seed=3)
    examples = picture_instructions(drawn)
    shown = [picture.image for picture in drawn for _ in range(3)]
    assert all(
        example.images[0] is image
        for example, image in zip(examples, shown, strict=True)
    )
    assert all(
        example.instruction.count("<start_of_image>") == 1
        for example in examples
    )
    assert examples[0].response == f"The colour is {drawn[0].color}."


def test_equal_pictures_have_equal_digests():
    first, again = (pictures(20, seed=5) for _ in range(2))
    digests = [picture.digest() for picture in first]
    assert digests == [picture.digest() for picture in again]
    assert len(set(digests)) == len({p.image.tobytes() for p in first})


def test_counts_and_sizes_are_ints():
    drawn = pictures(np.int64(2), size=np.int32(47))
    assert [picture.image.shape for picture in drawn] == [(47, 47, 3)] * 2
    with pytest.raises(UserError, match="`count` must be an int of at least 0"):
        pictures(True)
    with pytest.raises(UserError, match="`size` must be an int of at least 47"):
        pictures(1, size=46)
