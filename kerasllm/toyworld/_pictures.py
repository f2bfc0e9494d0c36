"""Pictures of colored shapes, with captions and questions."""

import dataclasses
import hashlib

import numpy as np

from kerasllm.checks import UserError, check_int, check_list, shown
from kerasllm.images import IMAGE_TOKEN
from kerasllm.instructions import Instruction
from kerasllm.toyworld._entities import Question

NUMBERS = ("one", "two", "three", "four", "five")
SHAPES = ("circle", "square", "triangle", "cross")
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 205, 40),
    "purple": (150, 60, 170),
    "orange": (240, 140, 30),
    "black": (30, 30, 30),
    "brown": (120, 70, 30),
}
# All colors are darker than the ground: brightness separates shapes from it.
BACKGROUND = (255, 255, 255)
PICTURE_SIZE = 48
_SMALLEST_SIZE = 47  # leaves a pixel around the largest shape in its cell


@dataclasses.dataclass(frozen=True)
class Picture:
    """Some shapes of one kind and color on a white background.

    Attributes:
        image: uint8 array `(size, size, 3)`.
        shape: str, one of `SHAPES`.
        color: str, a key of `COLORS`.
        count: int from 1 to 5.
    """

    image: np.ndarray
    shape: str
    color: str
    count: int

    @property
    def caption(self):
        """The content of the picture, such as `"two red circles"`."""
        plural = (
            "" if self.count == 1 else "es" if self.shape == "cross" else "s"
        )
        return f"{NUMBERS[self.count - 1]} {self.color} {self.shape}{plural}"

    def digest(self):
        """Return the SHA-256 of the pixels, which tells equal images: bytes."""
        return hashlib.sha256(self.image.tobytes()).digest()

    def questions(self):
        """Return a `Question` about each of the color, shape, and number."""
        # The shipped models learned the British spelling.
        color = f"The colour is {self.color}."
        shape = f"The shape is a {self.shape}."
        number = f"The number is {NUMBERS[self.count - 1]}."
        return [
            Question("What colour are the shapes?", color, "colour"),
            Question("What shapes are these?", shape, "shape"),
            Question("How many shapes are there?", number, "count"),
        ]


def picture_instructions(drawn):
    """Return three requests about each picture, which include the picture.

    Args:
        drawn: list of `Picture`.

    Returns:
        list of `Instruction`, those about one picture next to each other.
    """
    drawn = check_list("drawn", drawn, "a list of pictures")
    for picture in drawn:
        if not isinstance(picture, Picture):
            raise UserError(
                "Each of `drawn` must be a `Picture`. Received: "
                f"{shown(picture)}. `pictures` draws some."
            )
    return [
        Instruction(IMAGE_TOKEN + q.text, q.answer, images=(picture.image,))
        for picture in drawn
        for q in picture.questions()
    ]


def pictures(count, seed=0, size=PICTURE_SIZE):
    """Draw random pictures of shapes that do not overlap.

    Args:
        count: int of at least 0.
        seed: int of at least 0, or a sequence of such, as NumPy takes it.
        size: int of at least 47. Width and height in pixels; in a smaller
            picture shapes could touch.

    Returns:
        list of `Picture`.

    Raises:
        UserError: `count` or `size` is no such int.
    """
    count = check_int("count", count, 0)
    size = check_int("size", size, _SMALLEST_SIZE)
    rng = _random(seed)
    drawn = []
    for _ in range(count):
        shape = SHAPES[rng.integers(len(SHAPES))]
        color = list(COLORS)[rng.integers(len(COLORS))]
        number = int(rng.integers(1, len(NUMBERS) + 1))
        drawn.append(
            Picture(
                _draw(rng, size, shape, color, number), shape, color, number
            )
        )
    return drawn


def _draw(rng, size, shape, color, number):
    image = np.full((size, size, 3), BACKGROUND, "uint8")
    ink = np.array(COLORS[color], "uint8")
    pixels = np.arange(size)
    # A cell of a 3 x 3 grid for each shape keeps them apart.
    for cell in rng.choice(9, number, replace=False):
        radius = size / 6 * rng.uniform(0.72, 0.87)
        slack = size / 6 - radius - 1  # no two shapes touch
        row, column = divmod(cell, 3)
        y = (row + 0.5) * size / 3 + rng.uniform(-slack, slack)
        x = (column + 0.5) * size / 3 + rng.uniform(-slack, slack)
        rows, columns = (
            slice(n * size // 3, (n + 1) * size // 3 + 1) for n in (row, column)
        )
        dy, dx = pixels[rows, None] - y, pixels[columns] - x
        image[rows, columns][_inside(shape, dy, dx, radius)] = ink
    return image


def _inside(shape, dy, dx, radius):
    """Tell which pixels a shape covers.

    `dy`, shape `(height, 1)`, and `dx`, shape `(width,)`, are the distances
    from its middle in pixels. The result has the shape `(height, width)`.
    """
    if shape == "circle":
        return dy**2 + dx**2 <= radius**2
    box = np.maximum(abs(dy), abs(dx)) <= radius
    if shape == "square":
        return box
    if shape == "triangle":  # with its tip at the top
        return box & (abs(dx) <= (dy + radius) / 2)
    return box & (np.minimum(abs(dy), abs(dx)) <= radius / 3)


def _random(seed):
    """Return NumPy's generator of a seed, or refuse it."""
    try:
        if seed is not None:
            return np.random.default_rng(seed)
    except (TypeError, ValueError):
        pass
    raise UserError(
        "`seed` must be an int of at least 0, or a sequence of such. Received: "
        f"seed={shown(seed)}. Use 0, for example."
    )
