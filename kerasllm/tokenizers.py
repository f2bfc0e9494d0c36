r"""Vocabularies: train one, load one, or download the chapter's.

A vocabulary of this package gives every text back exactly as it was
(indentation, double spaces, tabs, carriage returns, emoji), because nothing is
normalized and a character that has no piece falls back to its UTF-8 bytes. One
character is the exception: SentencePiece writes a space as U+2581 inside its
pieces, so a U+2581 in a text comes back as a space.

KerasHub's `detokenize` takes a list of Python ints, an array or a tensor, but
no list of NumPy ints: write `tokenizer.detokenize(np.array(token_ids))`.
"""

import io
import os
import pathlib
import re

import keras_hub
import sentencepiece
import tensorflow as tf

from kerasllm import backend
from kerasllm import files as whole_files

backend.keep_tensorflow_off_gpus()

END_OF_TEXT = "<|endoftext|>"
"""The token that ends each document."""

BOOK_VOCABULARY_URL = (
    "https://hf.co/mattdangerw/spiece/resolve/main/vocabulary.proto"
)


def train_sentence_piece(
    files,
    vocabulary_size,
    *,
    special_tokens=(END_OF_TEXT,),
    control_tokens=None,
    path=None,
    model_type="unigram",
    sample_bytes=4_000_000,
):
    r"""Train a SentencePiece vocabulary on a corpus.

    Newlines and special tokens are single tokens and never part of another
    one. The same corpus and arguments give the same vocabulary, byte for byte.

    Args:
        files: list of shard paths (a document a line, newlines escaped as
            `\n`), or a finite `tf.data.Dataset` of documents (scalar strings).
            Documents are read one by one and never held together.
        vocabulary_size: int, the number of tokens. 259 go to bytes, newline
            and SentencePiece's own, some 100 to the alphabet.
        special_tokens: sequence of str. Tokens that text is not cut within.
        control_tokens: dict with the keys `"pad"`, `"eos"`, `"bos"` and
            `"unk"`, str, for models that want tokens for these purposes.
            Their ids are their places in the dict. No text becomes one of
            them. `None` leaves SentencePiece its own.
        path: str or path. Where to save the vocabulary; `None` saves nothing.
        model_type: `"unigram"` or `"bpe"`. At 4,096 tokens both need equally
            many tokens for a text (3.2 bytes each on docstrings, 3.55 on web
            text). BPE is trained several times faster, seconds are saved once;
            unigram tokenizes twice as fast, and that is saved at every use.
        sample_bytes: int. A larger corpus is thinned to about so many bytes,
            lines taken at even distances. 4 MB of 17 cost 0.4% in tokens.

    Returns:
        A `keras_hub.tokenizers.SentencePieceTokenizer`, `str` to int32.

    Raises:
        FileNotFoundError: a shard is missing.
        ValueError: an argument is out of range, the corpus is empty, is not
            UTF-8, or does not fit the vocabulary size.

    Source: Kudo, 2018, arXiv:1804.10959 (unigram); Kudo and Richardson, 2018,
    arXiv:1808.06226 (SentencePiece); chapter 16, listing 16.2.
    """
    symbols = _check_symbols(special_tokens)
    if not isinstance(vocabulary_size, int) or vocabulary_size < 1:
        raise ValueError(
            "`vocabulary_size` must be a positive int. Received: "
            f"vocabulary_size={vocabulary_size!r}. 4096 suits a small corpus, "
            "32000 is the chapter's."
        )
    if model_type not in ("unigram", "bpe"):
        raise ValueError(
            '`model_type` must be "unigram" or "bpe". Received: '
            f"model_type={model_type!r}."
        )
    if sample_bytes < 1:
        raise ValueError(
            "`sample_bytes` must be at least 1. Received: "
            f"sample_bytes={sample_bytes!r}. The default is 4 MB."
        )
    if not isinstance(files, tf.data.Dataset):
        files = check_shards(files)
    share = sample_bytes / max(_count_bytes(files), 1)
    model = io.BytesIO()
    sentences = _Watched(_sample_lines(_read_documents(files), share))
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocabulary_size,
            model_type=model_type,
            user_defined_symbols=symbols,
            **_control_arguments(control_tokens),
            # Everything that an exact round trip needs.
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            # Code is indented: runs of spaces as one token save 8 to 12%.
            allow_whitespace_only_pieces=True,
            # EM starts from so many pieces; the default, a million, takes
            # twice the time for the same tokens.
            seed_sentencepiece_size=max(24 * vocabulary_size, 50_000),
            # Sums are taken thread by thread: another number of threads would
            # round differently and give another vocabulary.
            num_threads=16,
            minloglevel=2,
        )
    except RuntimeError as error:
        if sentences.error is not None:
            raise sentences.error from None
        raise _training_error(vocabulary_size, error) from error
    if path is not None:
        with whole_files.whole_file(path, "wb") as file:
            file.write(model.getvalue())
    return load_sentence_piece(model.getvalue())


