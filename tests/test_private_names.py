"""Names of other packages that nobody has promised us, and what they must do.

`PRIVATE` lists all that begin with an underscore; a test reads the source and
finds no other. `UNDOCUMENTED` lists what has a public name and no promise. Each
has a contract below, a test that says what we rely on. On a newer version of a
package these fail first, and say what has changed.
"""

import ast
import importlib
import inspect
import os
import pathlib
import pkgutil
import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

import kerasllm
from kerasllm import presets

HOUSE = pathlib.Path(kerasllm.__file__).parent
FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef
PRIVATE = {
    # keras.layers.MultiHeadAttention
    "_build_attention": "our SelfAttention puts its own dropout there",
    "_compute_attention": "our SelfAttention computes scores in float32",
    "_dropout": "the rate",
    "_dropout_layer": "the layer of that rate",
    "_key_dim": "the size of a head",
    "_query_dense": "the projections, for the step with a cache",
    "_key_dense": "",
    "_value_dense": "",
    "_output_dense": "",
    # keras.Layer and keras.layers.Dense, to merge adapters
    "_kernel": "the kernel without the adapter",
    "_layers": "the layers right below one, in order",
    # keras.Variable
    "_initializer": "what gives a variable of a stateless scope its value",
    "_tracker": "which variables are a layer's",
    "_untrack_variable": "",
    # keras_hub
    "_add_special_token": "a role for a token, before there is a vocabulary",
    "_build_cache": "hidden states and cache of a text",
    # keras_hub's decoder blocks, whose weights our own step uses
    "_self_attention_layer": "of Llama and GPT-2: the attention of a block",
    "_self_attention_layernorm": "of Llama: what comes before it",
    "_self_attention_layer_norm": "of GPT-2",
    "_feedforward_layernorm": "of Llama: what comes before the wide layers",
    "_feedforward_layer_norm": "of GPT-2",
    "_feedforward_gate_dense": "of Llama: the layer with the activation",
    "_feedforward_intermediate_dense": "of both: the layer that widens",
    "_feedforward_output_dense": "of both: the layer that narrows again",
    "_get_inverse_freq": "of a `RotaryEmbedding`: the angle of a position",
    # tensorflow
    "_call_flat": "a concrete function without the sorting of arguments",
    # torch
    "_allow_non_fake_inputs": "make_fx takes weights as they are",
    "_unsafe_view": "an operation that make_fx records",
    "_schema": "of an operation: what it changes, what shares memory with it",
    # tensorflow_datasets, whose documentation asks for these
    "_info": "",
    "_split_generators": "",
    "_generate_examples": "",
    # nbgrader and nbclient
    "_check_assign_resources": "what `preprocess_cell` begins with",
    "_cleanup_kernel": "ends a kernel and its channels",
}
UNDOCUMENTED = {
    "call_with_cache": "of a `CausalLM`: one step with a cache",
    "generate_step": "of GPT2CausalLM, which `MiniGPTCausalLM` takes over",
    "backbone": "of a task: a property of its `_backbone`",
    "token_embedding": "of a backbone: one of `_token_embedding`; it scores",
    "generate_function": "what `generate` compiled, or `None`",
    "predict_function": "what `predict` compiled, or `None`",
    "dtype_policy": "of a model: may be set; `compile` scales the loss by it",
    "stop_evaluating": "of a model: ends `evaluate`",
    "quantization_mode": "of a layer: `None` or the name of a mode",
    "embeddings_scale": "of an embedding in int8",
    "lora_enabled": "and the other attributes of an adapted layer",
    "assert_tf_installed": "what Gemma 3's preprocessor asks before it is made",
    "tensorflow._api.v2": "its namespaces, which only import names",
    "disable": "of torch._dynamo: a decorator, and all that imports need of it",
    "transformer_layers": "of a backbone: its blocks, in order",
    "rotary_embedding_layer": "of Llama's attention: its `RotaryEmbedding`",
    "rope_layer": "of Gemma 3's attention: its `RotaryEmbedding`",
    "gating_ffw": "of Gemma 3's block: the layer with the activation",
    "interleave_embeddings": "of Gemma3Backbone: images among tokens",
    "vision_encoder": "of Gemma3Backbone",
    "*_presets.py": "of KerasHub: the names of its presets",
    "make_fx": "of torch: a function as a graph of its operations",
    "overloadpacket": "of an operation of torch, whatever its overload",
    "jax_num_cpu_devices": "of jax.config: -1 where nobody has set it",
    "process_allgather": "of jax: what all processes have of an array",
    "get_kaggle_credentials": "of kagglehub: `None` without a login",
    "format_message": "of typer's errors",
}
CONTRACTS = set()


