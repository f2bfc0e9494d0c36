"""Mistakes that students make in the assignment about preferences."""

# What is right, what a student writes instead, and the test that must notice.
PREFERENCE_MISTAKES = {
    "the wrong one wins": (
        "ops.subtract(rewards, other_rewards)",
        "ops.subtract(other_rewards, rewards)",
        "test_win_probability",
    ),
    "exponentials that overflow": (
        "ops.sigmoid(ops.subtract(rewards, other_rewards))",
        "ops.exp(rewards) / (ops.exp(rewards) + ops.exp(other_rewards))",
        "test_win_probability",
    ),
    "shares without exponentials": (
        "ops.sigmoid(ops.subtract(rewards, other_rewards))",
        "ops.divide(rewards, ops.add(rewards, other_rewards))",
        "test_win_probability",
    ),
    "a logarithm of zero": (
        "ops.softplus(-difference)", "-ops.log(ops.sigmoid(difference))",
        "test_reward_loss",
    ),
    "a margin for the wrong side": (
        "ops.subtract(difference, margin)", "ops.add(difference, margin)",
        "test_reward_loss",
    ),
    "the margin forgotten": (
        "if margin is not None:", "if False:", "test_reward_loss"
    ),
    "a sum of losses": ("ops.mean(", "ops.sum(", "test_reward_loss"),
    "a gradient of the sum": (
        "wrong / len(chosen)", "wrong", "test_reward_gradients"
    ),
    "uphill": ("-share, share", "share, -share", "test_reward_gradients"),
    "pulled by what is right": (
        "win_probability(ops.add(rejected, margin), chosen)",
        "win_probability(chosen, ops.add(rejected, margin))",
        "test_reward_gradients",
    ),
    "no margin in the gradient": (
        "ops.add(rejected, margin)", "rejected", "test_reward_gradients"
    ),
    "the last position": (
        "ops.max(ops.cast(mask, \"int32\") * positions, axis=1)",
        "ops.max(ops.ones_like(mask, dtype=\"int32\") * positions, axis=1)",
        "test_last_scores",
    ),
    "as many as there are tokens": (
        "ops.max(ops.cast(mask, \"int32\") * positions, axis=1)",
        "ops.sum(ops.cast(mask, \"int32\"), axis=1) - 1",
        "test_last_scores",
    ),
    "the first padding": (
        "ops.max(ops.cast(mask, \"int32\") * positions, axis=1)",
        "ops.argmin(ops.cast(mask, \"int32\"), axis=1) - 1",
        "test_last_scores",
    ),
    "the mean of all states": (
        "ops.matmul(last[:, 0], kernel)",
        "ops.matmul(ops.mean(states, axis=1), kernel)",
        "test_last_scores",
    ),
    "the wrong ones chosen": (
        "np.asarray(chosen, \"float64\") - rejected",
        "np.asarray(rejected, \"float64\") - chosen",
        "test_fit_rewards",
    ),
    "no penalty": (
        "penalty * weights - x.T @ wrong", "-(x.T @ wrong)",
        "test_fit_rewards",
    ),
    "a mean and a penalty": (
        "penalty * weights - x.T @ wrong",
        "penalty * weights - x.T @ wrong / len(x)",
        "test_fit_rewards",
    ),
    "one step": ("range(30)", "range(1)", "test_fit_rewards"),
    "the whole pool": (
        "np.asarray(scores)[:, :n]", "np.asarray(scores)", "test_best_of_n"
    ),
    "the worst": ("np.argmax(", "np.argmin(", "test_best_of_n"),
    "the last of equals": (
        "np.argmax(np.asarray(scores)[:, :n], axis=1)",
        "n - 1 - np.argmax(np.asarray(scores)[:, :n][:, ::-1], axis=1)",
        "test_best_of_n",
    ),
    "in no order": (
        "np.argsort(scores)", "np.arange(len(scores))",
        "test_best_probabilities",
    ),
    "the worst of n": (
        "np.argsort(scores)", "np.argsort(-np.asarray(scores))",
        "test_best_probabilities",
    ),
    "in the order of the scores": (
        "best[order] =", "best[:] =", "test_best_probabilities"
    ),
    "the logarithm alone": (
        "math.log(n) - (n - 1) / n", "math.log(n)", "test_best_probabilities"
    ),
    "with replacement": (
        "math.comb(lower, n - 1) / ways",
        "((lower + 1) / size) ** n - (lower / size) ** n",
        "test_expected_best",
    ),
    "binomials as floats": (
        "math.comb(lower, n - 1) / ways",
        "np.float64(math.comb(lower, n - 1) / 1) / np.float64(ways / 1)",
        "test_expected_best",
    ),
    "the first n only": (
        "return float(np.mean(ordered @ np.array(weights)))",
        "best = np.argmax(proxy[:, :n], axis=1)\n"
        "    return float(np.mean(truth[np.arange(len(truth)), best]))",
        "test_expected_best",
    ),
    "the best truth": (
        "np.argsort(proxy, axis=1)", "np.argsort(truth, axis=1)",
        "test_expected_best",
    ),
    "itself among the others": (
        "math.comb(lower, n - 1)", "math.comb(lower + 1, n - 1)",
        "test_expected_best",
    ),
    "no shift": (
        "ops.cast(ids, \"int32\")[:, 1:, None]",
        "ops.cast(ids, \"int32\")[:, :-1, None]",
        "test_response_logprobs",
    ),
    "a mask that is not shifted": (
        "ops.cast(mask, \"float32\")[:, 1:]",
        "ops.cast(mask, \"float32\")[:, :-1]",
        "test_response_logprobs",
    ),
    "a mean of logarithms": (
        "return ops.sum(chosen * ops.cast(mask, \"float32\")[:, 1:], axis=-1)",
        "mask = ops.cast(mask, \"float32\")[:, 1:]\n"
        "    count = ops.maximum(ops.sum(mask, axis=-1), 1)\n"
        "    return ops.sum(chosen * mask, axis=-1) / count",
        "test_response_logprobs",
    ),
    "prompts and padding that count": (
        "chosen * ops.cast(mask, \"float32\")[:, 1:]", "chosen",
        "test_response_logprobs",
    ),
    "the logarithm of a softmax": (
        "ops.log_softmax(ops.cast(logits, \"float32\")[:, :-1], axis=-1)",
        "ops.log(ops.softmax(ops.cast(logits, \"float32\")[:, :-1], axis=-1))",
        "test_response_logprobs",
    ),
    "beta outside": (
        "z = beta * (for_chosen - for_rejected)\n"
        "    losses = (1 - label_smoothing)",
        "z = for_chosen - for_rejected\n"
        "    losses = beta * (1 - label_smoothing)",
        "test_dpo_loss",
    ),
    "no reference": (
        "ops.subtract(chosen, reference_chosen)",
        "ops.convert_to_tensor(chosen)",
        "test_dpo_loss",
    ),
    "smoothed the wrong way": (
        "label_smoothing * ops.softplus(z)",
        "label_smoothing * ops.softplus(-z)",
        "test_dpo_loss",
    ),
    "a loss that overflows": (
        "(1 - label_smoothing) * ops.softplus(-z)",
        "-(1 - label_smoothing) * ops.log(ops.sigmoid(z))",
        "test_dpo_loss",
    ),
    "ties that are right": (
        "margin > 0", "margin >= 0", "test_implicit_rewards"
    ),
    "more likely than the other": (
        "margin > 0", "np.asarray(chosen) > rejected", "test_implicit_rewards"
    ),
    "rewards without beta": (
        "beta * (np.asarray(rejected) - reference_rejected)",
        "np.asarray(rejected) - reference_rejected",
        "test_implicit_rewards",
    ),
    "a table that is not trained": (
        "keras.Variable(table)", "keras.Variable(table, trainable=False)",
        "test_make_policy",
    ),
    "a table that is not its own": (
        "table_logits(ids, self.table)",
        "table_logits(ids, start_table())",
        "test_make_policy",
    ),
    "a beta of its own": (
        "y[:, 1], self.beta", "y[:, 1], 0.5", "test_make_policy"
    ),
    "policy and reference exchanged": (
        "y_pred[:, 0], y_pred[:, 1], y[:, 0], y[:, 1]",
        "y[:, 0], y[:, 1], y_pred[:, 0], y_pred[:, 1]",
        "test_make_policy",
    ),
    "plain descent": (
        "keras.optimizers.Adam(rate)", "keras.optimizers.SGD(rate)",
        "test_train_dpo",
    ),
    "a rate of its own": (
        "keras.optimizers.Adam(rate)", "keras.optimizers.Adam(0.1)",
        "test_train_dpo",
    ),
    "a reference of zeros": (
        "reference = ops.convert_to_numpy(policy(pairs))",
        "reference = np.zeros(pairs[\"ids\"].shape[:2], \"float32\")",
        "test_train_dpo",
    ),
    # What a student's code reports is computed again.
    "losses that are invented in between": (
        "return history.history[\"loss\"]",
        "said = history.history[\"loss\"]\n"
        "    return [said[0], *[said[1]] * (len(said) - 2), said[-1]]",
        "test_train_dpo",
    ),
    "losses without training": (
        "return history.history[\"loss\"]",
        "policy.set_weights([table])\n"
        "    return history.history[\"loss\"]",
        "test_train_dpo",
    ),
    "batches of another size": (
        "batch_size=batch_size", "batch_size=8", "test_train_dpo"
    ),
    "nobody looks between epochs": (
        "callbacks=callbacks,", "", "test_train_dpo"
    ),
    "looked at after all epochs": (
        "on_epoch_end=lambda epoch, logs: after_epoch()",
        "on_train_end=lambda logs: after_epoch()",
        "test_train_dpo",
    ),
}  # fmt: skip
