"""From the name of a preset to a model."""

import contextlib
import difflib
import functools
import json
import os
import pathlib

import keras
import keras_hub

from kerasllm import backend, files, gguf
from kerasllm.checks import UserError, check_path, shown
from kerasllm.gguf import GGUFCausalLM
from kerasllm.models import MiniGPTCausalLM  # a folder may hold one, too
from kerasllm.presets._failures import explain_failure
from kerasllm.presets._names import (
    DOCS_PRESET,
    FAMOUS,
    OFFLINE_PRESETS,
    check_address,
    is_run,
)

_MOST_NAMES = 40  # that a message lists


def preset_source(name, task=keras_hub.models.CausalLM):
    """Return what KerasHub should load: a folder or the name itself.

    Args:
        name: str or path. One of `OFFLINE_PRESETS`, `"smollm2"`, the path of
            a GGUF file, the name of a preset of KerasHub, a folder, or an
            address such as `"hf://..."`. A folder comes before a preset of
            its name; one called `tiny` is `"./tiny"`.
        task: `keras_hub.models.CausalLM`, or a subclass to take only its
            presets by name.

    Returns:
        str. For a GGUF file, a folder in the cache: the file is read here, if
        it has not been before.

    Raises:
        UserError: it is neither a folder nor the name of a preset, or a file
            that cannot be read.
        EnvironmentFailure: SmolLM2 is not installed; says how it is.
    """
    check_path("name", name)
    name = os.fspath(name)
    if name in OFFLINE_PRESETS:
        if name == DOCS_PRESET:
            _check_task(MiniGPTCausalLM, task, f"{name}, a mini-GPT")
        return str(files.assets_dir() / name)
    file = gguf.gguf_path(name)
    if file is not None:
        what = f"{shown(name, 200)}, a GGUF file with another model"
        _check_task(GGUFCausalLM, task, what)
        return str(gguf.preset_of(file))
    if os.path.isdir(name):
        if is_run(name):
            what = f"{shown(name, 200)}, the run of a mini-GPT"
            _check_task(MiniGPTCausalLM, task, what)
        # KerasHub looks for a preset first, whose name a folder may have.
        return os.path.abspath(name)
    presets = task.presets
    if "://" in name:
        check_address(name)
        return name
    if name in presets:
        return name
    raise UserError(
        f"`name` must be one of {', '.join(OFFLINE_PRESETS)} (offline), "
        f"{gguf.SMOLLM2}, a GGUF file, a folder, an address such as "
        '"hf://google/gemma-3-1b-it", or a preset '
        f"of KerasHub's {task.__name__}{_list_names(name, presets)}. "
        f"Received: {shown(name, 200)}."
    )


def _check_task(found, task, what):
    """Refuse a model that is none of those which were asked for."""
    if not issubclass(found, task):
        raise UserError(
            f"`name` must be a preset of {task.__name__}. Received: {what}. "
            "Load it with `ChatModel.from_preset`."
        )


def _list_names(name, presets):
    """Return the names of presets, or a few if they are many: a str."""
    if len(presets) <= _MOST_NAMES:
        return f": {', '.join(sorted(presets))}"
    famous = [preset for preset in FAMOUS if preset in presets]
    similar = difflib.get_close_matches(name, presets, n=5)
    return f", such as {', '.join(dict.fromkeys(similar + famous))}"


@contextlib.contextmanager
def _channels_last():
    """Build the layers in this block for images with their channels last.

    All images here are arrays (height, width, 3). `keras.json` may say
    "channels_first" for the sake of other models.
    """
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before)


