"""The layers of a model that can have an adapter, and their names."""

import keras

from kerasllm.checks import UserError, shown

# What KerasHub, Keras's attention and ours call these layers.
TARGETS = {
    "query": ("query", "query_dense"),
    "key": ("key", "key_dense"),
    "value": ("value", "value_dense"),
    # GPT-NeoX has the three in one kernel.
    "query_key_value": ("query_key_value",),
    "output": ("attention_output", "output_dense", "attention_output_dense"),
    "feed_forward": (
        "feed_forward_1",
        "feed_forward_2",
        "ffw_gating",
        "ffw_gating_2",
        "ffw_linear",
        "feedforward_intermediate_dense",
        "feedforward_gate_dense",
        "feedforward_output_dense",
        "mlp_intermediate_dense",  # BLOOM
        "mlp_output_dense",
        "dense_h_to_4h",  # Falcon
        "dense_4h_to_h",
    ),
}
TARGETS["attention"] = sum(
    (TARGETS[part] for part in TARGETS if part != "feed_forward"), ()
)


def adapted_layers(model):
    """Return the layers of a model that have an adapter, in order.

    Returns:
        list of pairs `(key, layer)`. The key, `"007_query"`, is the same for
        all models of one architecture, and for a task and its backbone.
    """
    return [
        (key, layer)
        for key, layer in adaptable_layers(model)
        if layer.lora_enabled
    ]


def adaptable_layers(model):
    """Return all layers that can have an adapter; see `adapted_layers`."""
    if not isinstance(model, keras.Layer):
        raise UserError(
            "`model` must be a Keras model. Received: "
            f"{shown(model)}. That of a `ChatModel` is its `causal_lm`."
        )
    # Keras counts the blocks of a backbone forwards, and backwards those of a
    # backbone in a task. Here they have one order, that of the task.
    outermost = model._layers if hasattr(model, "backbone") else [model]
    layers = [
        layer
        for layer in _walk(outermost)
        if hasattr(layer, "enable_lora")
        and hasattr(layer, "kernel_initializer")  # no embedding, no backbone
    ]
    unique = list({id(layer): layer for layer in layers}.values())
    return [(f"{i:03}_{layer.name}", layer) for i, layer in enumerate(unique)]


def _walk(layers):
    """Yield layers at all depths, in the order of `_flatten_layers`."""
    for layer in layers:
        yield layer
        yield from _walk(reversed(layer._layers))


def layer_names(target):
    """Return the names of the layers that a target stands for."""
    return TARGETS.get(target, (target,)) if isinstance(target, str) else ()


def check_adapted(model):
    """Return `adapted_layers`, or refuse a model that has none."""
    layers = adapted_layers(model)
    if not layers:
        raise UserError(
            "The model must have adapters. Received: a model without. Call "
            "`enable_lora(model, rank=8)` first."
        )
    return layers


def changing_variables(model):
    """Return the variables of a model that training can change.

    Pass this function to `resumable_fit`, so that checkpoints leave out the
    frozen weights below the adapters, which may take gigabytes.

    Args:
        model: any Keras model, with or without adapters.

    Returns:
        list of `keras.Variable`, in a fixed order. Without adapters these are
        all of them: a frozen weight may be one that the layer itself updates.
    """
    if not adapted_layers(model):
        return model.variables
    return [
        variable
        for variable in model.variables
        if variable.trainable
        # The state of a random generator, a counter.
        or not keras.backend.is_float_dtype(variable.dtype)
    ]


def freeze(model):
    """Freeze all weights of a model, so that new adapters alone learn."""
    model.trainable = True
    for variable in model.variables:
        variable.trainable = False


def forget_compiled(model):
    """Drop the functions that Keras and KerasHub compiled of other weights.

    TensorFlow would go on calling them, with adapters that are merged or
    without new ones. The training step is made by `compile`.
    """
    for name in ("predict_function", "test_function", "generate_function"):
        if hasattr(model, name):
            setattr(model, name, None)
