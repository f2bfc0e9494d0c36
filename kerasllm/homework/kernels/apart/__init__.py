"""Run one job after another, each in processes that end with it.

    grader - server - warden - worker - what the worker starts

The grader reads what the worker tells, and has the only clock that counts. The
server forks a warden for each job. The warden ends when the worker ends, or
when the grader says so, and everything that was started below it ends, too. If
the system allows it (see `_namespaces`), the worker and everything below it
see only their own processes, network, and shared memory, and keep their files
in memory of a limited size.

`_calls` calls functions of code that nobody has looked at, such as a model's.
"""

from kerasllm.homework.kernels.apart._workers import Outcome, Workers

__all__ = ["Outcome", "Workers"]
