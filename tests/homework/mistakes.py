"""Mistakes that students make, in the assignments' own code."""

# A mistake that students make, and the first test that must notice.
MISTAKES = {
    "words counted once": (
        "counts[pair] += count", "counts[pair] += 1", "test_pair_counts"
    ),
    "overlapping merges": ("i += 2", "i += 1", "test_merge_pair"),
    "a list for a tuple": (
        "return tuple(merged)", "return merged", "test_merge_pair"
    ),
    "ties to the largest": (
        "min(counts, key=lambda pair: (-counts[pair], pair))",
        "max(counts, key=lambda pair: (counts[pair], pair))",
        "test_train_bpe_small",
    ),
    "pairs that occur once": (
        "max(counts.values()) < 2", "max(counts.values()) < 1",
        "test_train_bpe_small",
    ),
    "counts lost in a merge": (
        "merged_words[merge_pair(symbols, best)] += count",
        "merged_words[merge_pair(symbols, best)] = 1",
        "test_train_bpe_oracle",
    ),
    "merges in the wrong order": (
        "for pair in merges:\n                if",
        "for pair in reversed(merges):\n                if",
        "test_encode",
    ),
    "ids without room for the end": ("257 + i)", "256 + i)", "test_encode"),
    "strict decoding": ('errors="replace"', 'errors="strict"',
                        "test_round_trip"),
    "no end after the last": (
        "for token in [*ids, end_id]]",
        "for token in [*ids, end_id]][:-1]",
        "test_pack",
    ),
    "windows that overlap": (
        "length = sequence_length + 1\n    num",
        "length = sequence_length + 1\n    stream = [t for i in range(0, "
        "len(stream) - length, sequence_length) for t in "
        "stream[i : i + length]]\n    num",
        "test_make_windows",
    ),
    "targets that are inputs": (
        "windows[:, :-1], windows[:, 1:]",
        "windows[:, :-1], windows[:, :-1]",
        "test_make_windows",
    ),
    "no shuffling": (
        "np.random.default_rng(seed).permutation(len(x))",
        "np.arange(len(x))",
        "test_make_batches",
    ),
    "the same order for all seeds": (
        "default_rng(seed)", "default_rng(0)", "test_make_batches"
    ),
    "targets left behind": (
        "y[order[i : i + batch_size]]", "y[i : i + batch_size]",
        "test_make_batches",
    ),
    "Python's hash": (
        'int.from_bytes(digest[:8], "big") / 2**64',
        "hash(text) % 1000 / 1000",
        "test_held_out_number",
    ),
    "a split by position": (
        "held_out_number(text) < fraction",
        "len(train) > 4 * len(validation)",
        "test_split_documents",
    ),
    "each document once": (
        "for text in documents:", "for text in dict.fromkeys(documents):",
        "test_split_documents",
    ),
    "the last batch forgotten": (
        "-(-windows // batch_size)", "windows // batch_size",
        "test_count_batches",
    ),
    "counting with floats": (
        "divmod(num_tokens, sequence_length + 1)",
        "int(num_tokens * (1 / (sequence_length + 1))), "
        "num_tokens % (sequence_length + 1)",
        "test_count_batches",
    ),
}  # fmt: skip