def load_sentence_piece(source):
    """Load a SentencePiece vocabulary.

    Args:
        source: str or path of an existing `.spm`, `.model` or `.proto` file,
            or its content as `bytes`.

    Returns:
        A `keras_hub.tokenizers.SentencePieceTokenizer`, `str` to int32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a SentencePiece vocabulary.
    """
    proto, name = source, "bytes"
    if isinstance(source, str | os.PathLike):
        path = pathlib.Path(source)
        if not path.is_file():
            raise FileNotFoundError(
                "`source` must be a vocabulary file or its bytes. Received: "
                f"{path}, which is no file. Train one with "
                "`train_sentence_piece(files, vocabulary_size, path=...)`."
            )
        proto, name = path.read_bytes(), str(path)
    elif not isinstance(source, bytes):
        raise ValueError(
            "`source` must be a path or bytes. Received: an object of type "
            f"{type(source).__name__}."
        )
    # Empty bytes parse as a vocabulary of no tokens.
    problem = "it is empty" if not proto else None
    try:
        sentencepiece.SentencePieceProcessor(model_proto=proto)
    except RuntimeError as error:
        problem = str(error)
    if problem:
        raise ValueError(
            "A vocabulary must be a serialized SentencePiece model. Received: "
            f"{name} of {len(proto)} bytes ({problem}). If it was downloaded, "
            "it may be cut short: delete it and download it again."
        )
    return keras_hub.tokenizers.SentencePieceTokenizer(proto)


def book_vocabulary(directory=None, sha256=None):
    """Download the chapter's vocabulary of 32,000 tokens, once.

    Args:
        directory: str or path. The folder to keep it in; by default
            `vocabularies` in the cache.
        sha256: str, the expected SHA-256. `None` trusts the first complete
            download and checks each later use against it.

    Returns:
        A `keras_hub.tokenizers.SentencePieceTokenizer`, `str` to int32.

    Raises:
        OSError: the network or the disk does not let it through.
        ValueError: the file has another hash or is no vocabulary.

    Source: chapter 16, listing 16.2.
    """
    directory = directory or whole_files.cache_dir("vocabularies")
    return load_sentence_piece(
        whole_files.download(BOOK_VOCABULARY_URL, directory, sha256=sha256)
    )


