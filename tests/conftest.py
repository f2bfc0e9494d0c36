"""What all tests share: quiet backends and a cache of their own."""

import gc
import itertools
import os
import pathlib
import signal

# Imports make millions of objects, and hardly any garbage.
gc.disable()
# A job in the background ignores Ctrl-C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Before keras is imported anywhere.
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# The same small models are built over and over: compiled once is enough.
_ROOT = pathlib.Path(__file__).parent.parent
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(_ROOT / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Most of the time goes into compiling what runs once. So it takes a quarter.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)


def _take_a_share_of_the_cores():
    """Two thread pools on the same cores wait for each other, by spinning."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw")[len("gw") :]
    if worker.isdigit() and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        if count <= len(cores):
            os.sched_setaffinity(0, cores[int(worker) :: count])


_take_a_share_of_the_cores()

import pytest  # noqa: E402

_KERAS_HOME = os.environ.get("KERAS_HOME")
_IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ


def pytest_collection_finish():
    """What is imported by now stays: no collector need look at it again."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def own_caches(tmp_path_factory):
    """An endless number of empty folders.

    `mktemp` would look through the folders of all tests for each of them.
    """
    root = tmp_path_factory.mktemp("keras")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_cache(own_caches, monkeypatch):
    """No test reads or writes the user's cache."""
    home = next(own_caches)
    home.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(home))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """A cache for what takes minutes: `$KERAS_HOME`, or one for this process.

    Two processes would train the same model in the same directory.
    """
    if _KERAS_HOME and not _IS_WORKER:
        return _KERAS_HOME
    return str(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def quick_to_quantize(monkeypatch):
    """Keras collects garbage, half a second of it, for each kernel it drops."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


@pytest.fixture
def recorded_at_once(monkeypatch):
    """Have PyTorch record a function at its first call, and not later."""
    if os.environ["KERAS_BACKEND"] == "torch":
        from kerasllm.backend import _compiled_torch

        monkeypatch.setattr(_compiled_torch, "CALLS_BEFORE_RECORDING", 0)


@pytest.fixture(scope="session")
def nbgrader():
    """Grading runs under nbgrader, which most installations lack."""
    return pytest.importorskip(
        "nbgrader", reason='grading needs `pip install -e ".[instructor]"`'
    )


@pytest.fixture(scope="session")
def tiny_untrained():
    """A Gemma 3 with random weights that takes images of 48 x 48 pixels."""
    from kerasllm import tiny_gemma
    from tests.recipes import gemma_tokenizer

    return tiny_gemma.build(
        gemma_tokenizer(),
        hidden_dim=32,
        num_layers=2,
        vision_dim=32,
    )


@pytest.fixture(scope="session")
def gemma(tiny_untrained):
    """A Gemma that says different things; what it compiles, all tests use."""
    from tests.gemmas import restless

    return restless(tiny_untrained)
