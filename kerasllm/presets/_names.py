"""Which names presets have, told without KerasHub, which takes seconds."""

import ast
import difflib
import importlib.util
import os
import pathlib
import re

from kerasllm import files, gguf
from kerasllm.checks import MissingFileError, UserError

# What comes with the package: two Gemmas of a small world, and a mini-GPT that
# has read documentation.
GEMMA_PRESETS = ("tiny", "tiny_instruct")
DOCS_PRESET = "mini_gpt_docs"
OFFLINE_PRESETS = (*GEMMA_PRESETS, DOCS_PRESET)
# KerasHub's files with the names of presets, in dicts, beside a `CausalLM`.
_MODELS = ("src", "models")
_TASKS = "*/*_causal_lm.py"
_NAMES = "*_presets.py"
# Where KerasHub downloads from, and what it asks for there.
_ADDRESSES = (
    r"(hf|modelscope)://[^/]+/[^/]+",
    r"kaggle://[^/]+/[^/]+/[^/]+/[^/]+(/\d+)?",
    r"gs://.+",
)
FAMOUS = ("gemma3_instruct_1b", "llama3.2_1b", "qwen3_0.6b_en", "gpt2_base_en")


def causal_lm_names():
    """Return the names of KerasHub's presets of models that write text.

    They are read from its source, for importing it takes seconds.

    Returns:
        A sorted list of str, empty if the files are not what they were.
    """
    spec = importlib.util.find_spec("keras_hub")
    if spec is None or not spec.submodule_search_locations:
        return []
    models = pathlib.Path(spec.submodule_search_locations[0], *_MODELS)
    folders = {path.parent for path in models.glob(_TASKS)}
    paths = [path for folder in folders for path in folder.glob(_NAMES)]
    return sorted({name for path in paths for name in _keys_in(path)})


def _keys_in(path):
    """Yield the keys of the dicts that a module of Python defines."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for key in node.value.keys:
                if isinstance(key, ast.Constant):
                    yield key.value


def check_name(name):
    """Refuse early what can be no preset, folder, address or GGUF file.

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
    names = causal_lm_names()
    if name in OFFLINE_PRESETS or name in names or not names:
        return
    if os.path.isdir(name):
        _check_folder(name)
        return
    if "://" in name:
        check_address(name)
        return
    if os.sep in name or name.startswith((".", "~")):
        raise MissingFileError(
            f"`name` must be a preset or a folder with one. Received: {name}, "
            "and there is no such folder. Look at the path."
        )
    known = [*OFFLINE_PRESETS, gguf.SMOLLM2, *names]
    similar = difflib.get_close_matches(name, known, n=1)
    similar += [one for one in known if one.startswith(name)]
    offer = f" Did you mean {similar[0]}?" if similar else ""
    raise UserError(
        f"`name` must be one of {', '.join(OFFLINE_PRESETS)} (offline), "
        f"{gguf.SMOLLM2}, a GGUF file, a folder, an address such as "
        '"hf://google/gemma-3-1b-it", or a preset of KerasHub, such as '
        f"{', '.join(FAMOUS)}. Received: {name!r}.{offer}"
    )


def check_address(name):
    """Refuse an address that KerasHub cannot load.

    Args:
        name: str with `://`.

    Raises:
        UserError: it is no address of a model.
    """
    if not any(re.fullmatch(pattern, name) for pattern in _ADDRESSES):
        raise UserError(
            "An address must be hf://OWNER/MODEL, modelscope://OWNER/MODEL, "
            "kaggle://OWNER/MODEL/keras/VARIANT, or gs://FOLDER. Received: "
            f"{name}. Look at its form."
        )
    is_here = importlib.util.find_spec("modelscope") is not None
    if name.startswith("modelscope://") and not is_here:
        raise UserError(
            "ModelScope must come with its own package. Received: "
            f"{name}. Use `pip install modelscope`."
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
