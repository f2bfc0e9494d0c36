"""Other ways to the same numbers: byte pairs by hand, and Transformers."""

import regex
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

# As GPT-2 published it, after single digits.
_WORDS = regex.compile(
    r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)


def bytes_as_letters():
    """Return the letter of each byte in a vocabulary, as GPT-2 has it."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


def encode_by_hand(tokens, merges, control, text):
    """Tokenize with the two published rules, one merge at a time.

    Args:
        tokens: list of str.
        merges: list of str, the most important first.
        control: sequence of str, tokens that are looked for first.
        text: str.
    """
    ids = {token: number for number, token in enumerate(tokens)}
    ranks = {tuple(m.split(" ")): n for n, m in enumerate(merges)}
    letters = bytes_as_letters()
    longest_first = sorted(control, key=len, reverse=True)
    pattern = "|".join(map(regex.escape, longest_first))
    result = []
    for part in regex.split(f"({pattern})", text):
        if part in control:
            result.append(ids[part])
            continue
        for word in _split(part):
            pieces = [letters[byte] for byte in word.encode()]
            result += [ids[p] for p in _merge(pieces, ranks)]
    return result


def _split(text):
    """Yield words: digits stand alone, and divide what is around them."""
    for run in regex.split(r"(\p{N})", text):
        yield from _WORDS.findall(run)


def _merge(pieces, ranks):
    while len(pieces) > 1:
        pairs = list(zip(pieces, pieces[1:], strict=False))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        merged, i = [], 0
        while i < len(pieces):
            if tuple(pieces[i : i + 2]) == best:
                merged.append("".join(best))
                i += 2
            else:
                merged.append(pieces[i])
                i += 1
        pieces = merged
    return pieces


def library_tokenizer(metadata):
    """Return the tokenizer of the `tokenizers` library, of a file's metadata.

    Put together as in the `tokenizer.json` that SmolLM2 was published with.
    """
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = metadata["tokenizer.ggml.merges"]
    fast = tokenizers.Tokenizer(
        models.BPE(
            {token: number for number, token in enumerate(tokens)},
            [tuple(merge.split(" ")) for merge in merges],
        )
    )
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    kinds = metadata["tokenizer.ggml.token_type"]
    fast.add_special_tokens(
        [t for t, kind in zip(tokens, kinds, strict=True) if kind == 3]
    )
    return fast


def transformers_llama(weights, metadata, **options):
    """Return Transformers' Llama with some weights.

    Args:
        weights: dict of float32 arrays by Transformers' names.
        metadata: dict, that of a GGUF file.
        **options: more of `transformers.LlamaConfig`.
    """
    import torch
    import transformers

    def get(name):
        return metadata[f"llama.{name}"]

    config = transformers.LlamaConfig(
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        hidden_size=get("embedding_length"),
        intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"),
        num_attention_heads=get("attention.head_count"),
        num_key_value_heads=get("attention.head_count_kv"),
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=get("context_length"),
        tie_word_embeddings="lm_head.weight" not in weights,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **{"rope_parameters": {
            "rope_type": "default", "rope_theta": get("rope.freq_base"),
        }} | options,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    state = {name: torch.tensor(array) for name, array in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected
    model.tie_weights()
    return model


def logits_of(model, token_ids):
    """Return Transformers' logits `(batch_size, length, vocabulary_size)`."""
    import torch

    with torch.no_grad():
        return model(torch.as_tensor(token_ids)).logits.numpy()
