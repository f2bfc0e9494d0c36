"""A GGUF file: its metadata, and its tensors, one at a time.

The format is that of ggml: a header of names and values, a list of tensors,
and their data, quantized in blocks. The `gguf` package knows the blocks. Its
own reader makes a Python object of each string of a vocabulary, which takes
five seconds and 160 MB for 49,152 tokens, so the header is read here.

Source: github.com/ggml-org/ggml, docs/gguf.md.
"""

import dataclasses
import math
import mmap
import struct

import gguf
import numpy as np

from kerasllm.checks import UserError, check_path
from kerasllm.gguf._names import MAGIC, check_is_gguf

VERSIONS = (2, 3)
_ALIGNMENT = 32
_BYTES_AT_A_TIME = 2**22
_MOST_DIMENSIONS = 4
# Of the types of values, in the order of their numbers. 8 is text, 9 an array.
_NUMBERS = dict(
    zip((*range(8), *range(10, 13)), "u1 i1 u2 i2 u4 i4 f4 ? u8 i8 f8".split(),
        strict=True)
)  # fmt: skip
_TEXT, _ARRAY = 8, 9


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """Where a tensor is in a file.

    Attributes:
        shape: tuple of int, in NumPy's order.
        type: `gguf.GGMLQuantizationType`.
        start: int. Its first byte in the file.
        row_bytes: int. Bytes of a row, the last of its dimensions.
    """

    shape: tuple
    type: gguf.GGMLQuantizationType
    start: int
    row_bytes: int

    @property
    def num_rows(self):
        """The number of rows: int."""
        return math.prod(self.shape[:-1])


class _BrokenError(Exception):
    """The bytes of a file are not what the format says."""


class GGUFFile:
    """A GGUF file, opened and checked.

    The file is mapped into memory, and `tensor` reads one tensor at a time.

    Args:
        path: str or path.

    Attributes:
        path: `pathlib.Path`.
        metadata: dict from the names of the format, `"llama.block_count"`, to
            int, float, bool, str, lists of str and arrays of numbers.
        tensors: dict from names, `"blk.0.attn_q.weight"`, to where they are.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is not a GGUF file, or it is truncated.
    """

    def __init__(self, path):
        self.path = check_path("path", path)
        self._data = _map(self.path)
        try:
            reader = _Header(self._data)
            self.metadata, self.tensors = reader.read()
        except (_BrokenError, UnicodeDecodeError) as error:
            raise UserError(
                "A GGUF file must be whole. Received: "
                f"{self.path} of {len(self._data):,} bytes ({error}). Copy or "
                "download it again."
            ) from error

    def tensor(self, name):
        """Return a tensor as floats: a float32 array.

        Raises:
            UserError: the file has no such tensor.
        """
        if name not in self.tensors:
            raise UserError(
                f"A GGUF file must have the tensor {name}. Received: "
                f"{self.path}, which has not. It may be of a model of "
                "another kind."
            )
        tensor = self.tensors[name]
        size = tensor.num_rows * tensor.row_bytes
        stored = np.frombuffer(self._data, "u1", size, tensor.start)
        stored = stored.reshape(tensor.num_rows, tensor.row_bytes)
        floats = np.empty((tensor.num_rows, tensor.shape[-1]), "float32")
        # A few rows at a time: dequantizing takes several times their memory.
        step = max(1, _BYTES_AT_A_TIME // tensor.row_bytes)
        for i in range(0, tensor.num_rows, step):
            rows = stored[i : i + step]
            floats[i : i + step] = gguf.dequantize(rows, tensor.type)
        self._forget(tensor.start, size)
        return floats.reshape(tensor.shape)

    def _forget(self, start, size):
        """Let the system take back the memory of what has been read."""
        if hasattr(self._data, "madvise"):
            page = mmap.PAGESIZE
            first = -(-start // page) * page
            length = (start + size) // page * page - first
            if length > 0:
                self._data.madvise(mmap.MADV_DONTNEED, first, length)


def _map(path):
    check_is_gguf(path)
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class _Header:
    """Reads the header of a file from its beginning, a value at a time."""

    def __init__(self, data):
        self._data = data
        self._position = len(MAGIC)

    def read(self):
        """Return metadata and tensors, see `GGUFFile`."""
        version = self._number("u4")
        if version not in VERSIONS:
            raise _BrokenError(
                f"its version is {version}, and {VERSIONS} can be read"
            )
        num_tensors, num_values = self._number("u8"), self._number("u8")
        metadata = {}
        for _ in range(num_values):
            name = self._text()
            metadata[name] = self._value(self._number("u4"))
        tensors = [self._tensor() for _ in range(num_tensors)]
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise _BrokenError(f"its data are aligned at {alignment}")
        start = -(-self._position // alignment) * alignment
        placed = {}
        for name, tensor in tensors:
            tensor = dataclasses.replace(tensor, start=start + tensor.start)
            end = tensor.start + tensor.num_rows * tensor.row_bytes
            if end > len(self._data):
                raise _BrokenError(f"{name} ends at byte {end:,}")
            placed[name] = tensor
        return metadata, placed

    def _take(self, size):
        """Return the position of the next bytes, and go on after them."""
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise _BrokenError("it ends within its header")
        return start

    def _number(self, kind):
        start = self._take(np.dtype(kind).itemsize)
        return np.frombuffer(self._data, f"<{kind}", 1, start)[0].item()

    def _text(self):
        (size,) = struct.unpack_from("<Q", self._data, self._take(8))
        start = self._take(size)
        return self._data[start : start + size].decode()

    def _value(self, kind):
        if kind == _TEXT:
            return self._text()
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind != _ARRAY:
            raise _BrokenError(f"a value has the unknown type {kind}")
        kind, count = self._number("u4"), self._number("u8")
        if kind == _TEXT:
            return [self._text() for _ in range(count)]
        if kind not in _NUMBERS:  # arrays of arrays: nobody writes any
            raise _BrokenError(f"an array has items of the type {kind}")
        dtype = np.dtype(f"<{_NUMBERS[kind]}")
        start = self._take(count * dtype.itemsize)
        return np.frombuffer(self._data, dtype, count, start).copy()

    def _tensor(self):
        name, num_dimensions = self._text(), self._number("u4")
        if not 1 <= num_dimensions <= _MOST_DIMENSIONS:
            raise _BrokenError(f"{name} has {num_dimensions} dimensions")
        shape = [self._number("u8") for _ in range(num_dimensions)][::-1]
        kind, start = self._number("u4"), self._number("u8")
        if not all(shape):
            raise _BrokenError(f"{name} has the shape {shape}")
        try:
            kind = gguf.GGMLQuantizationType(kind)
            in_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError) as error:
            raise _BrokenError(f"{name} has the unknown type {kind}") from error
        if shape[-1] % in_block:
            raise _BrokenError(f"{name} has no whole number of blocks")
        row_bytes = shape[-1] // in_block * block_bytes
        return name, _Tensor(tuple(shape), kind, start, row_bytes)