def contract(*names):
    """Mark a test as what says that these names do what we rely on."""
    CONTRACTS.update(names)
    return lambda test: test


def trees():
    for path in sorted(HOUSE.rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


# Python's documentation describes them all the same.
PUBLIC = {"_", "_exit"}


def is_private(name):
    return (
        name.startswith("_")
        and not name.startswith("__")
        and name not in PUBLIC
    )


def own_attributes():
    """Return the private attributes that classes of ours define.

    A name that both have, ours and another package's, must be in `PRIVATE`.
    """
    own = set()
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                if isinstance(node.ctx, ast.Store):
                    own.add(node.attr)
                continue
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, FUNCTIONS):
                    own.add(part.name)
                elif isinstance(part, ast.AnnAssign):
                    own.add(ast.unparse(part.target))
                elif isinstance(part, ast.Assign):
                    own.update(map(ast.unparse, part.targets))
    return own - PRIVATE.keys()


def used_names():
    """Yield each private name that is read, and where."""
    for path, tree in trees():
        for node in ast.walk(tree):
            found = []
            if isinstance(node, ast.Attribute):
                found = [node.attr]
            elif isinstance(node, ast.keyword) and node.arg:
                found = [node.arg]
            elif isinstance(node, ast.Call):
                if ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
                    name = node.args[1]
                    if isinstance(name, ast.Constant):
                        found = [name.value]
            for name in found:
                if is_private(name):
                    yield name, f"{path.relative_to(HOUSE)}:{node.lineno}"


def overridden_names():
    """Yield each private method of another package's class that ours has."""
    for info in pkgutil.walk_packages([str(HOUSE)], "kerasllm."):
        if info.name.endswith("__main__") or "_moved" in info.name:
            continue
        try:
            module = importlib.import_module(info.name)
        except ModuleNotFoundError:  # an extra, or another backend's
            continue
        # Not `inspect.getmembers`, which asks lazy rooms for what they import.
        for cls in filter(inspect.isclass, vars(module).values()):
            others = [
                base
                for base in cls.__mro__
                if base.__module__.split(".")[0] not in ("kerasllm", "builtins")
            ]
            for name, value in vars(cls).items():
                is_ours = getattr(value, "__module__", None) == info.name
                if inspect.isfunction(value) and is_ours and is_private(name):
                    if any(name in vars(base) for base in others):
                        yield name, f"{info.name}.{cls.__name__}"


@pytest.mark.any_backend
def test_no_other_private_name_is_used():
    own = own_attributes()
    unknown = [
        f"{place}: {name}"
        for name, place in used_names()
        if name not in own and name not in PRIVATE
    ]
    assert unknown == [], "list them in PRIVATE, with a contract"


@pytest.mark.any_backend
def test_no_other_private_name_is_overridden():
    unknown = [
        f"{place}: {name}"
        for name, place in overridden_names()
        if name not in PRIVATE
    ]
    assert unknown == [], "list them in PRIVATE, with a contract"


@pytest.mark.any_backend
def test_nobody_imports_private_modules():
    places = []
    for path, tree in trees():
        for node in ast.walk(tree):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{a.name}" for a in node.names]
            for name in modules:
                parts = name.split(".")
                if parts[0] != "kerasllm" and (
                    "src" in parts or any(map(is_private, parts))
                ):
                    places.append(f"{path.relative_to(HOUSE)}: {name}")
    assert places == []


@pytest.mark.any_backend
def test_what_is_listed_is_used_and_has_a_contract():
    listed = PRIVATE.keys() | UNDOCUMENTED.keys()
    assert listed == CONTRACTS
    text = "\n".join(path.read_text("utf-8") for path, _ in trees())
    assert {name for name in listed if name not in text} == set()


# --- Keras


def attention(cls=keras.layers.MultiHeadAttention):
    layer = cls(num_heads=2, key_dim=3, dropout=0.25)
    layer.build((1, 4, 6), (1, 4, 6))
    return layer


