"""A step of DPO: the three backends, and Transformers with the loss of TRL.

    python -m tests.benchmarks.dpo [--size small] [--turns 7] [--steps 4]

Each contestant has a process of its own and trains while the others wait: the
same shape (Llama's, with random weights, float32), batch, number of forward
passes, and Adam; with all weights, and with adapters of rank 8 on queries and
values. `dpo_worker.py` says what is in a step. The table has the median of the
milliseconds a step, and the median of the ratios within a turn with their
range. Other programs that run distort all of that; `--clock process_time`
counts processor seconds, which they distort less.
"""

import argparse
import contextlib
import statistics

from tests.benchmarks.dpo_worker import SIZES
from tests.benchmarks.training_worker import Worker

PEER = "Transformers, loss of TRL"
CONTESTANTS = {
    "PyTorch": ("torch", {}),
    "JAX": ("jax", {}),
    "TensorFlow": ("tensorflow", {}),
    PEER: ("torch", {"peer": True}),
}


def compare(arguments, lora):
    """Print a table, of all weights or of adapters alone."""
    names = [name for name in CONTESTANTS if name in arguments.only]
    job = {name: getattr(arguments, name) for name in SHARED}
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in names:
            backend, own = CONTESTANTS[name]
            workers[name] = stack.enter_context(
                Worker(
                    backend,
                    module="tests.benchmarks.dpo_worker",
                    lora=lora,
                    **job,
                    **own,
                )
            )
        seconds = {name: [] for name in names}
        for _ in range(arguments.turns):
            for name, worker in workers.items():
                seconds[name].append(worker.seconds_a_step(arguments.steps))
    print(f"\n{'adapters' if lora else 'all weights'}, {arguments.size}\n")
    print("| | ms a step | speed over Transformers | over PyTorch |")
    print("|---|---|---|---|")
    for name, values in seconds.items():
        cells = [f"{1000 * statistics.median(values):,.0f}"]
        for other in (PEER, "PyTorch"):
            pairs = zip(values, seconds.get(other, []), strict=False)
            ratios = [theirs / ours for ours, theirs in pairs]
            cells.append(
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to "
                f"{max(ratios):.2f})"
                if ratios
                else ""
            )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


SHARED = ("size", "batch_size", "threads", "clock")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--batch-size", type=int, default=8, help="pairs")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="in a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock",
        default="perf_counter",
        choices=["perf_counter", "process_time"],
    )
    parser.add_argument(
        "--only", nargs="+", default=CONTESTANTS, metavar="NAME"
    )
    parser.add_argument(
        "--tune", nargs="+", default=["all", "adapters"], metavar="WHAT"
    )
    arguments = parser.parse_args()
    for what in arguments.tune:
        compare(arguments, lora=what == "adapters")


if __name__ == "__main__":
    main()
