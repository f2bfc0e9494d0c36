"""What the first version saved loads, and what it was called by is found.

The files in `data/first_version` were written by kerasllm 0.1.0, see `make.py`
there, together with the numbers and texts that it computed from them.
"""

import importlib
import inspect
import json
import pathlib
import runpy
import shutil
import sys

import keras
import numpy as np
import pytest
from keras import ops

import kerasllm
from kerasllm import chat, distribution, instructions, tiny_gemma
from kerasllm.files import sha256
from kerasllm.gemma import Gemma
from kerasllm.images import vision_inputs
from kerasllm.instructions import read_jsonl
from kerasllm.layers import LoraLinear
from kerasllm.lora import load_lora
from kerasllm.models import MiniGPTCausalLM, Recipe
from kerasllm.pretraining import PretrainedModel, pretrain_mini_gpt
from kerasllm.schedules import WarmupSchedule

ROOT = pathlib.Path(__file__).parent.parent
DATA = pathlib.Path(__file__).parent / "data" / "first_version"
EXPECTED = json.loads((DATA / "expected.json").read_text())
ARRAYS = dict(np.load(DATA / "arrays.npz"))
PROMPT = "The old baker"
MAX_LENGTH = 24


def assert_same(actual, name, tolerance=1e-5):
    np.testing.assert_allclose(
        ops.convert_to_numpy(actual),
        ARRAYS[name],
        rtol=tolerance,
        atol=tolerance,
    )


def logits(model, token_ids):
    """Return logits `(1, length, vocabulary_size)` of a model or task."""
    x = np.array([token_ids], "int32")
    if hasattr(model, "backbone"):
        x = {"token_ids": x, "padding_mask": np.ones_like(x)}
    return model(x)


def assert_same_history(actual, expected):
    """Compare all numbers of a log but the speed."""
    assert len(actual) == len(expected)
    for row, wanted in zip(actual, expected, strict=True):
        row, wanted = dict(row), dict(wanted)
        del row["tokens_per_second"], wanted["tokens_per_second"]
        assert row == pytest.approx(wanted, rel=1e-4)


def history_in(directory):
    """Return the log that a checkpoint carries, speeds included."""
    with np.load(directory / "checkpoint.npz") as file:
        return json.loads(str(file["progress"]))["history"]


def load_task():
    return MiniGPTCausalLM.from_preset(str(DATA / "preset"))


def test_a_saved_mini_gpt_computes_the_same():
    model = keras.saving.load_model(DATA / "mini_gpt.keras")
    assert_same(logits(model, ARRAYS["tokens"][0, :-1]), "mini_gpt")


def test_a_compiled_mini_gpt_trains_on_as_it_would_have():
    model = keras.saving.load_model(DATA / "mini_gpt_compiled.keras")
    tokens = ARRAYS["tokens"]
    assert_same(logits(model, tokens[0, :-1]), "compiled")
    optimizer = model.optimizer
    rate = keras.saving.deserialize_keras_object(
        optimizer.get_config()["learning_rate"]
    )
    assert isinstance(rate, WarmupSchedule)
    assert rate.get_config() == WarmupSchedule(1e-2, 4).get_config()
    assert int(optimizer.iterations) == 6
    # How to compile was settled for the backend that saved the model.
    model.compile(optimizer, model.loss, jit_compile="auto")
    model.train_on_batch(tokens[:, :-1], tokens[:, 1:])
    assert_same(logits(model, tokens[0, :-1]), "compiled_next", 1e-4)


def test_a_preset_computes_and_writes_the_same():
    causal_lm = load_task()
    np.testing.assert_array_equal(
        causal_lm.preprocessor.tokenizer(PROMPT), ARRAYS["prompt_ids"]
    )
    assert_same(logits(causal_lm, ARRAYS["prompt_ids"]), "preset")
    generator = kerasllm.TextGenerator(causal_lm)
    assert generator.generate(PROMPT, MAX_LENGTH) == EXPECTED["preset"]


@pytest.mark.any_backend
def test_a_finished_run_is_loaded(tmp_path):
    run = PretrainedModel.load(DATA / "finished")
    assert_same(logits(run.model, ARRAYS["prompt_ids"]), "finished")
    text = run.generator().generate(PROMPT, MAX_LENGTH)
    assert text == EXPECTED["finished"]
    assert run.record["history"] == EXPECTED["history"]
    # And the same call as then finds that all is done.
    directory = shutil.copytree(DATA / "finished", tmp_path / "finished")
    again = pretrain_mini_gpt(
        Recipe(**run.record["recipe"]),
        [DATA / "text.txt"],
        directory,
        seed=run.record["seed"],
        verbose=0,
    )
    assert again.record == run.record


