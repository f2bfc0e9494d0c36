"""A KerasHub tokenizer based on the `tokenizers` library."""

import pathlib

import keras
import keras_hub
import numpy as np
import tokenizers

from kerasllm.checks import UserError

FILE = "tokenizer.json"


@keras.saving.register_keras_serializable(package="kerasllm")
class FastTokenizer(keras_hub.tokenizers.Tokenizer):
    """A tokenizer of the `tokenizers` library as a KerasHub layer.

    KerasHub's `BytePairTokenizer` splits all text as Llama 3 does. Other
    models split digits and white space differently, and a model is confused by
    a text that is split differently than in its training. Here, the rules are
    part of the tokenizer. They are in the file `tokenizer.json`, which the
    library and Transformers also read.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, or `None` until assets are loaded.
        start_token: str, the token before every text, or `None`.
        end_token: str, the token after every text.
        pad_token_id: int. It should not be the id of the end token.
        bos_token: str. The token of this name in a Transformers template; in
            many models it does not begin the texts.
        chat_template: str. The template of Transformers, in Jinja, or `None`.
        prompt_template: dict, the fields of the `PromptTemplate` that the
            model was trained with, or `None`.
        dtype: str. That of the ids.
        **kwargs: `name` and so on, as for every KerasHub tokenizer.
    """

    def __init__(
        self,
        tokenizer=None,
        start_token=None,
        end_token=None,
        pad_token_id=0,
        bos_token=None,
        chat_template=None,
        prompt_template=None,
        dtype="int32",
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.file_assets = [FILE]
        self.start_token = start_token
        self.end_token = end_token
        self.pad_token_id = pad_token_id
        self.bos_token = bos_token
        self.chat_template = chat_template
        self.prompt_template = prompt_template
        self.tokenizer = tokenizer

    @property
    def start_token_id(self):
        """The id of the token before every text, or `None`."""
        return self._id_of(self.start_token)

    @property
    def end_token_id(self):
        """The id of the token after every text, or `None`."""
        return self._id_of(self.end_token)

    def _id_of(self, token):
        if token is None or self.tokenizer is None:
            return None
        return self.token_to_id(token)

    @property
    def special_tokens(self):
        """The tokens that control a model and represent no text: list of str.

        If a text spells such a token, it becomes that token. Use
        `kerasllm.prompts.encode` for text that users wrote.
        """
        return list(self._control_tokens().values())

    @property
    def special_token_ids(self):
        """The ids of `special_tokens`: list of int."""
        return list(self._control_tokens())

    def _control_tokens(self):
        if self.tokenizer is None:
            return {}
        added = self.tokenizer.get_added_tokens_decoder()
        return {i: t.content for i, t in added.items() if t.special}

    def save_assets(self, dir_path):
        self.tokenizer.save(str(pathlib.Path(dir_path, FILE)), pretty=False)

    def load_assets(self, dir_path):
        path = str(pathlib.Path(dir_path, FILE))
        self.tokenizer = tokenizers.Tokenizer.from_file(path)

    def get_vocabulary(self):
        """Return all tokens, in the order of their ids: list of str."""
        ids = self.tokenizer.get_vocab(with_added_tokens=True)
        return sorted(ids, key=ids.get)

    def vocabulary_size(self):
        """Return the number of tokens: int."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def token_to_id(self, token):
        """Return the id of a token.

        Raises:
            UserError: there is no such token.
        """
        token_id = self.tokenizer.token_to_id(token)
        if token_id is None:
            raise UserError(
                f"`token` must be in the vocabulary. Received: {token!r}."
            )
        return token_id

    def id_to_token(self, id):
        """Return the token of an id.

        Raises:
            UserError: there is no such id.
        """
        size = self.vocabulary_size()
        if not 0 <= id < size:
            raise UserError(
                f"`id` must be in [0, {size}), the vocabulary. Received: {id}."
            )
        return self.tokenizer.id_to_token(int(id))

    def call(self, inputs, *args, training=None, **kwargs):
        return self.tokenize(inputs)

    def tokenize(self, inputs):
        """Turn texts into token ids.

        Args:
            inputs: str, or a list of them; or a string tensor of TensorFlow,
                also in a `tf.data` pipeline, of shape `()` or `(batch_size,)`.

        Returns:
            int32 array `(num_tokens,)`, or a list of lists of int. In a
            pipeline, a tensor or a `tf.RaggedTensor`.
        """
        if isinstance(inputs, str):
            return self._encode([inputs])[0]
        if isinstance(inputs, list | tuple):
            return [ids.tolist() for ids in self._encode(list(inputs))]
        if hasattr(inputs, "numpy"):  # a tensor of TensorFlow, with a value
            texts = inputs.numpy()
            if isinstance(texts, bytes):
                return self.tokenize(texts.decode())
            return self.tokenize([text.decode() for text in texts.tolist()])
        return self._tokenize_in_a_pipeline(inputs)

    def _encode(self, texts):
        encoded = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.array(text.ids, self.compute_dtype) for text in encoded]

    def _tokenize_in_a_pipeline(self, inputs):
        import tensorflow as tf

        def tokenize(texts):
            return tf.ragged.constant(
                self.tokenize(texts), dtype=self.compute_dtype, ragged_rank=1
            )

        batch = inputs if inputs.shape.rank else inputs[None]
        spec = tf.RaggedTensorSpec([None, None], self.compute_dtype, 1)
        ragged = tf.py_function(tokenize, [batch], Tout=spec)
        return ragged if inputs.shape.rank else ragged[0]

    def detokenize(self, inputs):
        """Turn token ids into text, special tokens included.

        Args:
            inputs: an int, or ints `(num_tokens,)` or `(batch_size,
                num_tokens)`: a list, an array or a tensor.

        Returns:
            str, or a list of them.
        """
        if hasattr(inputs, "to_list"):  # a ragged tensor of TensorFlow
            inputs = inputs.to_list()
        if not isinstance(inputs, list | tuple):
            inputs = keras.ops.convert_to_numpy(inputs).tolist()
        if isinstance(inputs, int):
            inputs = [inputs]
        if not any(isinstance(ids, list | tuple) for ids in inputs):
            ids = [int(i) for i in inputs]
            return self.tokenizer.decode(ids, skip_special_tokens=False)
        return [self.detokenize(ids) for ids in inputs]

    def get_config(self):
        return super().get_config() | {
            "start_token": self.start_token,
            "end_token": self.end_token,
            "pad_token_id": self.pad_token_id,
            "bos_token": self.bos_token,
            "chat_template": self.chat_template,
            "prompt_template": self.prompt_template,
        }
