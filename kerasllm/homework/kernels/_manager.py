"""Kernels that depend on this Python alone, not on the shell around it.

Jupyter looks a kernel up by its name, in folders that depend on variables and
on earlier installations, and gives it all variables of the shell. Points must
depend on neither: `PYTHONOPTIMIZE` removes the assertions of the tests,
`PYTHONSTARTUP` and IPython's profile run code, and `KERAS_BACKEND` changes
what is computed.
"""

import json
import os
import pathlib
import sys
import sysconfig

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from traitlets import Dict

# At home, a kernel gets these, too. A system needs them to start a program and
# to find the libraries that a student has installed.
_OF_THE_SYSTEM = (
    "PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "HOME", "TMPDIR", "TEMP",
    "TMP", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT",
    "USERPROFILE", "HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA",
    "PROGRAMDATA", "VIRTUAL_ENV", "CONDA_PREFIX",
)  # fmt: skip
_MOST_THREADS = 4
_LONGEST_END = 2**16  # bytes of a log that are read


class OwnKernelManager(AsyncKernelManager):
    """Starts IPython in this Python, whatever kernels are installed."""

    @property
    def kernel_spec(self):
        return KernelSpec(
            argv=[
                sys.executable, "-m", "ipykernel_launcher",
                "-f", "{connection_file}",
            ],
            display_name="Python 3",
            language="python",
            # Otherwise a variable would decide how to start it.
            metadata={
                "kernel_provisioner": {"provisioner_name": "local-provisioner"}
            },
        )  # fmt: skip

    def use_sockets_in(self, folder, own_folder):
        """Have the kernel listen on socket files, and not on ports.

        All programs share the ports of a machine, and may take them all.

        Args:
            folder: path of a folder that the kernel may write to.
            own_folder: path of the folder for the connection file.
        """
        self.transport = "ipc"
        self.ip = os.path.join(folder, "kernel")
        self.connection_file = os.path.join(own_folder, "connection.json")


class StudentKernelManager(OwnKernelManager):
    """Starts `kernels._kernel` in place of the usual kernel."""

    settings = Dict()

    def format_kernel_cmd(self, extra_arguments=None):
        return [
            sys.executable, "-m", "kerasllm.homework.kernels._kernel",
            self.connection_file, json.dumps(self.settings),
        ]  # fmt: skip


class JudgeKernelManager(OwnKernelManager):
    """Starts the usual kernel without a debugger, in a third less time."""

    def format_kernel_cmd(self, extra_arguments=None):
        usual = super().format_kernel_cmd(extra_arguments)
        start = (
            "import sys; sys.modules['debugpy'] = None; "
            "from ipykernel import kernelapp; kernelapp.launch_new_instance()"
        )
        return [sys.executable, "-c", start, *usual[3:]]


def environment(folder, backend=""):
    """Return all variables of a process that grades, none of them the shell's.

    Args:
        folder: path of the only folder that the process may write to.
        backend: str, the backend of Keras; "" for Keras's own default.

    Returns:
        dict from str to str.
    """
    folder = str(folder)
    threads = min(_MOST_THREADS, _count_cores())
    variables = {
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.defpath]),
        "PYTHONDONTWRITEBYTECODE": "1",
        # Points should not depend on the order of strings in a set.
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "USER": "student",
        "LOGNAME": "student",
        "HOME": folder,
        "TMPDIR": folder,
        "IPYTHONDIR": folder,
        "JUPYTER_RUNTIME_DIR": folder,
        "KERAS_HOME": folder,
        "MPLCONFIGDIR": folder,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    if backend:
        variables["KERAS_BACKEND"] = backend
    root = pathlib.Path(__file__).parents[3]
    if root.name not in ("site-packages", "dist-packages"):
        # In a checkout, use this kerasllm, not another one that is installed.
        variables["PYTHONPATH"] = str(root)
    return variables


def home_environment(folder):
    """Return the variables of a process that checks at home, on any system.

    They are those of `environment`, except for those that say where the
    student's own system has its programs and libraries.

    Args:
        folder: path of a folder for the process's own files.
    """
    variables = environment(folder)
    for name in ("PATH", "HOME", "TMPDIR", "MPLCONFIGDIR"):
        del variables[name]
    return variables | {
        name: os.environ[name] for name in _OF_THE_SYSTEM if name in os.environ
    }


def last_words(path):
    """Return the last line that a process wrote to its log, or ""."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - _LONGEST_END))
            lines = file.read(_LONGEST_END).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = map(str.strip, lines.splitlines()[::-1])
    return next(filter(None, lines), "")


def _count_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
