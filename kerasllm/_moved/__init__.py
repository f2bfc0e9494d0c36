"""Where modules of the first version have gone.

`kerasllm.__path__` ends with this folder, so `import kerasllm.losses` finds
the file `losses.py` here, which hands on the names from their new place.
"""
