"""The rules of the house: who may know whom, and how large a room may be.

They are read from the source, so nothing is imported and no backend starts.
"""

import ast
import functools
import graphlib
import pathlib
import re

import pytest

import kerasllm

pytestmark = pytest.mark.any_backend

HOUSE = pathlib.Path(kerasllm.__file__).parent
FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef
# From the ground up. A room imports what stands above it in this table, or in
# its own line.
FLOORS = """
checks lazy progress
files
backend distribution
corpora tokenizers pipeline prompts images
layers schedules models recipes gguf
logit_filters samplers
generation training
pretraining instructions lora
preferences
tuning reasoning presets export
chat
gemma
retrieval
toyworld
evaluation plots report
tiny_gemma
tour
cli
__main__
"""
FLOOR_OF = {
    room: floor
    for floor, rooms in enumerate(FLOORS.split("\n"))
    for room in rooms.split()
}
APART = {"homework": {"files", "checks"}}  # from all but these
FORBIDDEN = {"training": {"generation", "lora"}}

MOST_ROOMS = 10  # in a package
MOST_LINES = 400  # in a file
MOST_LINES_OF_A_FUNCTION = 60
# What is long in these is their front: a line for each argument, and the
# docstring that explains it. What they do is within the bound, too.
LONG_IN_FRONT = {
    "chat._chat_model.ask",
    "cli.asking.chat.chat",
    "cli.tuning.dpo.dpo",
    "cli.tuning.finetune.finetune",
    "cli.tuning.grpo.grpo",
    "generation._best_of_n.best_of_n",
    "generation._loops.generate",
    "generation._text_generator.beam_search",
    "generation._text_generator.generate",
    "generation._text_generator.make_sequences",
    "homework._grade.grade",
    "pipeline._windows.pretraining_dataset",
    "plots._strategies.plot_sampling_strategies",
    "preferences._pairs.of",
    "pretraining._mini_gpt.pretrain_mini_gpt",
    "pretraining._pretrain.pretrain",
    "reasoning._test_time.force_budget",
    "reasoning._word_problems.word_problems",
    "retrieval._indexing.index_folder",
    "retrieval._store.search",
    "retrieval.embedders._training.train_embedder",
    "tokenizers._training.train_sentence_piece",
    "training._fit.resumable_fit",
    "tuning._dpo.dpo",
    "tuning._finetuning.finetune",
    "tuning._logprobs.response_logprobs",
    "tuning.losses._policies.grpo_loss",
    "tuning.losses._preferences.dpo_loss",
    "tuning.reinforcement._grpo.grpo",
    "tuning.rewards._reward_training.train_reward_model",
    "tuning.rounds._prefer.prefer",
    "tuning.rounds._self_train.self_train",
}

BACKENDS = {"jax", "tensorflow", "torch"}
NAMES_BACKENDS = {
    "backend": "this is where they differ",
    "cli": "the user chooses one",
    "corpora": "their docstrings are a part of the corpus",
}
# `tf.data` is the pipeline on every backend, whatever computes.
READS_WITH_TENSORFLOW = {"instructions", "pipeline", "tiny_gemma", "tokenizers"}
READS_MESSAGES = {
    "cli._messages.message_of": "Keras writes around errors what it was doing",
    "presets._failures.explain_failure": "KerasHub has one class for all",
    "presets._failures._is_of_download": "as above",
    "presets._failures._recognize": "as do Kaggle and Hugging Face",
    "tokenizers._training._training_error": "SentencePiece has but one class",
}


def path_of(name):
    """Return the file of a module: `"training._losses"`, `"layers"`."""
    path = HOUSE.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def modules():
    """Return the syntax tree of each module by its name.

    Without `kerasllm` itself, which imports when it is asked to, and without
    the forwarders of the first version.
    """
    trees = {}
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        if parts[0] in ("_moved", "assets") or parts == ("__init__",):
            continue
        name = ".".join(part for part in parts if part != "__init__")
        trees[name or "__main__"] = ast.parse(path.read_text("utf-8"))
    return trees


def room_of(name):
    return name.split(".")[0]


