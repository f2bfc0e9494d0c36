"""nbgrader's autograding, with the tests in a process of their own.

nbgrader runs the tests of an assignment in the kernel of the submission. The
student's code could then read them, replace what they use, or print a score.
Here it cannot. The student's cells run in one kernel, which is sandboxed
(`_kernel`), and the instructor's cells in another, where each graded name
stands for the student's function (`_remote`).

Needs nbgrader: `pip install -e ".[instructor]"` in a clone of kerasllm.
"""

import asyncio
import contextlib
import copy
import os
import shutil
import signal
import tempfile
import threading
import time

from nbclient import NotebookClient
from nbclient.util import run_sync
from nbformat.v4 import new_notebook, new_output
from nbgrader.preprocessors import Execute
from traitlets import Any, Dict, Float, Integer, List, Unicode

from kerasllm.files import assets_dir
from kerasllm.homework._notebooks import STOPPED
from kerasllm.homework.kernels._lending import Loans
from kerasllm.homework.kernels._manager import (
    JudgeKernelManager,
    StudentKernelManager,
    environment,
    last_words,
)
from kerasllm.homework.kernels._namespaces import mount_memory
from kerasllm.homework.kernels._remote import LONGEST_MESSAGE
from kerasllm.homework.kernels._resources import remove_folder
from kerasllm.homework.shown import clean_count, clean_output

_MOST_OUTPUT = 1_000_000  # characters that a cell may print
_SHOWN = ("stream", "error", "display_data", "update_display_data",
          "execute_result")  # fmt: skip
_FEWEST_SECONDS = 1
# Seconds beyond the time of a cell. A kernel that is interrupted has this long
# to say so, whatever else it sends meanwhile.
_GRACE = 2
_START_SECONDS = 60  # that a kernel may take to answer for the first time


@run_sync
async def _within(seconds, awaitable):
    """Wait at most `seconds`, even if `awaitable` restarts its own timeout."""
    return await asyncio.wait_for(awaitable, seconds)


class Judge(NotebookClient):
    """The kernel that runs the instructor's cells."""

    def __init__(self, seconds, **kwargs):
        super().__init__(
            new_notebook(),
            kernel_manager_class=JudgeKernelManager,
            allow_errors=True,
            extra_arguments=["--log-level=ERROR"],
            interrupt_on_timeout=True,
            timeout=seconds,
            shutdown_kernel="immediate",
            on_cell_executed=self._keep_reply,
            **kwargs,
        )
        self.reply = {}
        self.folder = tempfile.mkdtemp()

    def start(
        self, student_kernel, graded, call_seconds, memory_gb, seed, backend
    ):
        """Start the kernel and define the student's functions in it.

        Args:
            student_kernel: connection file of the kernel with the submission.
            graded: the names that stand for the student's functions.
            call_seconds: int, how long one call of them may take.
            memory_gb: float, memory of the submission.
            seed: int, seed of the hidden inputs.
            backend: str, the backend of Keras if a test needs it; "" for
                Keras's own default.
        """
        self.create_kernel_manager()
        self.km.use_sockets_in(self.folder, self.folder)
        self.start_new_kernel(
            cwd=self.folder, env=environment(self.folder, backend)
        )
        self.start_new_kernel_client()
        begin = (
            "import os\n"
            "from kerasllm import homework as _homework\n"
            # Not in the environment that the process starts with, which other
            # processes can read.
            f"os.environ['KERASLLM_HOMEWORK_SEED'] = '{int(seed)}'\n"
            # Answers that are sent to it may be large, too.
            f"_homework.limit({2 * memory_gb}, 3600)\n"
            f"_student = _homework.Student({str(student_kernel)!r}, "
            f"{call_seconds})\n"
            f"for _name in {list(graded)!r}:\n"
            "    globals()[_name] = _student.function(_name)\n"
            "%xmode Minimal"
        )
        reply = _within(
            _START_SECONDS, self.async_wait_for_reply(self.kc.execute(begin))
        )
        if reply is None or reply["content"]["status"] != "ok":
            raise RuntimeError(f"The tests could not begin: {reply}")

    def lend(self, sources, names):
        """Put correct functions in place of the student's, or restore these."""
        code = f"_student.lend({sources!r}, {names!r})"
        reply = self.async_wait_for_reply(self.kc.execute(code, silent=True))
        _within(self.timeout + _GRACE, reply)

    def run(self, cell, seconds=None):
        """Run a cell; keep whether it failed, but none of its outputs.

        The kernel's reply decides. Outputs come another way and can be late,
        and a test without any would pass. With nbgrader, a warning on stderr
        would cost all points, and the last value would count as a score. A
        traceback would show the hidden tests.

        Args:
            cell: the cell.
            seconds: float, how long it may take; by default the `Judge`'s time.
        """
        self.nb.cells = [cell]
        self.reply = {}
        seconds = seconds or self.timeout
        self.timeout_func = lambda _: seconds
        _within(seconds + _GRACE, self.async_execute_cell(cell, 0))
        cell.outputs = []
        if self.reply.get("status") == "ok":
            return
        name = self.reply.get("ename", "RuntimeError")
        said = self.reply.get("evalue", "The test did not run.")
        if name == "KeyboardInterrupt":
            name = "TimeoutError"
            said = f"The calls of a test must return within {seconds:.0f} s."
        cell.outputs = [_error(name, said[:LONGEST_MESSAGE])]

    def _keep_reply(self, execute_reply, **_):
        self.reply = execute_reply["content"]

    def close(self):
        if self.km is not None:
            self._cleanup_kernel()
        remove_folder(self.folder)


