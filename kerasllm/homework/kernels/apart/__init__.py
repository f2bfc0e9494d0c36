"""One job after another, each in processes of its own that end with it.

    grader - server - warden - worker - what the worker starts

The grader reads what the worker tells, and has the only clock that counts. The
server forks a warden for each job. The warden ends when the worker does, or
when the grader says so, and then nothing that was started below it is left.
Where the system can (see `_namespaces`) the worker and all below it have their
own processes, network, shared memory and files in memory of a limited size.
"""

from kerasllm.homework.kernels.apart._workers import Outcome, Workers

__all__ = ["Outcome", "Workers"]
