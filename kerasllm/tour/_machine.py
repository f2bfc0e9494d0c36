"""Before the first stage: what the tour runs on."""

import platform
from importlib import metadata

from kerasllm import backend


def report_machine(report):
    """Name the software, the device and the precision."""
    versions = (
        f"{package} {metadata.version(package)}"
        for package in ("kerasllm", "keras", "keras-hub", backend.name())
    )
    software = f"Python {platform.python_version()}, {', '.join(versions)}"
    report.table(
        ["what", "which"],
        [
            ("software", software),
            ("backend", backend.name()),
            ("device", backend.device_name()),
            ("precision", backend.best_dtype_policy()),
            ("the same again", "kerasllm info"),
        ],
    )
