"""What is installed: every file of the package, and its presets."""

import importlib.metadata
import pathlib
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

pytestmark = pytest.mark.any_backend

ROOT = pathlib.Path(__file__).parent.parent


def files_of(folder, pattern="**/*"):
    """Return the files below a folder of the checkout, as posix paths."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_each_folder_of_code_is_a_listed_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    setuptools = project["tool"]["setuptools"]
    folders = {
        str(pathlib.PurePosixPath(path).parent).replace("/", ".")
        for path in files_of("kerasllm", "**/*.py")
    }
    assert setuptools["packages"] == sorted([*folders, "kerasllm.assets"])
    assert setuptools["package-dir"] == {"kerasllm.assets": "assets"}


@pytest.mark.slow
def test_the_wheel_has_all_code_and_all_presets(tmp_path):
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(
            "building a wheel needs setuptools: `pip install setuptools`"
        )
    if int(version.partition(".")[0]) < 77:
        pytest.skip(f"pyproject.toml needs setuptools 77, this is {version}")
    # A copy, for setuptools leaves its work in the folder that it builds.
    checkout = tmp_path / "checkout"
    for folder in ("kerasllm", "assets"):
        shutil.copytree(
            ROOT / folder,
            checkout / folder,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q"]
        + ["--no-build-isolation", "--no-index", "-w", tmp_path, checkout],
        check=True,
        timeout=300,
    )
    (wheel,) = tmp_path.glob("kerasllm-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        installed = set(archive.namelist())
    assets = files_of("assets")
    assert assets
    code = files_of("kerasllm", "**/*.py")
    assert code - installed == set()
    assert {f"kerasllm/{name}" for name in assets} - installed == set()
    # And nothing else that is code: no tests, no solutions.
    assert {name for name in installed if name.endswith(".py")} == code
