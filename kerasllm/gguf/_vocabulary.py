"""From the vocabulary in a GGUF file to a tokenizer."""

import dataclasses
import json

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from kerasllm.checks import UserError, shown
from kerasllm.gguf._model import GGUFTokenizer
from kerasllm.prompts import template_from_jinja

# What kind of token one is, by the numbers of the format.
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
# As Llama 3 splits text before its bytes are paired.
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _as_gpt2():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _as_smollm():
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, _as_gpt2()])


def _as_llama3():
    split = pre_tokenizers.Split(Regex(_LLAMA_3), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, to_bytes])


# How text is split before its bytes are paired, by the format's names.
_SPLITTERS = {
    "smollm": _as_smollm,
    "gpt-2": _as_gpt2,
    "llama-bpe": _as_llama3,
    "llama3": _as_llama3,
    "llama-v3": _as_llama3,
}
_BEGIN_EVERY_TEXT = ("llama-bpe", "llama3", "llama-v3")


def read_tokenizer(file):
    """Return the `GGUFTokenizer` of a GGUF file.

    Args:
        file: `GGUFFile`.

    Raises:
        UserError: the vocabulary is of an unknown kind, or not whole.
    """
    of = _Metadata(file)
    if of.get("model") != "gpt2" or of.get("pre") not in _SPLITTERS:
        raise UserError(
            "The vocabulary of a GGUF file must be of byte pairs, split in "
            f"one of the ways {', '.join(_SPLITTERS)}. Received: {file.path}, "
            f"with a vocabulary {shown(of.get('model'))} split as "
            f"{shown(of.get('pre'))}. Take another model."
        )
    splitter = of.get("pre")
    tokens = of.need("tokens")
    fast = _byte_pairs(of, tokens, splitter)
    adds_start = of.get("add_bos_token", splitter in _BEGIN_EVERY_TEXT)
    bos, end = (_token(of, tokens, name) for name in ("bos", "eos"))
    if end is None:
        raise UserError(
            "A GGUF file must name the token that ends a text. Received: "
            f"{file.path}, without `tokenizer.ggml.eos_token_id`. Take "
            "another file of the model."
        )
    padding = (of.get("padding_token_id"), 0, 1)
    chat_template = of.chat_template()
    template = chat_template and template_from_jinja(chat_template, end)
    return GGUFTokenizer(
        fast,
        start_token=bos if adds_start else None,
        end_token=end,
        # KerasHub's loop would stop at padding that is the end token.
        pad_token_id=next(
            i for i in padding if i not in (None, fast.token_to_id(end))
        ),
        bos_token=bos,
        chat_template=chat_template,
        prompt_template=template and dataclasses.asdict(template),
    )


def _byte_pairs(of, tokens, splitter):
    """Return a `tokenizers.Tokenizer` of byte pairs."""
    merges = [tuple(merge.split(" ")) for merge in of.need("merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    try:
        fast = tokenizers.Tokenizer(
            models.BPE(
                vocab=vocabulary,
                merges=merges,
                # Llama 3 has whole words that no merge leads to.
                ignore_merges=_SPLITTERS[splitter] is _as_llama3,
            )
        )
    # The library raises nothing narrower for merges of unknown tokens.
    except Exception as error:
        raise UserError(
            "The merges of a vocabulary must be of pairs of its tokens. "
            f"Received: {of.path} ({error}). Download it again."
        ) from error
    fast.pre_tokenizer = _SPLITTERS[splitter]()
    fast.decoder = decoders.ByteLevel()
    kinds = of.get("token_type", ())
    added = [
        tokenizers.AddedToken(token, special=kind == _CONTROL, normalized=False)
        for token, kind in zip(tokens, kinds, strict=False)
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    fast.add_tokens(added)
    return fast


def describe_byte_pairs(tokenizer):
    """Return what a file has of a tokenizer, a dict.

    Args:
        tokenizer: `GGUFTokenizer`.

    Returns:
        dict with `tokens` and `merges`, lists of str, `kinds`, a list of int,
        and `pre`, the format's name of how text is split.

    Raises:
        UserError: text is split in a way that the format has no name for.
    """
    content = json.loads(tokenizer.tokenizer.to_str())
    splitter = content["pre_tokenizer"]
    names = [
        name
        for name, make in _SPLITTERS.items()
        if json.loads(make().__getstate__()) == splitter
    ]
    if not names:
        raise UserError(
            "`tokenizer` must split text in one of the ways "
            f"{', '.join(_SPLITTERS)}. Received: "
            f"{shown(splitter, 200)}."
        )
    tokens = tokenizer.get_vocabulary()
    kinds = dict.fromkeys(tokens, _NORMAL)
    for token in content["added_tokens"]:
        kind = _CONTROL if token["special"] else _USER_DEFINED
        kinds[token["content"]] = kind
    return {
        "pre": names[0],
        "tokens": tokens,
        "kinds": list(kinds.values()),
        "merges": [" ".join(merge) for merge in content["model"]["merges"]],
    }


def _token(of, tokens, name):
    """Return the token with a role, or `None`."""
    number = of.get(f"{name}_token_id")
    if number is None:
        return None
    if not isinstance(number, int) or not 0 <= number < len(tokens):
        raise UserError(
            "Tokens of a GGUF file must be in its vocabulary. Received: "
            f"{of.path} of {len(tokens)} tokens, whose {name} token is "
            f"{number}. Download it again."
        )
    return tokens[number]


class _Metadata:
    """What a file says of its tokenizer."""

    def __init__(self, file):
        self.path, self._metadata = file.path, file.metadata

    def get(self, name, default=None):
        return self._metadata.get(f"tokenizer.ggml.{name}", default)

    def need(self, name):
        value = self.get(name)
        if not isinstance(value, list) or not value:
            raise UserError(
                "A GGUF file must have a vocabulary. Received: "
                f"{self.path}, without `tokenizer.ggml.{name}`. Take another "
                "file of the model."
            )
        return value

    def chat_template(self):
        return self._metadata.get("tokenizer.chat_template")