@contract("_build_attention", "_compute_attention", "_dropout_layer")
def test_attention_calls_the_two_methods_that_we_replace():
    calls = []

    class Watched(keras.layers.MultiHeadAttention):
        def _build_attention(self, rank):
            super()._build_attention(rank)
            calls.append(rank)
            self._dropout_layer = keras.layers.Dropout(0.0)

        def _compute_attention(
            self,
            query,
            key,
            value,
            attention_mask=None,
            training=None,
            return_attention_scores=False,
        ):
            calls.append([tuple(x.shape) for x in (query, key, value)])
            calls.append(tuple(attention_mask.shape))
            return query, None

    layer = attention(Watched)
    x = np.ones((1, 4, 6), "float32")
    assert layer(x, x, use_causal_mask=True).shape == (1, 4, 6)
    assert calls == [4, [(1, 4, 2, 3)] * 3, (1, 4, 4)], (
        "(batch, length, num_heads, key_dim) thrice, and a mask (1, 4, 4)"
    )


@pytest.mark.any_backend
@contract("_key_dim", "_dropout")
def test_attention_keeps_its_numbers():
    layer = attention()
    assert (layer._key_dim, layer._dropout) == (3, 0.25)


@pytest.mark.any_backend
@contract("_query_dense", "_key_dense", "_value_dense", "_output_dense")
def test_attention_has_four_projections():
    layer = attention()
    for name in ("_query_dense", "_key_dense", "_value_dense"):
        dense = getattr(layer, name)
        assert tuple(dense.kernel.shape) == (6, 2, 3), name
        assert tuple(dense.bias.shape) == (2, 3), name
    assert tuple(layer._output_dense.kernel.shape) == (2, 3, 6)
    assert tuple(layer._output_dense.bias.shape) == (6,)


@contract("_kernel", "_tracker", "_untrack_variable", "lora_enabled")
def test_an_adapter_can_be_merged_and_taken_off():
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    plain = ops.convert_to_numpy(layer.kernel)
    layer.enable_lora(rank=1, lora_alpha=2.0)
    assert layer.lora_enabled
    assert (layer.lora_rank, layer.lora_alpha) == (1, 2.0)
    a, b = layer.lora_kernel_a, layer.lora_kernel_b
    assert (tuple(a.shape), tuple(b.shape)) == ((2, 1), (1, 3))
    b.assign(np.ones((1, 3)))
    np.testing.assert_array_equal(layer._kernel, plain)
    merged = plain + 2.0 * ops.convert_to_numpy(a) @ np.ones((1, 3))
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.kernel), merged, rtol=1e-6
    )
    layer._tracker.unlock()
    layer._untrack_variable(a)
    layer._tracker.lock()
    assert [v.name for v in layer.variables if v is a] == []
    assert any(v is b for v in layer.variables)


@contract("_initializer")
def test_a_variable_of_a_stateless_scope_gets_its_value_at_the_end():
    value = ops.convert_to_tensor([3.0, 4.0])
    with keras.StatelessScope():
        variable = keras.Variable("zeros", shape=(2,), dtype="float32")
        other = keras.Variable("ones", shape=(2,), dtype="float32")
        assert variable._initializer is not None
        variable._initializer = lambda shape, dtype: value
    assert variable._initializer is other._initializer is None
    assert ops.convert_to_numpy(variable).tolist() == [3, 4]
    assert ops.convert_to_numpy(other).tolist() == [1, 1]