@_channels_last()
def load_causal_lm(name, dtype=None, task=keras_hub.models.CausalLM):
    """Load a pretrained model.

    Args:
        name: str or path, see `preset_source`. A folder may hold what
            `causal_lm.save_to_preset` wrote, of any `CausalLM`, the finished
            run of `pretrain_mini_gpt`, or a Hugging Face checkpoint of a
            model that KerasHub knows, with its tensors named as in the
            published ones.
        dtype: a Keras dtype. Defaults to Keras's own, float32; `"bfloat16"`
            takes half the memory. A run has the one that it was trained in.
        task: see `preset_source`.

    Returns:
        A `keras_hub.models.CausalLM` with a preprocessor.

    Raises:
        UserError: there is no such preset or dtype, or the folder holds none.
        EnvironmentFailure: the preset cannot be downloaded; says what is
            missing.
    """
    check_path("name", name)
    name = os.fspath(name)
    kwargs = {}
    if dtype is not None:
        check_dtype(dtype)  # KerasHub asks for it after the download
        kwargs["dtype"] = dtype
    source = preset_source(name, task)
    if is_run(source):
        return _load_run(source, dtype)
    try:
        causal_lm = _load(source, kwargs)
    except Exception as error:
        explained = explain_failure(name, source, error)
        if explained is None:  # no fault of the preset: no memory, ...
            raise
        raise explained from error
    _correct_pixels(causal_lm, source)
    return causal_lm


def _load_run(folder, dtype):
    """Return the mini-GPT of a pretraining run."""
    if dtype is not None:
        raise UserError(
            "`dtype` must be left out for the folder of a pretraining run, "
            "which has the one that it was trained in. Received: "
            f"dtype={shown(dtype)} and {folder}."
        )
    from kerasllm.pretraining import PretrainedModel  # needed by nothing else

    return PretrainedModel.load(folder).causal_lm()


def _load(source, kwargs):
    """Load a preset, and draw no initial values that would be replaced."""
    task = keras_hub.models.CausalLM
    if not os.path.isdir(source) or _is_quantized(source):
        return task.from_preset(source, **kwargs)
    offsets = gguf.read_offsets(source)
    with backend.LoadedValues() as values:
        backbone = keras_hub.models.Backbone.from_preset(
            source, load_weights=offsets is None, **kwargs
        )
        if offsets and {v.path for v in backbone.weights} != offsets.keys():
            offsets = None  # of another version of KerasHub
            backbone = keras_hub.models.Backbone.from_preset(source, **kwargs)
        for variable in backbone.weights if offsets else ():
            read = functools.partial(
                gguf.read_value, source, offsets[variable.path], variable.shape
            )
            values.read_later(variable, read)
    # The task's own parts, such as its optimizer, have no values to load.
    return task.from_preset(source, load_weights=False, backbone=backbone)


def _is_quantized(folder):
    """Return whether the layers of a preset have dtypes of their own."""
    try:
        config = json.loads(pathlib.Path(folder, "config.json").read_text())
        dtype = config["config"]["dtype"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return isinstance(dtype, dict) and dtype["class_name"] != "DTypePolicy"


def check_dtype(dtype):
    """Return the Keras dtype policy of a name, or refuse it.

    Raises:
        UserError: there is no such policy, or it is none of floats.
    """
    try:
        policy = keras.dtype_policies.get(dtype)
        if not keras.backend.is_float_dtype(policy.variable_dtype):
            raise ValueError("not a float")
        return policy
    except (TypeError, ValueError) as error:
        raise UserError(
            '`dtype` must be a Keras dtype, such as "float32", "bfloat16" or '
            f'"mixed_bfloat16". Received: dtype={shown(dtype)}.'
        ) from error


def _correct_pixels(causal_lm, source):
    """Give a Hugging Face checkpoint the pixels that Gemma 3 was trained on.

    They lie between -1 and 1. KerasHub's converter multiplies by the standard
    deviation that the checkpoint names, where it has to divide, and white
    becomes -0.5.
    """
    converter = getattr(causal_lm.preprocessor, "image_converter", None)
    names_them = os.path.isfile(
        os.path.join(source, "preprocessor_config.json")
    )
    is_gemma = isinstance(causal_lm, keras_hub.models.Gemma3CausalLM)
    is_converted = names_them or source.startswith("hf://")
    if is_gemma and converter is not None and is_converted:
        converter.scale, converter.offset = 2 / 255, -1.0
