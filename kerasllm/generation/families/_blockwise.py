"""Prompts are read by code that the blocks of a model share."""

import threading

import keras
from keras import ops

from kerasllm import backend

# Compiling takes as long as there are blocks, and each call a little time. The
# windows of Gemma 3 repeat after six blocks.
BLOCKS_AT_ONCE = 3


class Blockwise:
    """Compiles a pass over a few blocks, and calls it for all of them.

    A compiler takes ten times as long for thirty blocks as for three, though
    all of them do the same. Each padded length of a prompt is compiled anew, so
    that is what a user waits for. Here the pass is cut: what is before the
    blocks, a few blocks, and what is behind them. A step that reads a single
    token is compiled as a whole, because the calls would take a tenth (JAX) to
    a third (TensorFlow) of its time.

    It is used like a `backend.Compiled` of `Family.read_prompt` or
    `Family.read_more`.

    Args:
        family: `Family`.
        spec: the empty cache of `Family.cache_spec`, to read a prompt into.
            `None` reads more of a text, and gets a cache and a position.
    """

    def __init__(self, family, spec=None):
        self._spec = spec
        backbone = family.backbone
        self._embed = _share(
            family.embed,
            [v for layer in family.embeddings for v in layer.variables],
        )
        ends = (backbone.layer_norm, backbone.token_embedding)
        self._score = _share(
            family.score, [v for layer in ends for v in layer.variables]
        )
        self._parts = []  # (compiled function, variables, number of blocks)
        functions = {}
        blocks = backbone.transformer_layers
        for first in range(0, len(blocks), BLOCKS_AT_ONCE):
            some = blocks[first : first + BLOCKS_AT_ONCE]
            variables = [v for block in some for v in block.variables]
            kind = str(list(map(_kind_of, some)))
            if kind not in functions:
                functions[kind] = _share(self._reader(family, some), variables)
            self._parts.append((functions[kind], variables, len(some)))
        self._functions = [self._embed, *functions.values(), self._score]
        self._seen = set()  # shapes of the arguments of all calls
        self._lock = threading.Lock()

    def _reader(self, family, blocks):
        """Return a function that reads with some blocks."""

        def read(x, turns, cache, index):
            return family.read_blocks(blocks, x, turns, cache, index)

        def read_from_start(x, turns):
            cache = keras.tree.map_structure(
                lambda array: ops.zeros(array.shape, array.dtype),
                self._spec[: len(blocks)],
            )
            return family.read_blocks(blocks, x, turns, cache, 0)

        return read if self._spec is None else read_from_start

    @property
    def count(self):
        """Number of compilations: an int."""
        return sum(function.count for function in self._functions)

    @property
    def waits(self):
        """Number of calls that waited for one: an int."""
        return sum(function.waits for function in self._functions)

    def __call__(self, *arguments):
        shapes = tuple(a.shape for a in keras.tree.flatten(arguments))
        with self._lock:
            is_new = shapes not in self._seen
            self._seen.add(shapes)
        return self._bind(once=is_new)(*arguments)

    def _bind(self, once):
        """Return the pass with the current weights.

        Args:
            once: bool. Whether it is for a single call.
        """

        def bind(function, variables=None):
            return (function.bind_once if once else function.bind)(variables)

        embed, score = bind(self._embed), bind(self._score)
        parts = [
            (bind(function, variables), size)
            for function, variables, size in self._parts
        ]

        def read_more(token_ids, cache, index, last):
            x, turns = embed(token_ids, index)
            new = []
            for blocks, size in parts:
                old = cache[len(new) : len(new) + size]
                x, some = blocks(x, turns, old, index)
                new += some
            return score(x, last), tuple(new)

        def read_prompt(token_ids, last):
            x, turns = embed(token_ids)
            new = []
            for blocks, _ in parts:
                x, some = blocks(x, turns)
                new += some
            return score(x, last), tuple(new)

        return read_more if self._spec is None else read_prompt


def _share(function, variables):
    return backend.compiled(function, variables, shared=True)


def _kind_of(layer):
    """Return what is equal for layers of one model that compute the same.

    These are the numbers and flags of a layer, such as its window, the shapes
    of its weights, and the layers within it. Names tell nothing, nor does what
    Keras notes down, such as whether a layer has been called.
    """
    numbers = sorted(
        (name, value)
        for name, value in vars(layer).items()
        if isinstance(value, bool | int | float) and name[0] != "_"
    )
    weights = [(v.shape, v.dtype) for v in layer.variables]
    return type(layer), numbers, weights, list(map(_kind_of, layer._layers))