@pytest.mark.any_backend
@pytest.mark.slow
def test_an_unfinished_run_goes_on_to_the_same_end(tmp_path):
    directory = shutil.copytree(DATA / "unfinished", tmp_path / "unfinished")
    begun = json.loads((directory / "run.json").read_text())
    assert not (directory / "model.keras").exists()
    run = pretrain_mini_gpt(
        Recipe(**begun["recipe"]),
        [DATA / "text.txt"],
        directory,
        seed=begun["seed"],
        verbose=0,
    )
    history = run.record["history"]
    assert history[:1] == history_in(DATA / "unfinished"), "begun anew"
    assert_same_history(history, EXPECTED["history"])
    assert_same(logits(run.model, ARRAYS["prompt_ids"]), "finished", 1e-3)


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_run_of_tuning_goes_on_to_the_same_end(tmp_path):
    directory = shutil.copytree(DATA / "tuning", tmp_path / "tuning")
    causal_lm = load_task()
    history = Gemma(causal_lm, "book").finetune(
        read_jsonl(DATA / "requests.jsonl"),
        epochs=2,
        batch_size=4,
        learning_rate=1e-2,
        sequence_length=64,
        directory=directory,
        verbose=0,
    )
    assert history[:1] == history_in(DATA / "tuning"), "begun anew"
    assert_same_history(history, EXPECTED["tuning"])
    assert_same(logits(causal_lm, ARRAYS["prompt_ids"]), "tuning", 1e-3)


def test_adapters_of_a_mini_gpt_fit():
    causal_lm = load_task()
    load_lora(causal_lm, DATA / "mini_gpt.lora.h5")
    assert_same(logits(causal_lm, ARRAYS["prompt_ids"]), "mini_gpt_lora")


@pytest.mark.any_backend
@pytest.mark.slow
def test_adapters_of_the_shipped_gemma_fit():
    weights = ROOT / "assets" / "tiny" / "model.weights.h5"
    assert sha256(weights) == EXPECTED["gemma_weights"], "made for another one"
    gemma = Gemma.from_preset("tiny")
    gemma.load_lora(DATA / "gemma.lora.h5")
    x = ARRAYS["gemma_prompt_ids"][None].astype("int32")
    inputs = {"token_ids": x, "padding_mask": np.ones_like(x)}
    inputs |= vision_inputs(x, [()], gemma.causal_lm.preprocessor, 1)
    assert_same(gemma.causal_lm(inputs)[0, -1], "gemma", 1e-4)
    text = gemma.generate("What does the baker carry?", MAX_LENGTH)
    assert text == EXPECTED["gemma"]


def test_a_model_with_lora_linear_computes_the_same():
    model = keras.saving.load_model(DATA / "lora_linear.keras")
    (layer,) = model.layers
    assert isinstance(layer, LoraLinear)
    assert (layer.rank, layer.lora_alpha) == (2, 3.0)
    assert [v.path.split("/")[-1] for v in layer.trainable_weights] == [
        "alpha",
        "beta",
    ]
    assert_same(model(ARRAYS["lora_linear_inputs"]), "lora_linear")