# The same for the assignment about adapters.
ADAPTER_MISTAKES = {
    "a change at the start": (
        'initializer="zeros"', 'initializer="ones"', "test_LoraLinear"
    ),
    "A of zeros": (
        'initializer="glorot_uniform"', 'initializer="zeros"',
        "test_LoraLinear",
    ),
    "A of ones": (
        'initializer="glorot_uniform"', 'initializer="ones"',
        "test_LoraLinear",
    ),
    "a matrix that is trained": (
        "shape=kernel.shape, trainable=False", "shape=kernel.shape",
        "test_LoraLinear",
    ),
    "alpha not divided": (
        "else lora_alpha / rank", "else lora_alpha", "test_LoraLinear"
    ),
    "alpha of one": (
        "1.0 if lora_alpha is None", "1.0 / rank if lora_alpha is None",
        "test_LoraLinear",
    ),
    "merged without alpha": (
        "layer.kernel + layer.scale * change", "layer.kernel + change",
        "test_merge",
    ),
    "a product for a sum": (
        "rank * sum(shapes[name])",
        "rank * shapes[name][0] * shapes[name][1]",
        "test_lora_costs",
    ),
    "one moment": (
        "2 * bytes_per_number * trainable", "bytes_per_number * trainable",
        "test_lora_costs",
    ),
    "always four bytes": (
        "2 * bytes_per_number * parameters", "8 * parameters",
        "test_lora_costs",
    ),
    "no BOS": (
        "return [BOS, *before", "return [*before", "test_encode_prompt"
    ),
    "forged special tokens": (
        "*tokenize(request)", "*tokenize(request, marks=True)",
        "test_encode_prompt",
    ),
    "no line break": (
        "<start_of_turn>model\\n", "<start_of_turn>model",
        "test_encode_prompt",
    ),
    "no end": (
        "*tokenize(answer), END_OF_TURN]", "*tokenize(answer)]",
        "test_encode_row",
    ),
    "forged special tokens in an answer": (
        "*tokenize(answer), END", "*tokenize(answer, marks=True), END",
        "test_encode_row",
    ),
    "no shift": ("y[i, :end] = ids[1:]", "y[i, :end] = ids[:-1]",
                 "test_make_batch"),
    "weights one too late": (
        "weights[i, prompt_length - 1 : end]", "weights[i, prompt_length:end]",
        "test_make_batch",
    ),
    "padding that counts": (
        "weights[i, prompt_length - 1 : end]",
        "weights[i, prompt_length - 1 :]",
        "test_make_batch",
    ),
    "prompts that count": (
        "weights[i, prompt_length - 1 : end]", "weights[i, :end]",
        "test_make_batch",
    ),
    "a position too few": (
        "len(row[0]) - 1 <= length", "len(row[0]) <= length",
        "test_make_batch",
    ),
    "examples that are cut": (
        "short = [row for row in rows if len(row[0]) - 1 <= length]",
        "short = [(ids[: length + 1], n) for ids, n in rows]",
        "test_make_batch",
    ),
    "examples lost in silence": (
        "weights, len(rows) - len(short)", "weights, 0", "test_make_batch"
    ),
    "a mean over padding": (
        "/ ops.where(total > 0, total, 1.0)", "/ ops.size(weights)",
        "test_masked_loss",
    ),
    "divided by nothing": (
        "/ ops.where(total > 0, total, 1.0)", "/ total", "test_masked_loss"
    ),
    "logarithm of a softmax": (
        "ops.log_softmax(logits, axis=-1)",
        "ops.log(ops.softmax(logits, axis=-1))",
        "test_masked_loss",
    ),
    "a mean of means": (
        "return ops.sum(losses * weights) / ops.where(total > 0, total, 1.0)",
        "rows = ops.sum(weights, -1)\n"
        "    rows = ops.where(rows > 0, rows, 1.0)\n"
        "    return ops.mean(ops.sum(losses * weights, -1) / rows)",
        "test_masked_loss",
    ),
    "right everywhere": (
        "right | (np.asarray(weights) == 0)", "right", "test_exact_rows"
    ),
    "right somewhere": (
        "np.all(right | (np.asarray(weights) == 0)",
        "np.any(right & (np.asarray(weights) > 0)",
        "test_exact_rows",
    ),
    "the share of tokens": (
        "return np.all(right | (np.asarray(weights) == 0)",
        "return np.mean(right | (np.asarray(weights) == 0)",
        "test_exact_rows",
    ),
    "alpha forgotten": (
        "LoraLinear(block[name], rank, lora_alpha)",
        "LoraLinear(block[name], rank)",
        "test_adapt",
    ),
    "one adapter for all blocks": (
        "for block in weights[\"blocks\"]\n        ]\n\n    def call",
        "for block in weights[\"blocks\"][:1]\n        ] * "
        "len(weights[\"blocks\"])\n\n    def call",
        "test_adapt",
    ),
    "adapters that nobody asks": (
        "{**block, **adapters}", "{**adapters, **block}", "test_adapt"
    ),
    "all tokens count": (
        "masked_loss(y_pred, y, sample_weight)",
        "masked_loss(y_pred, y, ops.ones_like(y))",
        "test_adapt",
    ),
    "a rate of its own": (
        "keras.optimizers.Adam(rate)", "keras.optimizers.Adam(0.1)",
        "test_tune",
    ),
    "invented losses": (
        "    model.compile(optimizer=keras.optimizers.Adam(rate))",
        "    first = float(masked_loss(model(x), y, weights))\n"
        "    for part in model.trainable_weights:\n"
        "        part.assign(part + 1e-3)\n"
        "    return [first * 0.9**epoch for epoch in range(epochs)]",
        "test_tune",
    ),
    "plain descent": (
        "keras.optimizers.Adam(rate)", "keras.optimizers.SGD(rate)",
        "test_tune",
    ),
    "no loss of its own": (
        "def compute_loss(", "def other_loss(", "test_adapt"
    ),
    # What a student's code reports is computed again.
    "losses that are invented in between": (
        "return history.history[\"loss\"]",
        "said = history.history[\"loss\"]\n"
        "    return [said[0], *[said[1]] * (len(said) - 2), said[-1]]",
        "test_tune",
    ),
    "batches of another size": (
        "batch_size=batch_size", "batch_size=8", "test_tune"
    ),
    "nobody looks between epochs": (
        "callbacks=callbacks,", "", "test_tune"
    ),
    "looked at after all epochs": (
        "on_epoch_end=lambda epoch, logs: after_epoch()",
        "on_train_end=lambda logs: after_epoch()",
        "test_tune",
    ),
}  # fmt: skip