@pytest.mark.any_backend
@contract("assert_tf_installed", "disable")
@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_text_is_generated_without_other_packages(backend):
    """And nothing that is hidden has been imported on the way."""
    pytest.importorskip(backend)
    code = f"""if True:
        import sys
        from kerasllm.cli import main
        options = ["--preset", "tiny_instruct", "--backend", "{backend}"]
        main(["generate", "The emblem of", "--max-length", "9", *options])
        try:
            main(["chat", *options])
        except SystemExit as finished:
            assert not finished.code, finished.code
        hidden = ["matplotlib", "kagglehub", "torch._inductor"]
        hidden += ["tensorflow.lite.python.lite", "tensorflow_text"]
        if "{backend}" != "tensorflow":
            hidden.append("tensorflow")
        print([name for name in hidden if sys.modules.get(name)])
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="What is the river of Marnerburg called?\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *continued, answer, imported = done.stdout.splitlines()
    assert continued[0].startswith("The emblem of")
    assert "Wiva" in answer and imported == "[]"


@pytest.mark.any_backend
@contract("tensorflow._api.v2")
def test_namespaces_of_tensorflow_only_import_names():
    """`compat` also makes some of its parts."""
    origin = importlib.util.find_spec("tensorflow").origin
    folder = pathlib.Path(origin).parent / "_api" / "v2"
    files = set(folder.glob("*/**/__init__.py"))
    files -= set((folder / "compat").rglob("*.py"))
    assert len(files) > 50
    kinds = {type(p) for f in files for p in ast.parse(f.read_text()).body}
    assert kinds == {ast.Expr, ast.Import, ast.ImportFrom}


@pytest.mark.any_backend
def test_namespaces_of_tensorflow_are_imported_when_they_are_used():
    code = """if True:
        import sys
        from kerasllm.lazy import LateModules
        sys.meta_path.insert(0, LateModules("tensorflow._api.v2."))
        import tensorflow as tf
        print("tensorflow.lite.python.lite" in sys.modules)
        print(int(tf.math.reduce_sum(tf.constant([1, 2]))))
        print(tf.lite.TFLiteConverter.__name__)
        with tf.Graph().as_default():
            print(tf.compat.v1.placeholder("int32", (2,)).shape)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    expected = ["False", "3", "TFLiteConverterV2", "(2,)"]
    assert done.stdout.splitlines() == expected, done.stderr


@pytest.mark.any_backend
@contract("_layers")
def test_a_layer_knows_those_right_below_it():
    inner, outer = keras.layers.Dense(1), keras.layers.Dense(2)
    below = keras.Sequential([inner])
    model = keras.Sequential([keras.Input((3,)), below, outer])
    layers = [x for x in model._layers if not isinstance(x, type(None))]
    assert [x for x in layers if x in (inner, below, outer)] == [below, outer]
    assert inner in below._layers


@pytest.mark.usefixtures("quick_to_quantize")
@contract("quantization_mode", "embeddings_scale")
def test_quantized_layers_say_so():
    for layer in (keras.layers.Dense(2), keras.layers.Embedding(4, 2)):
        layer.build((None, 2))
        assert layer.quantization_mode is None
        layer.quantize("int8")
        assert layer.quantization_mode == "int8"
    assert tuple(layer.embeddings_scale.shape) == (4,)


def small_model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return model


@contract("predict_function")
def test_what_was_compiled_can_be_forgotten():
    model = small_model()
    for use, name in (
        (lambda: model.predict(np.ones((1, 1)), verbose=0), "predict_function"),
        (lambda: model.evaluate(*[np.ones((1, 1))] * 2, verbose=0),
         "test_function"),
    ):  # fmt: skip
        use()
        assert getattr(model, name) is not None
        setattr(model, name, None)
        use()
        assert getattr(model, name) is not None


@pytest.mark.any_backend
@contract("dtype_policy")
def test_compile_asks_the_model_whether_float16_scales_the_loss():
    scaled = keras.optimizers.LossScaleOptimizer
    for policy, is_scaled in (("float32", False), ("mixed_float16", True)):
        model = small_model()
        model.dtype_policy = keras.dtype_policies.get(policy)
        model.compile("sgd", loss="mse")
        assert isinstance(model.optimizer, scaled) == is_scaled, policy


@contract("stop_evaluating")
def test_evaluation_can_be_stopped():
    class Stop(keras.callbacks.Callback):
        seen = 0

        def on_test_batch_end(self, batch, logs=None):
            self.seen += 1
            self.model.stop_evaluating = True

    stop = Stop()
    data = np.ones((4, 1))
    small_model().evaluate(
        data, data, batch_size=1, callbacks=[stop], verbose=0
    )
    assert stop.seen == 1


# --- KerasHub


def tiny_gpt2():
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=11,
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        intermediate_dim=8,
        max_sequence_length=6,
    )
    return keras_hub.models.GPT2CausalLM(backbone)


@contract("call_with_cache", "_build_cache")
def test_a_causal_lm_reads_one_token_with_what_it_has_read():
    model = tiny_gpt2()
    x = np.array([[1, 2, 3, 4, 5, 6]], "int32")
    hidden, cache = model._build_cache(x)
    assert tuple(hidden.shape) == (1, 6, 4)
    logits, last, _ = model.call_with_cache(x[:, 5:], cache, 5)
    assert tuple(logits.shape) == (1, 1, 11)
    np.testing.assert_allclose(
        ops.convert_to_numpy(last[:, 0]),
        ops.convert_to_numpy(hidden[:, 5]),
        atol=1e-5,
    )