def imports_of(tree):
    """Yield the full name of all that is imported, at whatever depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


@functools.cache
def graph():
    """Return which of our modules each of them imports."""
    names, edges = set(modules()), {}
    for name, tree in modules().items():
        found = set()
        for target in imports_of(tree):
            if room_of(target) != "kerasllm":
                continue
            parts = target.split(".")[1:]
            # What is imported is a module, or a name in one.
            while parts and ".".join(parts) not in names:
                parts.pop()
            if parts:
                found.add(".".join(parts))
        edges[name] = found - {name}
    return edges


def edges_between_rooms():
    for name, targets in graph().items():
        for target in sorted(targets):
            if room_of(name) != room_of(target):
                yield name, target


def test_every_room_has_its_floor():
    rooms = {room_of(name) for name in modules()}
    assert rooms == FLOOR_OF.keys() | APART.keys()


def test_imports_run_in_no_circle():
    graphlib.TopologicalSorter(graph()).prepare()  # raises a CycleError


def test_imports_go_down():
    wrong = []
    for name, target in edges_between_rooms():
        room, below = room_of(name), room_of(target)
        if room in APART:
            is_right = below in APART[room]
        elif below in APART:
            is_right = room in ("cli", "__main__")
        else:
            is_right = FLOOR_OF[below] <= FLOOR_OF[room]
        if not is_right or below in FORBIDDEN.get(room, ()):
            wrong.append(f"{name} imports {target}")
    assert wrong == []


def test_packages_are_entered_by_the_door():
    wrong = [
        f"{name} imports {target}"
        for name, target in edges_between_rooms()
        if "._" in target
    ]
    for name, tree in modules().items():
        for target in imports_of(tree):
            parts = target.split(".")
            if parts[0] != "kerasllm" or parts[1:2] == [room_of(name)]:
                continue
            if any(re.match("_[a-z]", part) for part in parts):
                wrong.append(f"{name} imports {target}")
    assert wrong == []


def test_packages_are_small():
    counts = {}
    for name in modules():
        package = name.rpartition(".")[0]
        counts[package] = counts.get(package, 0) + 1
    del counts[""]  # the rooms that stand for themselves
    assert {p: n for p, n in counts.items() if n > MOST_ROOMS} == {}


def test_files_are_short():
    lengths = {
        name: len(path_of(name).read_text("utf-8").splitlines())
        for name in modules()
    }
    assert {n: k for n, k in lengths.items() if k > MOST_LINES} == {}


def test_functions_are_short():
    long, too_long = set(), set()
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if not isinstance(node, FUNCTIONS):
                continue
            if lines_of(node, node) > MOST_LINES_OF_A_FUNCTION:
                long.add(f"{name}.{node.name}")
            first = node.body[1 if ast.get_docstring(node) else 0]
            if lines_of(first, node) > MOST_LINES_OF_A_FUNCTION:
                too_long.add(f"{name}.{node.name}")
    assert too_long == set()
    assert long - LONG_IN_FRONT == set()


def test_every_run_checks_its_arguments_first():
    """A folder, callbacks and `verbose` are told before any work begins."""
    wrong = []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if not isinstance(node, FUNCTIONS):
                continue
            arguments = {arg.arg for arg in node.args.args}
            arguments |= {arg.arg for arg in node.args.kwonlyargs}
            calls = {
                getattr(call.func, "attr", getattr(call.func, "id", None))
                for call in ast.walk(node)
                if isinstance(call, ast.Call)
            }
            is_run = {"directory", "callbacks"} <= arguments
            if is_run and "check_run" not in calls | {node.name}:
                wrong.append(f"{name}.{node.name}")
    assert wrong == []


def lines_of(first, last):
    return last.end_lineno - first.lineno + 1


def test_one_package_names_backends():
    wrong = []
    for name, tree in modules().items():
        if room_of(name) in NAMES_BACKENDS:
            continue
        found = {room_of(target) for target in imports_of(tree)}
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        found &= BACKENDS
        if room_of(name) in READS_WITH_TENSORFLOW:
            found -= {"tensorflow"}
        wrong += [f"{name} names {backend}" for backend in sorted(found)]
    assert wrong == []


def test_nothing_is_decided_by_what_an_error_says():
    """A message may be shown and wrapped. It is not compared or searched."""
    readers = set()
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS) and reads_a_message(node):
                readers.add(f"{name}.{node.name}")
    assert readers == READS_MESSAGES.keys()


def reads_a_message(function):
    """Tell whether a function asks what the text of an exception is."""
    nodes = list(ast.walk(function))
    errors = {"error", "cause", "causes", "exception"}
    errors |= {n.name for n in nodes if isinstance(n, ast.ExceptHandler)}
    texts = set()  # names of what was made of messages

    def is_message(node):
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in texts:
                return True
            shown = getattr(part, "value", None)  # of `f"{error}"`
            if isinstance(part, ast.Call):
                if ast.unparse(part.func) not in ("str", "map"):
                    continue
                shown = part.args[-1]
            elif not isinstance(part, ast.FormattedValue):
                continue
            if isinstance(shown, ast.Name) and shown.id in errors:
                return True
        return False

    for node in nodes:
        if isinstance(node, ast.Assign) and is_message(node.value):
            texts |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    searches = re.compile(r"^re\.|\.(startswith|endswith|find|index|count)$")
    return any(
        is_message(node)
        for node in nodes
        if isinstance(node, ast.Compare)
        or (
            isinstance(node, ast.Call)
            and searches.search(ast.unparse(node.func))
        )
    )
