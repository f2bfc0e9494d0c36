"""How many parameters and bytes adapters save."""

import dataclasses

import numpy as np

from kerasllm.lora._layers import adapted_layers


@dataclasses.dataclass(frozen=True)
class LoraReport:
    """How much adapters save: parameters and bytes, with and without them.

    Attributes:
        trainable_parameters: int. Those of the adapters.
        total_parameters: int. Those of the model, without adapters.
        adapter_bytes: int. Size of the adapters in memory; a file has some
            thousand bytes more.
        model_bytes: int. Size of the model's weights.
        optimizer_bytes: int. Adam's two moments for what is trainable.
        full_optimizer_bytes: int. The same for the whole model.
    """

    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int
    model_bytes: int
    optimizer_bytes: int
    full_optimizer_bytes: int

    @classmethod
    def of(cls, model):
        """Count the weights of a model with adapters."""
        trainable = model.trainable_variables
        trainable_ids = {id(variable) for variable in trainable}
        frozen = [v for v in model.weights if id(v) not in trainable_ids]
        adapters = {
            id(variable)
            for _, layer in adapted_layers(model)
            for variable in (layer.lora_kernel_a, layer.lora_kernel_b)
        }
        own = frozen + [v for v in trainable if id(v) not in adapters]
        return cls(
            trainable_parameters=_size(trainable),
            total_parameters=_size(own),
            adapter_bytes=_bytes([v for v in trainable if id(v) in adapters]),
            model_bytes=_bytes(own),
            optimizer_bytes=2 * _bytes(trainable),
            full_optimizer_bytes=2 * _bytes(own),
        )

    @property
    def trainable_share(self):
        """Trainable parameters divided by those of the model: a float."""
        return self.trainable_parameters / self.total_parameters

    def __str__(self):
        rows = [
            ("trainable", self.trainable_parameters, self.total_parameters),
            ("trained, bytes", self.adapter_bytes, self.model_bytes),
            ("Adam, bytes", self.optimizer_bytes, self.full_optimizer_bytes),
        ]
        lines = [f"{'':16}{'with LoRA':>16}{'without':>16}{'share':>9}"]
        for name, some, all_ in rows:
            share = some / all_
            lines.append(f"{name:16}{some:16,}{all_:16,}{share:9.2%}")
        return "\n".join(lines)


def _size(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _bytes(variables):
    return sum(_size([v]) * _item_size(v.dtype) for v in variables)


def _item_size(dtype):
    return 2 if dtype in ("bfloat16", "float16") else np.dtype(dtype).itemsize