# Every module of the first version, and the names that its documentation had.
PUBLIC = {
    "arguments": "LARGEST_SEED END_OF_TURN is_int make_seed_generator "
    "tokenize_prompt check_prompt check_text check_prompt_tokens "
    "find_stop_tokens end_token_ids get_vocabulary_size check_max_length "
    "position_tables check_logits check_token_id",
    "backend": "name gpu device_name best_dtype_policy "
    "keep_tensorflow_off_gpus keep_freed_memory",
    "beam_search": "Beam search_beams",
    "checkpoints": "TrainingInterrupted",
    "cli": "main app",
    "corpora": "local_docs mini_c4 text_shards from_tfds",
    "decoding": "CachedDecoder batch_bucket length_bucket SMALLEST_BUCKET",
    "distribution": "initialize data_parallel model_parallel "
    "mini_gpt_layout_map data_share process_index num_processes",
    "files": "",
    "gemma": "Gemma Chat MemoryEstimate UnknownSizeError estimate_memory",
    "generation": "generate compiled_generate TextGenerator",
    "homework": "",
    "homework_course": "",
    "homework_grading": "",
    "homework_kernel": "",
    "homework_remote": "",
    "images": "load_image place_images vision_inputs convert_image embed",
    "instructions": "Instruction dolly read_jsonl split_rows "
    "instruction_dataset TokenizedInstructions",
    "layers": "TransformerDecoder PositionalEmbedding SelfAttention Dropout "
    "Linear LoraLinear",
    "logit_filters": "top_k_filter top_p_filter min_p_filter apply_penalties "
    "divide_by_temperature",
    "lora": "enable_lora adapted_layers save_lora load_lora merge_lora "
    "LoraReport",
    "losses": "NextTokenLoss training_model with_labels token_loss accuracy",
    "metrics": "repeated_ngrams known_ngrams ngram_set",
    "models": "mini_gpt Recipe RECIPES get_recipe MiniGPTCausalLM "
    "MiniGPTBackbone MiniGPTTokenizer MiniGPTCausalLMPreprocessor",
    "pipeline": "pretraining_dataset",
    "plots": "plot_schedule plot_history plot_curves plot_comparison "
    "plot_sampling_strategies plot_soft_tokens plot_pictures",
    "pretraining": "pretrain pretrain_mini_gpt PretrainedModel resumable_fit",
    "prompts": "PromptTemplate get_template encode start_tokens special_tokens "
    "BOOK ALPACA VICUNA CHATML GEMMA",
    "report": "Report",
    "rows": "TokenizedPrompt Row RowSampler token_array row_seeds",
    "samplers": "greedy_search random_sample top_k top_p min_p chain "
    "filter_logits to_keras_hub KerasHubSampler top_k_filter top_p_filter "
    "min_p_filter apply_penalties",
    "sandbox": "",
    "schedules": "WarmupSchedule UpdateSchedule",
    "text_generator": "TextGenerator Generation",
    "text_stream": "TextStream UNDECODED LONGEST_WINDOW",
    "tiny_gemma": "TinyRecipe build train_tokenizer pretrain_base "
    "tune_instruct measure",
    "tokenizers": "train_sentence_piece load_sentence_piece book_vocabulary "
    "token_id_of end_of_text_id",
    "tour": "run PROMPT SEEDS STRATEGIES",
    "toyworld": "World Entity Attribute Question Picture pictures "
    "picture_instructions word_problem",
}
# What `import kerasllm` published beside its modules.
SHORT = {
    "corpora": "local_docs mini_c4 text_shards",
    "tokenizers": "train_sentence_piece load_sentence_piece",
    "pipeline": "pretraining_dataset",
    "layers": "TransformerDecoder PositionalEmbedding",
    "models": "mini_gpt MiniGPTCausalLM",
    "schedules": "WarmupSchedule",
    "pretraining": "pretrain pretrain_mini_gpt",
    "samplers": "greedy_search random_sample top_k top_p min_p chain "
    "to_keras_hub",
    "generation": "generate compiled_generate TextGenerator",
    "prompts": "PromptTemplate",
    "instructions": "read_jsonl instruction_dataset",
    "lora": "enable_lora save_lora load_lora merge_lora",
    "gemma": "Gemma",
}


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "room",
    [
        pytest.param(
            room, marks=pytest.mark.once if room == "homework_grading" else ()
        )
        for room in PUBLIC
    ],
)
def test_names_of_the_first_version_are_found(room):
    """Under their old module, and the same object as at their new place."""
    if room == "homework_grading":
        pytest.importorskip("nbgrader")  # which the suites lack
    module = importlib.import_module(f"kerasllm.{room}")
    for name in PUBLIC[room].split():
        found = getattr(module, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            home = importlib.import_module(found.__module__)
            assert getattr(home, found.__name__) is found, (
                f"kerasllm.{room}.{name} is a copy of what is in {home}"
            )


@pytest.mark.any_backend
def test_short_names_of_the_first_version_are_found():
    for room, names in SHORT.items():
        module = importlib.import_module(f"kerasllm.{room}")
        for name in names.split():
            assert getattr(kerasllm, name) is getattr(module, name), name
    for room in PUBLIC.keys() - {"cli", "homework_grading"}:
        module = importlib.import_module(f"kerasllm.{room}")
        assert getattr(kerasllm, room) is module, room


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("function", "former"),
    [
        (instructions.instruction_dataset, "rows"),
        (instructions.TokenizedInstructions.of, "rows"),
        (chat.Chat, "gemma"),
        (distribution.check_batch_size, "rows"),
        (tiny_gemma.ask_all, "gemma"),
    ],
)
def test_keywords_of_the_first_version_are_understood(function, former):
    """A wrong number of arguments is still refused, by their present names."""
    name = next(iter(inspect.signature(function).parameters))
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        function(**{former: (), "other": 0})
    with pytest.raises(TypeError, match=former):
        function(**{former: (), name: ()})


@pytest.mark.any_backend
def test_calls_with_keywords_of_the_first_version_work():
    model = load_task()
    examples = read_jsonl(DATA / "requests.jsonl")
    arguments = {"preprocessor": model.preprocessor, "template": "book"}
    tokenized, former = (
        instructions.TokenizedInstructions.of(
            **{name: examples}, sequence_length=64, **arguments
        )
        for name in ("examples", "rows")
    )
    assert former.prompt_lengths == tokenized.prompt_lengths
    x, _, _ = next(
        iter(instructions.instruction_dataset(rows=examples, **arguments))
    )
    assert x["token_ids"].shape[0] == 8
    gemma = Gemma(model, "book")
    assert chat.Chat(gemma=gemma).model is gemma
    assert tiny_gemma.ask_all(gemma=gemma, questions=[]) == []


@pytest.mark.any_backend
@pytest.mark.parametrize("module", ["homework_kernel", "tiny_gemma"])
def test_modules_of_the_first_version_are_commands(module, monkeypatch, capsys):
    """Without their arguments they say so."""
    wrong = ["--wrong"] * (module == "tiny_gemma")
    monkeypatch.setattr(sys, "argv", [module, *wrong])
    with pytest.raises((SystemExit, TypeError)) as ended:
        runpy.run_module(f"kerasllm.{module}", run_name="__main__")
    assert str(ended.value) != "0"
    assert "arguments" in f"{ended.value} {capsys.readouterr().err}"
