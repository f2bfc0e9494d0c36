"""Recorded functions under PyTorch."""

import threading
import warnings

import torch

from kerasllm.backend._compiled import Compiled, shapes_of, to_tensors

# Recording takes as long as about this many calls, so a function is recorded
# when that many calls have come. A short answer needs no recording.
CALLS_BEFORE_RECORDING = 50
# PyTorch's tracer patches modules of PyTorch while it records.
_RECORDING = threading.RLock()


def choose(has_variables, donates, record):
    """Return the class of a compiled function."""
    return RecordedFunction if record else PlainFunction


class PlainFunction(Compiled):
    """A function that is called unchanged, without gradients."""

    def bind(self):
        return self._run

    def _run(self, *arguments):
        with torch.no_grad():
            return self._function(*arguments)


class RecordedFunction(Compiled):
    """A function whose operations are recorded and then replayed."""

    def __init__(self, function, variables, donate):
        super().__init__(function, variables, donate)
        self._calls = {}  # how many were not recorded, by argument shapes

    def bind(self):
        return self._run

    def _run(self, *arguments):
        with torch.no_grad():
            arguments = to_tensors(arguments)
            shapes = shapes_of(arguments)
            if shapes not in self._versions:
                # Threads may lose a count, which only records a bit later.
                self._calls[shapes] = self._calls.get(shapes, 0) + 1
                if self._calls[shapes] <= CALLS_BEFORE_RECORDING:
                    return self._function(*arguments)
            _, results = self._first_call(
                shapes,
                lambda: self._record(arguments),
                lambda version: version(*arguments),
            )
            return results

    def _record(self, arguments):
        with _RECORDING:
            return _record(self._counted, arguments)


def _record(function, arguments):
    """Return a PyTorch function as a flat list of its operations.

    The weights are part of it. Later assignments to them take effect.
    """
    # Importing it imports PyTorch's compiler, which takes a second.
    from torch.fx.experimental.proxy_tensor import make_fx

    recorded = make_fx(
        function, tracing_mode="fake", _allow_non_fake_inputs=True
    )(*arguments)
    aten = torch.ops.aten
    views = {aten.permute, aten.unsqueeze, aten.view, aten.transpose, aten.t}
    views |= {aten.expand, aten.squeeze, aten._unsafe_view}
    constants = {aten.arange, aten.lift_fresh_copy}
    for number, node in enumerate(recorded.graph.nodes):
        packet = getattr(node.target, "overloadpacket", None)
        if packet in views | constants and all(
            source.op == "get_attr" for source in node.all_input_nodes
        ):
            # A view of a weight also sees later assignments to the weight.
            value = node.target(
                *torch.fx.map_arg(
                    node.args, lambda source: getattr(recorded, source.target)
                ),
                **node.kwargs,
            )
            recorded.register_buffer(f"folded_{number}", value)
            with recorded.graph.inserting_before(node):
                folded = recorded.graph.get_attr(f"folded_{number}")
            node.replace_all_uses_with(folded)
    recorded.graph.eliminate_dead_code()
    recorded.recompile()
    with warnings.catch_warnings():
        # TorchScript has a successor, but it needs a C++ compiler to replay
        # operations outside Python, and inside Python it takes twice as long.
        warnings.simplefilter("ignore")
        return torch.jit.trace(recorded, arguments, check_trace=False)
