"""What the tour runs on."""

import dataclasses
import platform
from importlib import metadata

from kerasllm import backend


@dataclasses.dataclass(frozen=True)
class Machine:
    """The software, the device and the precision of a tour.

    Attributes:
        software: str.
        backend: str.
        device: str.
        precision: str.
    """

    software: str
    backend: str
    device: str
    precision: str

    def __str__(self):
        return f"{self.device}, {self.backend}, {self.precision}"


def this_machine():
    """Return the `Machine` that this process runs on."""
    versions = (
        f"{package} {metadata.version(package)}"
        for package in ("kerasllm", "keras", "keras-hub", backend.name())
    )
    return Machine(
        f"Python {platform.python_version()}, {', '.join(versions)}",
        backend.name(),
        backend.device_name(),
        backend.best_dtype_policy(),
    )


def write_about(report, machine, recipe):
    """Close the report: what it ran on, and how to have it again.

    Args:
        report: `LiveReport`.
        machine: `Machine`.
        recipe: name of a recipe or a `Recipe`.
    """
    report.heading("About this page")
    report.table(
        ["what", "which"],
        [
            ("device", machine.device),
            ("backend", machine.backend),
            ("precision of the mini-GPT", machine.precision),
            ("software", machine.software),
        ],
    )
    report.text(
        "Every number on this page was measured while the page was made. The "
        "intervals are 95% intervals (Wilson, 1927)."
    )
    if isinstance(recipe, str):
        report.text("This command makes the page again:")
        report.code(
            f"kerasllm tour --recipe {recipe} --backend {machine.backend} "
            "--out another-tour"
        )
