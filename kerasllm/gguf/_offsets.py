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
import ml_dtypes
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
        backbone: the `keras_hub` backbone that was saved.
    """
    path = pathlib.Path(folder, WEIGHTS)
    if not path.exists():
        return
    found = {}  # offsets and dtypes by digest

    def note(_, dataset):
        if isinstance(dataset, h5py.Dataset):
            values = dataset[()]
            if values.dtype.kind == "V":  # HDF5 has no bfloat16
                values = values.view(ml_dtypes.bfloat16)
            place = dataset.id.get_offset(), values.dtype.name
            found[_digest(values)] = place

    with h5py.File(path) as file:
        file.visititems(note)
    offsets, dtypes = {}, {}
    for variable in backbone.weights:
        digest = _digest(ops.convert_to_numpy(variable))
        offset, dtype = found.get(digest, (None, None))
        if offset is None or variable.path in offsets:
            return
        offsets[variable.path] = offset
        if dtype != "float32":
            dtypes[variable.path] = dtype
    record = {
        "size": path.stat().st_size,
        "offsets": offsets,
        "dtypes": dtypes,
    }
    text = json.dumps(record, indent=1) + "\n"
    pathlib.Path(folder, OFFSETS).write_text(text, "utf-8")


def read_offsets(folder):
    """Return where the values of a preset lie.

    Args:
        folder: str or path of a preset.

    Returns:
        dict from paths of variables to pairs of an offset in bytes and the name
        of a dtype, or `None` if they are not known, or the file has another
        size than it had.
    """
    folder = pathlib.Path(folder)
    try:
        known = json.loads((folder / OFFSETS).read_text("utf-8"))
        if known["size"] == (folder / WEIGHTS).stat().st_size:
            dtypes = known.get("dtypes", {})
            return {
                path: (offset, dtypes.get(path, "float32"))
                for path, offset in known["offsets"].items()
            }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return None


def read_value(folder, place, shape):
    """Return a value as it lies in the file.

    Args:
        folder: str or path of a preset.
        place: a pair from `read_offsets`.
        shape: tuple of int.

    Returns:
        float32 array. If the file has that dtype, a read-only view of it.
    """
    offset, dtype = place
    # NumPy knows bfloat16 by name only once `ml_dtypes` has been imported.
    dtype = np.dtype(dtype).newbyteorder("<")
    path = pathlib.Path(folder, WEIGHTS)
    value = np.memmap(path, dtype, "r", offset, tuple(shape))
    return value.astype("float32", copy=False)


def _digest(array):
    return hashlib.sha256(np.ascontiguousarray(array, "<f4")).digest()