def token_id_of(tokenizer, token):
    """Return the id of a token, or `None` if the vocabulary lacks it.

    A SentencePiece tokenizer answers for a token that it does not have with
    the id of the unknown token, so the way back is checked too.

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
    """Return the id of `<|endoftext|>`, or say that there is none.

    Args:
        tokenizer: a KerasHub tokenizer.

    Returns:
        A Python int.

    Raises:
        ValueError: the vocabulary lacks the token.
    """
    token_id = token_id_of(tokenizer, END_OF_TEXT)
    if token_id is None:
        raise ValueError(
            f"The vocabulary must have the token {END_OF_TEXT!r}. Received: a "
            f"vocabulary of {tokenizer.vocabulary_size()} tokens without it. "
            "Train one with `train_sentence_piece`, which adds it."
        )
    return token_id


def check_shards(files):
    """Return shard paths as a list of str, once all of them exist.

    Args:
        files: list of str or paths; one path stands for a list of one.

    Raises:
        ValueError: the list is empty.
        FileNotFoundError: a shard is not there, or is a folder.
    """
    if isinstance(files, str | os.PathLike):
        files = [files]
    files = [os.fspath(file) for file in files]
    if not files:
        raise ValueError(
            "`files` must name at least one shard. Received: an empty list. "
            "`kerasllm.corpora.local_docs()` returns the shards of a corpus "
            "that every installation carries."
        )
    for file in files:
        if not os.path.isfile(file):
            raise FileNotFoundError(
                f"`files` must be paths of text files. Received: {file!r}, "
                "which is no file. `kerasllm.corpora.text_shards(paths)` makes "
                "shards of your own files and folders."
            )
    return files


class _Watched:
    """An iterable that keeps the error that its source raised.

    SentencePiece turns whatever an iterator raises into its own error.
    """

    def __init__(self, source):
        self.source = source
        self.error = None

    def __iter__(self):
        try:
            yield from self.source
        except Exception as error:
            self.error = error
            raise


def _check_symbols(special_tokens):
    if isinstance(special_tokens, str):
        special_tokens = [special_tokens]
    symbols = ["\n", *special_tokens]
    # SentencePiece never finds a symbol that has a space.
    usable = all(symbol and " " not in symbol for symbol in symbols)
    if len(set(symbols)) < len(symbols) or not usable:
        raise ValueError(
            "`special_tokens` must be distinct, not empty and without spaces, "
            "and newline is one already. Received: "
            f"special_tokens={special_tokens!r}. Write <two_words>, for "
            "example."
        )
    return symbols


def _control_arguments(control_tokens):
    """Return the arguments of SentencePiece that set control tokens."""
    arguments = {}
    for token_id, (role, piece) in enumerate((control_tokens or {}).items()):
        arguments[f"{role}_id"] = token_id
        arguments[f"{role}_piece"] = piece
    return arguments


def _count_bytes(files):
    if isinstance(files, tf.data.Dataset):
        check_documents(files)
        return int(
            files.reduce(
                tf.constant(0, "int64"),
                lambda total, text: (
                    total + tf.cast(tf.strings.length(text), "int64")
                ),
            )
        )
    return sum(os.path.getsize(file) for file in files)


def check_documents(dataset):
    """Raise unless a `tf.data.Dataset` holds documents and has an end.

    Args:
        dataset: `tf.data.Dataset` whose elements should be scalar strings.

    Raises:
        ValueError: its elements are something else, or it repeats for ever.
    """
    spec = dataset.element_spec
    if spec != tf.TensorSpec((), tf.string):
        raise ValueError(
            "A data set of documents must have scalar strings as elements. "
            f"Received: {spec}. Take the text out of each element with `map`, "
            "and take batches apart with `unbatch`."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "A data set of documents must have an end. Received: one that "
            "repeats for ever. Leave out `repeat()`."
        )


def _read_documents(files):
    r"""Yield the documents of a corpus as str, newlines restored."""
    if isinstance(files, tf.data.Dataset):
        for number, text in enumerate(files.as_numpy_iterator()):
            yield _decode(text, f"document {number} of the data set")
        return
    for path in files:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield _decode(line.rstrip(b"\n"), f"{path}, line {number}")


def _decode(text, place):
    try:
        return text.decode("utf-8").replace("\\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Documents must be UTF-8. Received: {place}, {error}. Convert "
            "them, for example with `iconv -t UTF-8`."
        ) from error


def _sample_lines(documents, share):
    """Yield about a `share` of all lines, at even distances."""
    # The trainer drops, with a warning at most, sentences that hold a tab or
    # a NUL, and sentences of more than 4,192 bytes; and a long line that
    # repeats itself takes it a time that grows with the square. So lines are
    # cut. A word that is cut in two once in 1,000 characters does no harm.
    due = 1.0  # however small the share, the first line is taken
    for document in documents:
        for line in re.findall("[^\n\t\0]{1,1000}", document):
            if due >= 1:
                due -= 1
                yield line
            due += min(share, 1.0)


def _training_error(vocabulary_size, error):
    """Return the `ValueError` that says why training was impossible."""
    message = str(error)
    highest = re.search(r"a value <= (\d+)", message)
    lowest = re.search(r"\d+ vs (\d+)", message)
    if "sentences_.empty()" in message:
        reason = "a corpus without text. Look into the files"
    elif highest:
        reason = (
            f"vocabulary_size={vocabulary_size} for a corpus that supports at "
            f"most {highest[1]}. Take a smaller one or more text"
        )
    elif lowest:
        reason = (
            f"vocabulary_size={vocabulary_size} for a corpus whose alphabet "
            f"alone needs {lowest[1]}. Take a larger one"
        )
    else:
        reason = f"vocabulary_size={vocabulary_size} and the error: {message}"
    return ValueError(
        f"The corpus must fit the vocabulary size. Received: {reason}."
    )
