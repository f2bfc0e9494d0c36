"""Existing vocabularies: loading them and finding their tokens."""

import os
import pathlib

import sentencepiece

from kerasllm.checks import MissingFileError, UserError
from kerasllm.files import cache_dir, download
from kerasllm.progress import quiet

END_OF_TEXT = "<|endoftext|>"
"""The token that ends each document."""

BOOK_VOCABULARY_URL = (
    "https://hf.co/mattdangerw/spiece/resolve/main/vocabulary.proto"
)


def load_sentence_piece(source):
    """Load a SentencePiece vocabulary.

    Args:
        source: str or path of an existing `.spm`, `.model` or `.proto` file,
            or its content as `bytes`.

    Returns:
        A `keras_hub.tokenizers.SentencePieceTokenizer`, `str` to int32.

    Raises:
        MissingFileError: the file does not exist.
        UserError: it is not a SentencePiece vocabulary.
    """
    proto, name = source, "bytes"
    if isinstance(source, str | os.PathLike):
        path = pathlib.Path(source)
        if not path.is_file():
            raise MissingFileError(
                "`source` must be a vocabulary file or its bytes. Received: "
                f"{path}, which is not a file. Train one with "
                "`train_sentence_piece(files, vocabulary_size, path=...)`."
            )
        proto, name = path.read_bytes(), str(path)
    elif not isinstance(source, bytes):
        raise UserError(
            "`source` must be a path or bytes. Received: an object of type "
            f"{type(source).__name__}."
        )
    # Empty bytes parse as a vocabulary without tokens.
    problem = "it is empty" if not proto else None
    try:
        sentencepiece.SentencePieceProcessor(model_proto=proto)
    except RuntimeError as error:
        problem = str(error)
    if problem:
        raise UserError(
            "A vocabulary must be a serialized SentencePiece model. Received: "
            f"{name} of {len(proto)} bytes ({problem}). If it was downloaded, "
            "it may be incomplete: delete it and download it again."
        )
    import keras_hub

    with quiet():  # TensorFlow Text writes a line that no log level stops
        return keras_hub.tokenizers.SentencePieceTokenizer(proto)


def book_vocabulary(directory=None, sha256=None):
    """Download the chapter's vocabulary of 32,000 tokens, once.

    Args:
        directory: str or path. The folder to keep it in. Defaults to
            `vocabularies` in the cache.
        sha256: str, the expected SHA-256. `None` trusts the first complete
            download and checks each later use against it.

    Returns:
        A `keras_hub.tokenizers.SentencePieceTokenizer`, `str` to int32.

    Raises:
        EnvironmentFailure: the download failed, or the disk is full.
        UserError: the file has another hash or is not a vocabulary.

    Source: chapter 16, listing 16.2.
    """
    directory = directory or cache_dir("vocabularies")
    return load_sentence_piece(
        download(BOOK_VOCABULARY_URL, directory, sha256=sha256)
    )


def token_id_of(tokenizer, token):
    """Return the id of a token, or `None` if the vocabulary lacks it.

    For a token that it does not have, a SentencePiece tokenizer returns the id
    of the unknown token. So this function also maps the id back to a token.

    Args:
        tokenizer: a KerasHub tokenizer.
        token: str.
    """
    try:
        token_id = tokenizer.token_to_id(token)
        found = tokenizer.id_to_token(token_id)
    except (KeyError, ValueError, TypeError):
        return None
    return int(token_id) if found == token else None


def end_of_text_id(tokenizer):
    """Return the id of `<|endoftext|>`, or raise an error if there is none.

    Args:
        tokenizer: a KerasHub tokenizer.

    Returns:
        A Python int.

    Raises:
        UserError: the vocabulary lacks the token.
    """
    token_id = token_id_of(tokenizer, END_OF_TEXT)
    if token_id is None:
        raise UserError(
            f"The vocabulary must have the token {END_OF_TEXT!r}. Received: a "
            f"vocabulary of {tokenizer.vocabulary_size()} tokens without it. "
            "Train one with `train_sentence_piece`, which adds it."
        )
    return token_id
