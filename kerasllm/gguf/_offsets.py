"""Where the values of a preset lie in its file, so that they are read at once.

Keras finds the values of a model by walking through its layers and through the
groups of an HDF5 file, for hundreds of variables. Of a preset that this package
has written, a second file says where each value begins. Then a value is mapped
into memory, and copied once, to where the backend wants it.
"""

import hashlib
import json
import pathlib

import h5py
import numpy as np
from keras import ops

WEIGHTS, OFFSETS = "model.weights.h5", "offsets.json"


def write_offsets(folder, backbone):
    """Write down where the values of a backbone lie in the file of its preset.

    A value is recognized by its bytes. Where two variables have the same ones,
    either value serves for both.

    Args:
        folder: path of the preset. Nothing is written if its weights are in
            several files, or not one after the other in one.
        backbone: the `keras_hub` backbone that was saved, of float32 weights.
    """
    path = pathlib.Path(folder, WEIGHTS)
    if not path.exists():
        return
    found = {}  # offsets by digest

    def note(_, dataset):
        if isinstance(dataset, h5py.Dataset):
            found[_digest(dataset[()])] = dataset.id.get_offset()

    with h5py.File(path) as file:
        file.visititems(note)
    offsets = {
        variable.path: found.get(_digest(ops.convert_to_numpy(variable)))
        for variable in backbone.weights
    }
    if None not in offsets.values():
        text = json.dumps({"size": path.stat().st_size, "offsets": offsets})
        pathlib.Path(folder, OFFSETS).write_text(text, "utf-8")


def read_offsets(folder):
    """Return where the values of a preset lie.

    Args:
        folder: str or path of a preset.

    Returns:
        dict from paths of variables to offsets in bytes, or `None` if it is not
        known, or the file has another size than it had.
    """
    folder = pathlib.Path(folder)
    try:
        known = json.loads((folder / OFFSETS).read_text("utf-8"))
        if known["size"] == (folder / WEIGHTS).stat().st_size:
            return known["offsets"]
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return None


def read_value(folder, offset, shape):
    """Return a value as it lies in the file.

    Args:
        folder: str or path of a preset.
        offset: int, in bytes.
        shape: tuple of int.

    Returns:
        float32 array, a read-only view of the file.
    """
    path = pathlib.Path(folder, WEIGHTS)
    return np.memmap(path, "<f4", "r", offset, tuple(shape))


def _digest(array):
    return hashlib.sha256(np.ascontiguousarray(array, "<f4")).digest()