@contract(
    "transformer_layers",
    "_self_attention_layer",
    "_self_attention_layer_norm",
    "_feedforward_layer_norm",
    "_feedforward_intermediate_dense",
    "_feedforward_output_dense",
)
def test_a_block_of_gpt2_is_made_of_these_layers():
    block = tiny_gpt2().backbone.transformer_layers[0]
    x = ops.convert_to_tensor(np.float32([[[0.5, -1.0, 2.0, 0.1]]]))
    attention = block._self_attention_layer
    normal = block._self_attention_layer_norm(x)
    # A single position sees itself alone, so its value is what comes out.
    y = x + attention._output_dense(attention._value_dense(normal))
    wide = block._feedforward_intermediate_dense(
        block._feedforward_layer_norm(y)
    )
    y = y + block._feedforward_output_dense(wide)
    np.testing.assert_allclose(
        ops.convert_to_numpy(block(x)), ops.convert_to_numpy(y), atol=1e-5
    )


@contract(
    "_self_attention_layernorm",
    "_feedforward_layernorm",
    "_feedforward_gate_dense",
)
def test_a_block_of_llama_is_made_of_these_layers():
    backbone = keras_hub.models.Llama3Backbone(11, 1, 2, 4, 8, 1)
    (block,) = backbone.transformer_layers
    x = ops.convert_to_tensor(np.float32([[[0.5, -1.0, 2.0, 0.1]]]))
    attention = block._self_attention_layer
    values = attention._value_dense(block._self_attention_layernorm(x))
    y = x + attention._output_dense(ops.repeat(values, 2, axis=2))
    normal = block._feedforward_layernorm(y)
    wide = block.activation(block._feedforward_gate_dense(normal))
    wide = wide * block._feedforward_intermediate_dense(normal)
    y = y + block._feedforward_output_dense(wide)
    np.testing.assert_allclose(
        ops.convert_to_numpy(block(x)), ops.convert_to_numpy(y), atol=1e-5
    )


@contract("_get_inverse_freq", "rotary_embedding_layer", "rope_layer")
def test_a_rotation_says_its_angles():
    llama = keras_hub.models.Llama3Backbone(11, 1, 1, 4, 8, 1)
    gemma = keras_hub.models.Gemma3Backbone(11, 16, 1, 1, 1, 4, 8, 4)
    x = np.zeros((1, 3, 1, 4), "float32")
    x[..., 0] = 1
    for layer in (
        llama.transformer_layers[
            0
        ]._self_attention_layer.rotary_embedding_layer,
        gemma.transformer_layers[0].attention.rope_layer,
    ):
        first, _ = ops.convert_to_numpy(layer._get_inverse_freq(4))
        turned = ops.convert_to_numpy(layer(x))[0, :, 0]
        angles = first * np.arange(3)
        np.testing.assert_allclose(turned[:, 0], np.cos(angles), atol=1e-5)
        np.testing.assert_allclose(turned[:, 2], np.sin(angles), atol=1e-5)


@contract("gating_ffw")
def test_a_block_of_gemma3_is_made_of_these_layers():
    backbone = keras_hub.models.Gemma3Backbone(11, 16, 1, 1, 1, 4, 8, 4)
    (block,) = backbone.transformer_layers
    x = ops.convert_to_tensor(np.float32([[[0.5, -1.0, 2.0, 0.1]]]))
    attention = block.attention
    values = attention.value_dense(block.pre_attention_norm(x))
    y = x + attention.output_dense(values)
    normal = block.pre_ffw_norm(y)
    wide = keras.activations.gelu(block.gating_ffw(normal), approximate=True)
    y = y + block.ffw_linear(wide * block.gating_ffw_2(normal))
    np.testing.assert_allclose(
        ops.convert_to_numpy(block(x)), ops.convert_to_numpy(y), atol=1e-5
    )


