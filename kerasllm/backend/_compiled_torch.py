"""Recorded functions under PyTorch."""

import operator
import threading
import warnings

import keras
import torch

from kerasllm.backend._compiled import Compiled, shapes_of, to_tensors

# Recording takes as long as about this many calls, so a function is recorded
# when that many calls have come. A short answer needs no recording.
CALLS_BEFORE_RECORDING = 50
# PyTorch's tracer patches modules of PyTorch while it records.
_RECORDING = threading.RLock()


def choose(has_variables, donates, record, shared):
    """Return the class of a compiled function."""
    return RecordedFunction if record else PlainFunction


class PlainFunction(Compiled):
    """A function that is called unchanged, without gradients."""

    def bind(self, variables=None):
        return self._run

    def _run(self, *arguments):
        with torch.no_grad():
            return self._function(*arguments)


class RecordedFunction(Compiled):
    """A function whose operations are recorded and then replayed."""

    def __init__(self, function, variables, donate):
        super().__init__(function, variables, donate)
        self._calls = {}  # how many were not recorded, by argument shapes

    def bind(self, variables=None):
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
    _share(recorded.graph)
    _fold(recorded)
    recorded.graph.eliminate_dead_code()
    recorded.recompile()
    with warnings.catch_warnings():
        # TorchScript has a successor, but it needs a C++ compiler to replay
        # operations outside Python, and inside Python it takes twice as long.
        warnings.simplefilter("ignore")
        # Tracing runs it, which may change an argument in place.
        copies = keras.tree.map_structure(
            lambda array: array if array is None else array.clone(), arguments
        )
        return torch.jit.trace(recorded, copies, check_trace=False)


_aten = torch.ops.aten
VIEWS = {_aten.view, _aten._unsafe_view, _aten.permute, _aten.unsqueeze}
VIEWS |= {_aten.transpose, _aten.t, _aten.expand, _aten.squeeze}
VIEWS |= {_aten.as_strided}
CONSTANTS = {_aten.arange, _aten.lift_fresh_copy}


def _share(graph):
    """Compute once what the layers of a model compute from the same values.

    Positions and masks are such values. What reads an array that changes in
    place, such as a cache, is left as it is.
    """
    changing = set()
    for node in reversed(graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if (schema is not None and schema.is_mutable) or (
            node in changing and _shares_memory(node)
        ):
            changing |= {node, *node.args[:1]}
    known = {}
    for node in graph.nodes:
        if not changing.isdisjoint(node.all_input_nodes):
            if _shares_memory(node):
                changing.add(node)
        elif node.op == "call_function" and node not in changing:
            text = f"{node.target} {node.args} {node.kwargs}"
            tags = getattr(node.target, "tags", ())
            if torch.Tag.nondeterministic_seeded not in tags:
                first = known.setdefault(text, node)
                if first is not node:
                    node.replace_all_uses_with(first)


def _shares_memory(node):
    """Return whether a result of a node is a view of an argument."""
    if node.target is operator.getitem:  # one of several results
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is None or any(r.alias_info for r in schema.returns)


def _fold(recorded):
    """Compute constants and views of weights once."""
    for number, node in enumerate(recorded.graph.nodes):
        if _operation(node) in VIEWS | CONSTANTS and all(
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


def _operation(node):
    """Return what a node does, whatever the types of its arguments."""
    return getattr(node.target, "overloadpacket", None)
