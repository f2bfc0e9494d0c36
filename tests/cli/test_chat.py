import io

import pytest

from tests.cli.messages import one_line


@pytest.mark.any_backend
def test_chat_continues_line_after_line(run, loaded, monkeypatch):
    too_long = "the cat sat " * 20
    # Of Windows, too, where a line ends with two characters.
    lines = f"the cat\r\n{too_long}\na dog\r\n\r\nnot read\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    status, out, err = run("chat", "--model", loaded.directory, "--seed", 0)
    assert status == 0
    assert "the cat" in out and "a dog" in out and "not read" not in out
    assert err.count("tokens/s") == 2
    assert "fewer than --max-length tokens" in err


@pytest.mark.any_backend
def test_ctrl_c_leaves_a_chat_without_a_word(run, loaded, monkeypatch):
    class Interrupted(io.StringIO):
        def readline(self):
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Interrupted())
    status, out, err = run("chat", "--model", loaded.directory)
    assert (status, out) == (130, "")
    assert err == f"Loading {loaded.directory} ...\n"


@pytest.mark.any_backend
@pytest.mark.parametrize("ends", [KeyboardInterrupt, EOFError])
def test_the_shell_has_a_line_of_its_own_behind_a_chat(
    run, loaded, monkeypatch, ends
):
    """After Ctrl-C and Ctrl-D at the prompt of a terminal."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

        def readline(self):
            if ends is KeyboardInterrupt:
                raise KeyboardInterrupt
            return ""

    monkeypatch.setattr("sys.stdin", Terminal())
    status, out, _ = run("chat", "--model", loaded.directory)
    assert status == (130 if ends is KeyboardInterrupt else 0)
    assert out == "> \n"


@pytest.mark.any_backend
@pytest.mark.parametrize("of", ["model", "preset"])
def test_chat_refuses_a_length_of_nothing(run, loaded, monkeypatch, of):
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n"))
    name = loaded.directory if of == "model" else "tiny_instruct"
    status, out, err = run("chat", f"--{of}", name, "--max-length", 0)
    assert status == 2
    assert "--max-length 0" in one_line(err)


@pytest.mark.any_backend
def test_chat_refuses_a_line_that_is_no_text_and_goes_on(
    run, loaded, monkeypatch
):
    lines = io.BytesIO("Grüße\n".encode("latin-1") + b"the cat\n\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines, "utf-8"))
    status, out, err = run("chat", "--model", loaded.directory, "--seed", 0)
    assert status == 0
    assert "the cat" in out
    assert "A line must be text that UTF-8 can write" in err


@pytest.mark.any_backend
def test_chat_loads_a_model_in_the_dtype_that_is_asked_for(run, monkeypatch):
    from kerasllm.chat import ChatModel

    seen = []

    def from_preset(name, dtype=None, template="auto"):
        seen.append(dtype)
        raise ValueError("Received: enough")

    monkeypatch.setattr(ChatModel, "from_preset", from_preset)
    for options, dtype in (((), None), (("--dtype", "bfloat16"), "bfloat16")):
        with pytest.raises(ValueError, match="enough"):
            run("chat", "--preset", "tiny", *options)
        assert seen.pop() == dtype


@pytest.mark.any_backend
def test_chat_with_a_model_refuses_what_only_a_preset_takes(
    run, loaded, tmp_path
):
    adapters = tmp_path / "adapters.lora.h5"
    adapters.write_bytes(b"\x89HDF\r\n\x1a\n")
    for option, value in (
        ("--lora", adapters),
        ("--image", "picture.png"),
        ("--template", "gemma"),
        ("--dtype", "bfloat16"),
    ):
        status, _, err = run("chat", "--model", loaded.directory, option, value)
        assert status == 2
        assert f"Received: {option} with --model" in one_line(err)


@pytest.mark.any_backend
def test_chat_reads_images_before_it_loads_a_model(run, monkeypatch, tmp_path):
    from kerasllm.chat import ChatModel

    monkeypatch.delattr(ChatModel, "from_preset")
    status, _, err = run(
        "chat", "--preset", "tiny", "--image", tmp_path / "none.png"
    )
    assert status == 2
    assert "none.png, which does not exist" in one_line(err)


@pytest.mark.any_backend
def test_chat_shows_images_with_the_first_line_that_is_short_enough(
    run, untrained, monkeypatch, tmp_path
):
    from PIL import Image

    from kerasllm.generation import TextGenerator

    prompts = []

    def stream(self, prompt, *args, **kwargs):
        prompts.append(prompt)
        return iter(["Red."])

    monkeypatch.setattr(TextGenerator, "stream", stream)
    path = tmp_path / "picture.png"
    Image.new("RGB", (48, 48)).save(path)
    lines = f"{'word ' * 200}\nWhat color is it?\nAnd now?\n\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    status, out, err = run(
        "chat", "--preset", "tiny", "--image", path, "--max-length", 120
    )
    assert (status, out) == (0, "Red.\nRed.\n")
    assert "a quarter of --max-length" in one_line(err)
    # The second prompt remembers the first one, its picture and the answer.
    assert [len(prompt.images) for prompt in prompts] == [1, 1]
    length = len(prompts[0].token_ids)
    assert prompts[1].token_ids[: length - 1] == prompts[0].token_ids[:-1]


@pytest.mark.once
def test_chat_shows_images_with_the_first_line(run, tmp_path, monkeypatch):
    from PIL import Image

    from kerasllm.toyworld import pictures

    picture = pictures(1, seed=4321)[0]
    path = tmp_path / "picture.png"
    Image.fromarray(picture.image).save(path)
    lines = "What color are the shapes?\nWhere is it?\n\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    status, out, err = run("chat", "--preset", "tiny_instruct", "--image", path)
    assert status == 0, err
    assert out.splitlines()[0] == picture.questions()[0].answer
    assert len(out.splitlines()) >= 2


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chat",), "either a --preset or a --model. Received: none"),
        (("chat", "--preset", "gemma9"), "--preset must be one of tiny"),
        (("chat", "--preset", "tiny", "--top-k", 0), "--top-k must be"),
        (
            ("chat", "--preset", "tiny", "--dtype", "fp16"),
            "Did you mean float16?",
        ),
        (("finetune", "--preset", "gemma9"), "--preset must be one of tiny"),
        (("finetune", "--rank", 0), "--rank must be"),
        (("finetune", "--epochs", 0), "--epochs must be"),
        (("finetune", "--dtype", "fp16"), "Did you mean float16?"),
    ],
)
def test_wrong_words_about_gemma_are_answered(
    run, instructions_file, tmp_path, arguments, message
):
    command, *options = arguments
    if command == "finetune":
        options += ["--data", instructions_file, "--out", tmp_path / "out"]
    status, _, err = run(command, *options)
    assert status == 2
    assert message in " ".join(err.split())
    assert not (tmp_path / "out").exists()