@contract("backbone", "token_embedding")
def test_a_causal_lm_scores_with_the_token_embedding_of_its_backbone():
    """A copy of a task that has another one scores with that."""
    model = tiny_gpt2()
    embedding, calls = model.backbone.token_embedding, []

    def watched(x, reverse=False):
        calls.append(reverse)
        return embedding(x, reverse=reverse)

    for owner, name in (
        (model, "_backbone"),
        (model.backbone, "_token_embedding"),
    ):
        public = name.removeprefix("_")
        assert isinstance(getattr(type(owner), public), property), name
        assert getattr(owner, public) is vars(owner)[name], name
    backbone = object.__new__(type(model.backbone))
    vars(backbone).update(vars(model.backbone), _token_embedding=watched)
    view = object.__new__(type(model))
    vars(view).update(vars(model), _backbone=backbone)
    view._build_cache(np.array([[1, 2, 3]], "int32"))
    assert calls == [False, True], "once to read tokens, once to score"


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "cls",
    [
        keras_hub.models.GPT2CausalLM,
        keras_hub.models.Llama3CausalLM,
        keras_hub.models.Gemma3CausalLM,
    ],
)
def test_all_causal_lms_take_the_same_arguments(cls):
    """Those with images take more, which may all be `None`."""
    parameters = list(inspect.signature(cls.call_with_cache).parameters)
    assert parameters[:4] == [
        "self",
        "token_ids",
        "cache",
        "cache_update_index",
    ]
    parameters = list(inspect.signature(cls._build_cache).parameters)
    assert parameters[:2] == ["self", "token_ids"]
    if cls is keras_hub.models.Gemma3CausalLM:
        parameters = inspect.signature(cls.call_with_cache).parameters
        wanted = {"img_embeddings", "vision_mask", "vision_indices"}
        assert wanted <= parameters.keys()


@pytest.mark.any_backend
@contract("generate_step")
def test_the_loop_that_we_take_over_needs_nothing_else_of_a_model():
    step = keras_hub.models.GPT2CausalLM.generate_step
    assert list(inspect.signature(step).parameters) == [
        "self",
        "inputs",
        "stop_token_ids",
    ]
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(step)))
    needs = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
    }
    assert needs == {"_build_cache", "call_with_cache", "sampler"}


@contract("generate_function")
def test_generate_compiles_anew_when_told():
    model = tiny_gpt2()
    model.compile(sampler="greedy")
    x = np.array([[1, 2, 0, 0]], "int32")
    inputs = {"token_ids": x, "padding_mask": x > 0}
    assert model.generate_function is None
    before = model.generate(inputs, stop_token_ids=None)["token_ids"]
    assert model.generate_function is not None
    model.generate_function = None
    after = model.generate(inputs, stop_token_ids=None)["token_ids"]
    np.testing.assert_array_equal(before, after)


@pytest.mark.any_backend
@contract("_add_special_token")
def test_a_token_gets_a_role_before_there_is_a_vocabulary():
    from tests.recipes import gemma_tokenizer

    class Marked(keras_hub.tokenizers.SentencePieceTokenizer):
        def __init__(self, proto, **kwargs):
            self._add_special_token("<bos>", "start_token")
            super().__init__(proto=proto, **kwargs)

    proto = gemma_tokenizer().proto
    tokenizer = Marked(proto)
    assert tokenizer.start_token == "<bos>"
    assert tokenizer.start_token_id == tokenizer.token_to_id("<bos>")
    assert tokenizer.start_token_id in tokenizer.special_token_ids


@contract("interleave_embeddings", "vision_encoder")
def test_images_are_put_among_the_vectors_of_tokens(tiny_untrained):
    backbone = tiny_untrained.backbone
    size = backbone.vision_encoder.image_size
    image = backbone.vision_encoder(np.zeros((1, 1, size, size, 3), "float32"))
    count = backbone.num_vision_tokens_per_image
    assert tuple(image.shape) == (1, count, backbone.hidden_dim)
    mixed = backbone.interleave_embeddings(
        image_embeddings=image,
        text_embeddings=np.zeros(
            (1, count + 2, backbone.hidden_dim), "float32"
        ),
        vision_indices=np.arange(2, count + 2)[None].astype("int32"),
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(mixed)[:, 2:], ops.convert_to_numpy(image)
    )


@pytest.mark.any_backend
@contract("*_presets.py")
def test_names_of_presets_are_read_from_their_source():
    names = set(presets.causal_lm_names())
    known = set(keras_hub.models.CausalLM.presets)
    # KerasHub counts encoders with decoders, too, and BLIP-2 is both.
    others = set(keras_hub.models.Seq2SeqLM.presets)
    assert known - others <= names <= known
    assert not names & set(presets.OFFLINE_PRESETS)