# The same for the assignment about pretraining.
PRETRAINING_MISTAKES = {
    "positions forgotten": (
        "(vocabulary_size + length) * dim", "vocabulary_size * dim",
        "test_count_parameters",
    ),
    "a warmup without an end": (
        "rate * ops.minimum(done, 1.0)", "rate * done", "test_learning_rate"
    ),
    "a decay that comes back": (
        "ops.clip(done, 0, 1)", "ops.maximum(done, 0)", "test_cosine_rate"
    ),
    "a decay from the first step": (
        "(step - warmup_steps) / (total_steps - warmup_steps)",
        "step / total_steps",
        "test_cosine_rate",
    ),
    "each gradient clipped alone": (
        "return [each * factor for each in gradients]",
        "return [each * largest / ops.maximum(largest, ops.sqrt(ops.sum("
        "each**2))) for each in gradients]",
        "test_clip_gradients",
    ),
    "clipped when small": (
        "ops.maximum(norm, largest)", "(norm + 1e-9)", "test_clip_gradients"
    ),
    "no token is impossible": (
        "1 + np.bincount", "1e-9 + np.bincount", "test_frequency_loss"
    ),
    "frequencies of the wrong side": (
        "np.bincount(np.ravel(train_ids)", "np.bincount(np.ravel(held_out_ids)",
        "test_frequency_loss",
    ),
    "a mean of means": (
        "total -= float(ops.convert_to_numpy(ops.sum(chosen)))\n"
        "    return total / y.size",
        "total -= float(ops.convert_to_numpy(ops.mean(chosen)))\n"
        "    return total / -(-len(x) // batch_size)",
        "test_mean_loss",
    ),
    "the last batch forgotten": (
        "for i in range(0, len(x), batch_size):",
        "for i in range(0, len(x) - batch_size + 1, batch_size):",
        "test_mean_loss",
    ),
    "weights that are not trained": (
        "self.positions = keras.Variable(weights[\"positions\"])",
        "self.positions = keras.Variable(weights[\"positions\"], "
        "trainable=False)",
        "test_make_model",
    ),
    # What a student's code reports is computed again.
    "a count that is invented": (
        "self.positions = keras.Variable(weights[\"positions\"])",
        "self.positions = ops.convert_to_tensor(weights[\"positions\"])\n"
        "        size = weights[\"positions\"].size\n"
        "        self.count_params = lambda: size + sum(\n"
        "            int(np.prod(part.shape)) for part in self.weights)",
        "test_make_model",
    ),
    "a weight that is counted and not used": (
        "self.positions = keras.Variable(weights[\"positions\"])",
        "self.unused = keras.Variable(weights[\"positions\"])\n"
        "        self.positions = ops.convert_to_tensor("
        "weights[\"positions\"])",
        "test_make_model",
    ),
    "losses that are invented in between": (
        "return {name: history[name] for name in (\"loss\", \"val_loss\")}",
        "return {\n"
        "        name: [*said[:2], *[said[-1]] * (len(said) - 2)]\n"
        "        for name, said in history.items()\n"
        "    }",
        "test_pretrain",
    ),
    "a warmup that is only reported": (
        "keras.optimizers.Adam(Warmup(rate, warmup_steps))",
        "keras.optimizers.Adam(rate)",
        "test_pretrain",
    ),
    "batches of another size": (
        "batch_size=batch_size", "batch_size=4", "test_pretrain"
    ),
    "probabilities for logits": (
        "(from_logits=True)", "()", "test_pretrain"
    ),
}  # fmt: skip
