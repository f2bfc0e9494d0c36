"""What lies at a path that an option names, and which option takes it.

A run, adapters, and a preset are all folders. These checks need no backend,
and their messages name the option that the user was looking for.
"""

import dataclasses
import json
import pathlib
import shlex

import typer

from kerasllm import files, presets
from kerasllm.cli._start import UsageError
from kerasllm.gguf import SMOLLM2

OPTIONS = "options.json"  # what the commands that tune began with
_SUFFIX = ".lora.h5"
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class _Found:
    """What a path holds, in words, and what to do with it."""

    what: str
    cure: str


def check_preset(
    context: typer.Context, option: typer.CallbackParam, name: str | None
):
    """Refuse what is no preset, before a backend starts: a callback."""
    if name is not None:
        refuse_adapters(option.opts[-1], name, _options_of(context))
        presets.check_name(name)
        _check_both(name, context.params.get("dtype"))
    return name


def check_dtype(context: typer.Context, dtype: str | None):
    """Refuse a dtype for a run, which has one already: a callback."""
    _check_both(context.params.get("preset"), dtype)
    return dtype


def _check_both(preset, dtype):
    """Refuse a preset and a dtype as soon as both are known."""
    if preset is not None and dtype is not None and presets.is_run(preset):
        raise UsageError(
            "--dtype must be left out for a folder of pretrain, whose model "
            f"has the one that it was trained in. Received: {dtype} for "
            f"{preset}."
        )


def refuse_adapters(option, name, options=()):
    """Refuse adapters where a whole model is asked for.

    Args:
        option: str, such as `"--preset"`.
        name: str, what it was given.
        options: the options of the command. With `--lora`, it takes adapters.
    """
    found = _adapters(name, option, options)
    if found is not None:
        raise UsageError(
            f"{option} must be a preset or a folder with one. Received: "
            f"{name}, which {found.what}. {found.cure}."
        )


def check_run(
    context: typer.Context,
    option: typer.CallbackParam,
    folder: pathlib.Path | None,
):
    """Refuse what is no folder of pretrain: a callback."""
    if folder is None or (folder / files.RUN_FILE).is_file():
        return folder  # whether it is finished is told later
    found = (
        _adapters(folder, "--preset", _options_of(context))
        or _preset(str(folder))
        or _nothing(folder)
    )
    if found is not None:
        raise UsageError(
            f"{option.opts[-1]} must be a folder that pretrain wrote. "
            f"Received: {folder}, which {found.what}. {found.cure}."
        )
    return folder


def check_adapters(option: typer.CallbackParam, path: pathlib.Path | None):
    """Refuse what cannot hold adapters, before a model is loaded."""
    if path is None:
        return None
    what, cure = None, "Look at the path"
    if not path.exists():
        what = "does not exist"
    elif path.is_dir():
        what = "is a folder"
        some = _files_of_adapters(path)
        if some:
            cure = f"Use {shlex.join([option.opts[-1], str(some[0])])}"
    elif not path.is_file():
        what = "is a pipe or a device"
    else:
        with open(path, "rb") as file:
            if file.read(len(_HDF5)) != _HDF5:
                what = "is no HDF5 file"
    if what is not None:
        raise UsageError(
            f"{option.opts[-1]} must be a file that finetune wrote, such as "
            f"adapters{_SUFFIX}. Received: {path}, which {what}. {cure}."
        )
    return path


def _options_of(context):
    """Return the options of the command that is running: a set of str."""
    return {name for option in context.command.params for name in option.opts}


def _files_of_adapters(path):
    """Return the files of adapters that a path is, or has: a list."""
    path = pathlib.Path(path)
    if path.is_dir():
        return sorted(path.glob(f"*{_SUFFIX}"))
    return [path] if path.name.endswith(_SUFFIX) and path.is_file() else []


def _adapters(path, option, options):
    """Return what to do with adapters, or `None` for what has none.

    Args:
        path: str or path.
        option: str, the option of the command that takes a whole model.
        options: all options of the command.
    """
    folder = pathlib.Path(path)
    if (folder / "config.json").is_file() or presets.is_run(folder):
        return None  # a whole model, whatever lies beside it
    if (folder / "adapter_config.json").is_file():
        return _Found(
            "has adapters in the format of PEFT",
            "Use those that finetune wrote",
        )
    adapters = _files_of_adapters(path)
    if not adapters:
        if (folder / OPTIONS).is_file() and (folder / "checkpoint").is_dir():
            return _Found(
                "has a run of finetune, dpo, or grpo that is not finished",
                "Finish it with the command that began it",
            )
        return None
    preset = _tuned_from(adapters[0].parent)
    if "--lora" in options:
        use = [option, preset, "--lora", str(adapters[0])]
        cure = f"Use {shlex.join(use)}"
    else:
        merge = ["--model", preset, "--lora", str(adapters[0])]
        cure = (
            f"Merge them into a folder, and give that as {option}: `kerasllm "
            f"export {shlex.join(merge)} --to keras --out NEW_FOLDER`"
        )
    what = "has adapters" if folder.is_dir() else "is a file of adapters"
    return _Found(f"{what}, and no whole model", cure)


def _tuned_from(folder):
    """Return the preset that adapters were tuned from, or a word for it."""
    try:
        options = json.loads((folder / OPTIONS).read_text(encoding="utf-8"))
        return str(options["preset"])
    except (OSError, ValueError, LookupError, TypeError):
        return "PRESET"


def _preset(name):
    """Return what to do with a preset where a run is asked for, or `None`."""
    is_name = name in (*presets.OFFLINE_PRESETS, SMOLLM2)
    is_file = name.lower().endswith(".gguf")
    if is_name or is_file or pathlib.Path(name, "config.json").is_file():
        return _Found("is a preset", f"Use {shlex.join(['--preset', name])}")
    return None


def _nothing(path):
    """Return what to do where no folder is, or `None`."""
    if path.is_dir():
        return None
    what = "is a file" if path.exists() else "does not exist"
    return _Found(what, "Look at the path")
