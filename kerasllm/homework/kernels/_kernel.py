"""The process that a submission runs in while it is graded.

    python -m kerasllm.homework.kernels._kernel CONNECTION_FILE SETTINGS_AS_JSON

It is an IPython kernel that first gives up what it does not need: memory and
time beyond its limits, all files except the libraries and its own folder,
connections, access to other processes (as far as the system can refuse it),
and the modules that the assignment forbids.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import sys
import types

# What libraries read when they are loaded.
_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin",
    "/proc",  # without capabilities, only the command lines of others
    "/sys/devices/system", "/sys/fs/cgroup", "/etc/ld.so.cache",
    "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf",
    "/etc/hosts", "/etc/mime.types", "/etc/fonts", "/etc/alternatives",
    "/dev/urandom", "/dev/random", "/dev/zero",
)  # fmt: skip
# Python's own parts of the folder that it is installed in. That folder may be
# a home or a checkout, which hold other files, too.
_INSTALLED = (
    "bin", "etc", "include", "lib", "lib32", "lib64", "share", "pyvenv.cfg"
)  # fmt: skip


class Forbidden(importlib.abc.MetaPathFinder):
    """Refuses to import modules, and says why.

    It is here for its message. A student can take it out of `sys.meta_path`,
    but the sandbox keeps the modules from being read.
    """

    def __init__(self, modules):
        self.modules = tuple(modules)

    def find_spec(self, name, path=None, target=None):
        if _is_part(name, self.modules):
            raise ImportError(
                "This assignment is written without the modules that have "
                f"what it asks for. Received: an import of `{name}`. Write it "
                "yourself."
            )
        return None


def _is_part(name, modules):
    return any(
        name == module or name.startswith(f"{module}.") for module in modules
    )


def module_files(modules):
    """Return the files and folders of modules, without importing them."""
    files = []
    for name in modules:
        spec = _find_spec(name)
        if spec is None:
            continue
        if spec.submodule_search_locations:
            files += spec.submodule_search_locations
        elif spec.has_location:
            source = pathlib.Path(spec.origin)
            # Python can import the compiled file alone.
            cache = source.parent / "__pycache__"
            files += [source, *cache.glob(f"{source.stem}.*.pyc")]
    return [str(file) for file in files if os.path.exists(file)]


def _find_spec(name):
    """Return where a module is, or `None`.

    `importlib.util.find_spec` would import the packages that a module is in.
    Some of them start threads, which `restrict` does not allow.
    """
    name, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = importlib.machinery.PathFinder.find_spec(
            name, spec.submodule_search_locations
        )
    return spec


def library_folders():
    """Return where the system, Python, and its packages have their files."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix}
    folders = {
        os.path.join(prefix, name) for prefix in prefixes for name in _INSTALLED
    }
    folders |= {
        entry
        for entry in sys.path
        if pathlib.Path(entry).name in ("site-packages", "dist-packages")
    }
    return sorted(folders.union(_SYSTEM))


def run_kernel(connection_file, settings):
    """Run a kernel without rights, in a child of this process.

    Args:
        connection_file: path of the file that says where to listen.
        settings: str, JSON of a dict with `forbidden` (names of modules),
            `private` (paths), `memory_gb`, `disk_gb`, `cpu_seconds`, `way`
            (as `find_way` returns it), and `cgroup` (path, or "" if this
            process has to watch).
    """
    from kerasllm.homework.kernels import _namespaces, _resources

    settings = json.loads(settings)
    watch = None
    if settings["cgroup"]:
        _resources.join_cgroup(settings["cgroup"])
    elif sys.platform.startswith("linux"):
        watch = _resources.Watch(settings["memory_gb"])
    # Otherwise the kernel would end, because its parent has another ID.
    os.environ.pop("JPY_PARENT_PID", None)
    status = _namespaces.run_as_child(
        settings["way"],
        _namespaces.AROUND_STUDENT,
        lambda: _serve(connection_file, settings),
        watch,
    )
    sys.exit(status)


def _serve(connection_file, settings):
    """Give up rights, then run the kernel."""
    from kerasllm.homework.kernels import _sandbox

    # Read this file now, but run it later: it needs NumPy, which starts
    # threads, and the sandbox does not restrict threads that exist already.
    servant = pathlib.Path(__file__).with_name("_remote.py")
    servant = compile(servant.read_text("utf-8"), servant.name, "exec")
    forbidden = settings["forbidden"]
    folder = os.getcwd()
    # A checkout may be below a folder of libraries, such as /usr/src/app.
    hidden = module_files(forbidden) + settings["private"]
    # The allowed parts of kerasllm, wherever it is installed.
    readable = [*library_folders(), connection_file]
    readable += module_files(["kerasllm"])
    _sandbox.limit(
        settings["memory_gb"], settings["cpu_seconds"], settings["disk_gb"]
    )
    _sandbox.restrict(readable, [folder, "/dev/null"], hidden)

    module = types.ModuleType("homework_servant")
    exec(servant, module.__dict__)
    sys.modules[module.SERVANT] = module
    for name in [*sys.modules]:
        if _is_part(name, ["kerasllm", *forbidden]):
            del sys.modules[name]
    sys.meta_path.insert(0, Forbidden(forbidden))
    sys.modules["debugpy"] = None  # a third of the start, and nobody uses it
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(
        argv=[
            "-f",
            connection_file,
            "--HistoryManager.hist_file=:memory:",
            "--log-level=ERROR",
        ]
    )


if __name__ == "__main__":
    run_kernel(*sys.argv[1:])
