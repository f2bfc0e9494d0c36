"""Which names presets have, told without KerasHub, which takes seconds."""

import ast
import difflib
import importlib.util
import os
import pathlib

from kerasllm import files, gguf
from kerasllm.checks import MissingFileError, UserError

# What comes with the package: two Gemmas of a small world, and a mini-GPT that
# has read documentation.
GEMMA_PRESETS = ("tiny", "tiny_instruct")
DOCS_PRESET = "mini_gpt_docs"
OFFLINE_PRESETS = (*GEMMA_PRESETS, DOCS_PRESET)
# The file of KerasHub with the names of Gemma 3's presets, in a dict.
GEMMA_FILE = ("src", "models", "gemma3", "gemma3_presets.py")


def gemma_names():
    """Return the names of KerasHub's presets of Gemma 3.

    They are read from its source, for importing it takes seconds.

    Returns:
        A sorted list of str, empty if the file is not what it was.
    """
    spec = importlib.util.find_spec("keras_hub")
    if spec is None or not spec.submodule_search_locations:
        return []
    path = pathlib.Path(spec.submodule_search_locations[0], *GEMMA_FILE)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return []
    return sorted(
        key.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if isinstance(key, ast.Constant)
    )


def check_name(name):
    """Refuse early what can be no preset of Gemma 3, folder or GGUF file.

    Args:
        name: str, see `preset_source`.

    Raises:
        MissingFileError: it looks like a path, and nothing is there.
        UserError: it is neither the name of a preset nor a folder with a
            model, or a file that is no GGUF file.
        EnvironmentFailure: SmolLM2 is not installed; says how it is.
    """
    file = gguf.gguf_path(name)
    if file is not None:
        gguf.check_is_gguf(file)
        return
    names = gemma_names()
    is_name = name in OFFLINE_PRESETS or name in names or not names
    if is_name or "://" in name:
        return
    if os.path.isdir(name):
        _check_folder(name)
        return
    if os.sep in name or name.startswith((".", "~")):
        raise MissingFileError(
            f"`name` must be a preset or a folder with one. Received: {name}, "
            "and there is no such folder. Look at the path."
        )
    known = [*OFFLINE_PRESETS, gguf.SMOLLM2, *names]
    similar = difflib.get_close_matches(name, known, n=1)
    offer = f" Did you mean {similar[0]}?" if similar else ""
    raise UserError(
        f"`name` must be one of {', '.join(OFFLINE_PRESETS)} (offline), "
        f"{gguf.SMOLLM2}, a GGUF file, a folder, an address such as "
        '"hf://google/gemma-3-1b-it", or a preset '
        f"of KerasHub's Gemma3CausalLM: {', '.join(names)}. Received: "
        f"{name!r}.{offer}"
    )


def is_run(name):
    """Return whether a preset is the folder of a pretraining run: a bool."""
    return os.path.isfile(os.path.join(name, files.RUN_FILE))


def _check_folder(name):
    """Refuse a folder that can have no model, such as one of adapters."""
    if os.path.exists(os.path.join(name, "config.json")):
        return
    if is_run(name):
        files.check_finished_run(name)
        return
    adapters = sorted(pathlib.Path(name).glob("*.lora.h5"))
    cure = "Look at the path."
    if adapters:
        cure = (
            "It has adapters: load the preset that they were tuned from, and "
            f"then {adapters[0]}, with `load_lora`."
        )
    raise UserError(
        f"`name` must be a preset or a folder with one. Received: {name}, "
        f"which has no config.json. {cure}"
    )