class JudgedExecute(Execute):
    """nbgrader's `Execute`, with two kernels."""

    tests = Dict(help="source of each locked cell, by its id").tag(config=True)
    plan = Dict(help="what can be lent, see `plan_loans`").tag(config=True)
    graded = List(help="names that students define").tag(config=True)
    forbidden = List(help="modules that they may not use").tag(config=True)
    private = List(help="folders that they may not read").tag(config=True)
    assets = List(help="presets that they work with").tag(config=True)
    seed = Integer(0).tag(config=True)
    memory_gb = Float(4.0).tag(config=True)
    call_seconds = Integer(20).tag(config=True)
    total_seconds = Integer(600).tag(config=True)
    disk_gb = Float(1.0).tag(config=True)
    way = Unicode("", help="see `_namespaces.find_way`").tag(config=True)
    cgroup = Unicode("").tag(config=True)
    backend = Unicode("").tag(config=True)
    # nbgrader does not pass errors on, so this callable is told what the
    # machine could not do.
    tell_trouble = Any(None, allow_none=True).tag(config=True)
    judge = Any(None, allow_none=True)

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("kernel_manager_class", StudentKernelManager)
        super().__init__(*args, **kwargs)
        self.store_widget_state = False
        self.shutdown_kernel = "immediate"

    def preprocess(self, nb, resources, km=None):
        self.judge, self.ended, self.timeouts = None, None, 0
        self.group, self.has_begun = None, False
        self.loans = Loans(self.plan)
        self.deadline = time.monotonic() + self.total_seconds
        # Not below the course, which the submission may not read.
        self.folder = tempfile.mkdtemp()
        self.own_folder = tempfile.mkdtemp()
        if self.way:
            mount_memory(self.folder, self.disk_gb * 2**30)
        for name in self.assets:
            shutil.copytree(assets_dir() / name, f"{self.folder}/{name}")
        try:
            return super().preprocess(nb, resources, km)
        except Exception as error:
            # A submission's own errors end in its cells, and never here.
            self._report(error)
            raise
        finally:
            if self.judge is not None:
                self.judge.close()
            self._kill_group()
            for folder in (self.folder, self.own_folder):
                remove_folder(folder)

    def _report(self, error):
        """Report what this machine could not do."""
        said = f"{type(error).__name__}: {error}"
        if not self.has_begun:
            said = last_words(f"{self.own_folder}/log") or said
        if self.tell_trouble is not None:
            self.tell_trouble(said[:LONGEST_MESSAGE])

    async def async_start_new_kernel(self, **kwargs):
        self.km.settings = {
            "forbidden": list(self.forbidden),
            "private": list(self.private),
            "memory_gb": self.memory_gb,
            "disk_gb": self.disk_gb,
            "cpu_seconds": self.total_seconds,
            "way": self.way,
            "cgroup": self.cgroup,
        }
        self.km.use_sockets_in(self.folder, self.own_folder)
        # If the kernel does not start, the log says why.
        with open(f"{self.own_folder}/log", "wb") as log:
            await super().async_start_new_kernel(
                cwd=self.folder,
                env=environment(self.folder, self.backend),
                stderr=log,
                **kwargs,
            )
        self.group = self.km.provisioner.pgid

    start_new_kernel = run_sync(async_start_new_kernel)

    def preprocess_cell(self, cell, resources, index):
        self._check_assign_resources(resources)
        self.has_begun = True
        if cell.cell_type != "code":
            return cell, resources
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        locked = self.tests.get(grade_id)
        if locked is None:
            self._run_student(cell, index)
        elif cell.source != locked["source"]:
            raise RuntimeError(f"The cell {grade_id} is not the instructor's.")
        else:
            if locked["is_test"]:
                self._run_judge(cell, self.loans.of(grade_id))
                self.loans.record(grade_id, passed=not cell.outputs)
            else:  # a helper, which both sides may use
                self._run_judge(copy.deepcopy(cell))
                self._run_student(cell, index)
        return cell, resources

    def _run_student(self, cell, index):
        """Run a cell of the student, whatever it may do."""
        cell.outputs = []
        if self._is_over():
            cell.outputs = [_error(STOPPED, self.ended)]
            return
        self.printed = 0
        seconds = min(self.timeout, self._left())
        self.timeout_func = lambda _: seconds
        try:
            with self._killing_after(seconds + _GRACE):
                _within(seconds + _GRACE, self.async_execute_cell(cell, index))
        except Exception as error:
            # The kernel died, or does not keep to the protocol.
            reason = last_words(f"{self.own_folder}/log")
            if not reason.startswith("it "):  # `_resources.Watch`
                reason = f"it stopped here ({type(error).__name__})"
            self._stop(reason)
            cell.outputs.append(_error(STOPPED, self.ended))
        names = [out.get("ename") for out in cell.outputs]
        self.timeouts += "CellTimeoutError" in names
        if self.timeouts > 1:
            self._stop("two of its cells ran out of time")

    @contextlib.contextmanager
    def _killing_after(self, seconds):
        """Kill the student's kernel if a block takes longer than `seconds`.

        While a kernel sends without a pause, asyncio's timeouts do not fire.
        """
        timer = threading.Timer(seconds, self._kill_group)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _left(self):
        """Return the seconds that the submission has left."""
        return self.deadline - time.monotonic()

    def _is_over(self):
        """Return whether the submission has ended; end it if its time is up."""
        if self._left() < _FEWEST_SECONDS:
            self._stop(f"it ran for more than {self.total_seconds} s")
        return bool(self.ended)

    def _run_judge(self, cell, loan=None):
        """Run a cell of the instructor, with the functions it is lent."""
        cell.outputs = []
        if self._is_over():
            cell.outputs = [_error(STOPPED, self.ended)]
            return
        if self.judge is None:
            # As long as two cells, because a test makes many calls.
            self.judge = Judge(2 * self.timeout, kernel_name=self.kernel_name)
            self.judge.start(
                self.km.connection_file,
                self.graded,
                self.call_seconds,
                self.memory_gb,
                self.seed,
                self.backend,
            )
        if loan:
            self.judge.lend(*loan)
        self.judge.run(cell, min(2 * self.timeout, self._left()))
        self._forget_messages()
        if cell.outputs:
            # A call that ran out of time may still be running.
            run_sync(self.km.interrupt_kernel)()
            if cell.outputs[0].ename == "TimeoutError":
                self.timeouts += 1
            if self.timeouts > 1:
                self._stop("two of its cells or functions ran out of time")
        if loan and not self.ended:
            self.judge.lend([], [])

    @run_sync
    async def _forget_messages(self):
        """Read what a test's calls left: a full queue loses what follows."""
        channel = self.kc.iopub_channel
        for _ in range(5000):  # ZeroMQ keeps fewer
            if not await channel.msg_ready():
                return
            await channel.socket.recv_multipart()  # whatever it says

    def _stop(self, reason):
        """End the student's kernel; the points so far remain."""
        if not self.ended:
            self.ended = f"The notebook was stopped: {reason}."
            run_sync(self.km.shutdown_kernel)(now=True)

    def _kill_group(self):
        """Kill the processes that the notebook started and did not end."""
        if self.group and self.group != os.getpgid(0):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGKILL)

    def on_cell_executed(self, **kwargs):
        """Add an error that only the reply reports, in the form of an output.

        Raises:
            ValueError: the error is malformed, so IPython did not send it.
        """
        outputs = kwargs["cell"].outputs
        num_shown = len(outputs)
        super().on_cell_executed(**kwargs)
        for output in outputs[num_shown:]:
            content = clean_output("error", output)
            if content is None or len(str(content)) > _MOST_OUTPUT:
                outputs.remove(output)
                raise ValueError("malformed reply")
            output.update(content)

    def process_message(self, msg, cell, cell_index):
        """Keep what a cell shows, unless it is malformed or too much.

        Messages of widgets are ignored.
        """
        kind, content = msg["msg_type"], msg["content"]
        if kind.startswith("comm"):
            return None
        if kind in _SHOWN:
            self.printed += len(str(content))
            content = clean_output(kind, content)
            if content is None or self.printed > _MOST_OUTPUT:
                return None
        elif kind == "execute_input":
            content = clean_count(content)
        return super().process_message(
            msg | {"content": content}, cell, cell_index
        )


def _error(name, message):
    return new_output(
        "error", ename=name, evalue=message, traceback=[f"{name}: {message}"]
    )
