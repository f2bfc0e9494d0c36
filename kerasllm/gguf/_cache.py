"""What has been read from a GGUF file, kept as a preset of KerasHub."""

import gc
import hashlib
import json
import shutil

import filelock

import kerasllm
from kerasllm import files
from kerasllm.checks import EnvironmentFailure, check_path
from kerasllm.gguf._file import GGUFFile
from kerasllm.gguf._names import check_is_gguf
from kerasllm.gguf._offsets import write_offsets
from kerasllm.gguf._reading import count_parameters, read_gguf

# Raised by one when the same file is read as something else than before.
_VERSION = 2
_RECORD = "source.json"
_BYTES_OF_A_WEIGHT = 4


def preset_of(path):
    """Return the KerasHub preset of a GGUF file, and create it if necessary.

    The preset is created at the first call, and again when the file has
    changed.

    Args:
        path: str or path.

    Returns:
        A `pathlib.Path`, a folder in `gguf` of the cache.

    Raises:
        MissingFileError: there is no such file.
        UserError: it cannot be read; see `read_gguf`.
        EnvironmentFailure: the cache has no room.
    """
    path = check_path("path", path).absolute()
    check_is_gguf(path)
    status = path.stat()
    source = {
        "path": str(path),
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        "version": [kerasllm.__version__, _VERSION],
    }
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    cache = files.cache_dir("gguf")
    folder = cache / f"{path.stem}-{digest}"
    if _is_of(folder, source):
        return folder
    # Of two processes, the second waits and finds what it needs.
    with filelock.FileLock(cache / f"{folder.name}.lock"):
        if not _is_of(folder, source):
            _convert(path, source, folder)
    return folder


def _is_of(folder, source):
    """Return whether a folder holds what was read from a file as it is."""
    try:
        return json.loads((folder / _RECORD).read_text("utf-8")) == source
    except (OSError, ValueError):
        return False


def _convert(path, source, folder):
    """Read a file and write a preset of it, whole or not at all."""
    needed = _BYTES_OF_A_WEIGHT * count_parameters(GGUFFile(path))
    free = shutil.disk_usage(folder.parent).free
    if free < 1.05 * needed:
        raise EnvironmentFailure(
            f"The cache must have room for a preset of {needed / 1e6:,.0f} MB. "
            f"Received: {folder.parent} with {free / 1e6:,.0f} MB. Make room, "
            "or set the environment variable KERAS_HOME to a folder on "
            "another disk."
        )
    causal_lm = read_gguf(path)
    with (
        files.explaining_disk_errors(folder),
        files.whole_folder(folder) as partial,
    ):
        causal_lm.save_to_preset(str(partial))
        write_offsets(partial, causal_lm.backbone)
        record = json.dumps(source, indent=1)
        (partial / _RECORD).write_text(record, "utf-8")
    # A model is a circle of objects: the next one should not come on top.
    del causal_lm
    gc.collect()
