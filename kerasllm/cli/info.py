"""`kerasllm info`: what is installed and what it runs on."""

import platform
import sys
from importlib import metadata

import kerasllm
from kerasllm.cli._options import BackendOption
from kerasllm.cli._start import BACKENDS, starting
from kerasllm.progress import working


def info(backend: BackendOption = None):
    """Print versions, backends, the device, the cache and the recipes."""
    print(f"kerasllm      {kerasllm.__version__}")
    print(f"python        {platform.python_version()} ({sys.executable})")
    for package in ("keras", "keras-hub", *BACKENDS):
        print(f"{package:13} {_version(package)}")
    # What follows imports Keras, which takes seconds.
    sys.stdout.flush()
    with working("Starting", at_once=False), starting(backend):
        from kerasllm import backend as running
        from kerasllm import files, recipes

    print(f"backend       {running.name()}")
    print(f"device        {running.device_name()}")
    print(f"precision     {running.best_dtype_policy()}")
    print(f"cache         {files.cache_dir()}")
    for recipe, sizes in recipes.RECIPES.items():
        print(
            f"recipe        {recipe}: vocabulary {sizes.vocabulary_size:,}, "
            f"{sizes.sequence_length} positions, {sizes.num_layers} layers of "
            f"{sizes.hidden_dim} with {sizes.num_heads} heads, batches of "
            f"{sizes.batch_size}"
        )


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
