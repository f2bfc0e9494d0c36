"""Variables that start with loaded values.

A layer draws initial values for its variables, and loading replaces them. On
JAX, drawing random numbers of each shape is compiled first, and that takes
longer than all the rest of loading a small model.
"""

import keras


class LoadedValues(keras.StatelessScope):
    """A block in which a model is made and its weights are loaded.

    Within the block, new variables have no values. When it ends, each gets
    the value that was assigned to it, or else its initial one.

    Example:
    ```python
    with LoadedValues():
        backbone = keras_hub.models.Backbone.from_preset("gemma3_1b")
    ```
    """

    def __init__(self):
        super().__init__()
        self._older = []

    def add_update(self, update):
        """Note an assignment; Keras calls this for each."""
        variable, value = update
        super().add_update(update)
        if variable._initializer is None:  # it has its initial value
            self._older.append(update)
        else:
            variable._initializer = _Constant(value)

    def __exit__(self, *arguments):
        super().__exit__(*arguments)
        for variable, value in self._older:
            variable.assign(value)


class _Constant:
    """An initializer that returns a value which is there already."""

    def __init__(self, value):
        self.value = value

    def __call__(self, shape, dtype=None):
        return self.value