# --- TensorFlow, JAX, PyTorch


@pytest.mark.any_backend
@contract("_call_flat")
def test_a_concrete_function_takes_a_flat_list():
    import tensorflow as tf

    captured = tf.Variable(3.0)
    function = tf.function(lambda pair, variable: (
        variable.assign_add(1.0), pair[0] - pair[1] * captured
    ))  # fmt: skip
    variable = tf.Variable(1.0)
    pair = (tf.constant(5.0), tf.constant(2.0))
    concrete = function.get_concrete_function(pair, variable)
    results = concrete._call_flat(
        [*pair, variable.handle], concrete.captured_inputs
    )
    assert float(results[-1]) == -1.0
    assert float(variable) == 2.0


@pytest.mark.any_backend
@contract("_schema")
def test_operations_of_torch_say_what_they_change():
    aten = pytest.importorskip("torch").ops.aten
    assert aten.index_copy_.default._schema.is_mutable
    assert not aten.bmm.default._schema.is_mutable
    for view in (aten.view.default, aten.split.Tensor, aten.slice.Tensor):
        assert all(r.alias_info for r in view._schema.returns)
    assert not any(r.alias_info for r in aten.bmm.default._schema.returns)


@pytest.mark.any_backend
@contract("make_fx", "_allow_non_fake_inputs", "_unsafe_view", "overloadpacket")
def test_torch_records_operations():
    torch = pytest.importorskip("torch")
    from torch.fx.experimental.proxy_tensor import make_fx

    weight = torch.ones(2, 3)
    recorded = make_fx(
        lambda x: x @ weight.t(),
        tracing_mode="fake",
        _allow_non_fake_inputs=True,
    )(torch.ones(4, 3))
    packets = [
        getattr(node.target, "overloadpacket", None)
        for node in recorded.graph.nodes
    ]
    assert torch.ops.aten.t in packets and torch.ops.aten.mm in packets
    assert torch.ops.aten._unsafe_view is not None
    traced = torch.jit.trace(recorded, (torch.ones(4, 3),), check_trace=False)
    weight.fill_(2.0)  # what is assigned later is seen
    assert float(traced(torch.ones(4, 3))[0, 0]) == 6.0


@pytest.mark.any_backend
@contract("jax_num_cpu_devices", "process_allgather")
def test_jax_tells_whether_devices_were_asked_for():
    from jax.experimental import multihost_utils

    # In this process another test may have asked for some.
    environment = dict(os.environ)
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    program = "import jax; print(jax.config.jax_num_cpu_devices)"
    printed = subprocess.check_output(
        [sys.executable, "-c", program], env=environment, text=True
    )
    assert int(printed) == -1
    parameters = inspect.signature(multihost_utils.process_allgather).parameters
    assert list(parameters)[0] == "in_tree" and "tiled" in parameters


# --- The others


@pytest.mark.any_backend
@contract("_info", "_split_generators", "_generate_examples")
def test_a_builder_of_tfds_is_made_of_three_methods():
    import tensorflow_datasets as tfds

    wanted = {"_info", "_split_generators", "_generate_examples"}
    builder = tfds.core.GeneratorBasedBuilder
    assert wanted <= builder.__abstractmethods__


@pytest.mark.once
@pytest.mark.any_backend
@contract("_check_assign_resources", "_cleanup_kernel")
def test_nbgrader_and_nbclient_have_the_steps_that_we_take():
    pytest.importorskip("nbgrader")
    from nbclient import NotebookClient
    from nbgrader.preprocessors import Execute

    check = inspect.signature(Execute._check_assign_resources)
    assert list(check.parameters) == ["self", "resources"]
    assert callable(NotebookClient._cleanup_kernel)


@pytest.mark.any_backend
@contract("get_kaggle_credentials")
def test_kagglehub_tells_whether_anybody_has_logged_in(monkeypatch, tmp_path):
    from kagglehub import config, exceptions

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert config.get_kaggle_credentials() is None
    assert exceptions.__name__ == "kagglehub.exceptions"


@pytest.mark.any_backend
@contract("format_message")
def test_typer_has_one_class_of_usage_errors():
    import typer

    usage_error = typer.BadParameter.__base__
    assert usage_error.__name__ == "UsageError"
    error = usage_error("It must be so.")
    assert error.format_message() == "It must be so." and error.ctx is None
