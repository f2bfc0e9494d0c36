"""Mistakes are told at once, in the words of the command line."""

import gzip
import json
import os
import subprocess
import sys

import pytest

from kerasllm import prompts
from kerasllm.cli import _messages, _options
from tests.cli.messages import one_line

pytestmark = pytest.mark.any_backend

HEAVY = ("keras", "keras_hub", "tensorflow", "jax", "torch")
# What is typed, and what must be said. FILE is one line of text, RUN a folder
# with a finished run of other data, LINK a link to nowhere.
MISTAKES = [
    ("pretrain --backend pytorch", "Did you mean torch?"),
    ("info --backend tf", "Did you mean tensorflow?"),
    ("pretrain --recipe laptops", "Did you mean laptop?"),
    ("pretrain --documents line", "Did you mean lines?"),
    ("pretrain --data no/such", "--data must be files or folders"),
    ("pretrain --data mini-c4 --data FILE", "must stand alone"),
    ("pretrain --data LATIN", "must be UTF-8"),
    ("pretrain --data FILE --out FILE/x", "Not a directory"),
    ("pretrain --data FILE --out RUN", "--recipe and --data or --documents"),
    ("pretrain --out RUN --seed 1", "a run of another --recipe and --seed"),
    ("pretrain --data EMPTY", "--data must be a path. Received: an empty one"),
    ("pretrain --data FILE --out=", "--out must be a path. Received: an empty"),
    ("homework release EMPTY", "An argument must be a path"),
    ("pretrain --data LONG", "aaa, which does not exist"),
    ("generate --model LONG x", "aaa (File name too long). Look"),
    ("finetune --data EXAMPLES --out LONG", "(File name too long)"),
    ("pretrain --data FILE --out LINK", "a folder that can be written to"),
    ("pretrain --data PACKED", "It is a gzip file: unpack it with `gunzip`."),
    ("finetune --data PACKED", "It is a gzip file: unpack it with `gunzip`."),
    ("finetune --data /dev/null", "--data must be a file. Received: /dev/null"),
    ("pretrain --data /dev/null", "which is neither, but a pipe, a device"),
    ("pretrain --data BLANK", "A shard must hold text."),
    ("compare PAIRS --out LINK", "--out must be a file. Received: LINK"),
    ("pretrain --sample EMPTY", "--sample must have some text"),
    ("pretrain --devices 0", "--devices must be auto or a positive"),
    ("pretrain --vocabulary-size 0", "--vocabulary-size must be a positive"),
    ("pretrain --data LINES", "--vocabulary-size 2048 for a corpus that supp"),
    ("pretrain --data LINES --vocabulary-size 99", "alphabet alone needs"),
    ("pretrain --data FILE", "must have several documents"),
    ("pretrain --data LINES --documents files", "Use --documents paragraphs"),
    ("tour --recipe huge", "is not one of 'laptop', 'book'"),
    ("tour --out FILE/x", "--out must be a folder"),
    ("generate --model FOLDER x", "has no model.keras"),
    ("generate --model RUN EMPTY", "PROMPT must have some text"),
    ("generate --model RUN x --top-k 0", "Received: --top-k 0. "),
    ("generate --model RUN x --top-p 2", "--top-p must be a probability"),
    ("generate --model RUN x --min-p -1", "--min-p must be a ratio"),
    ("generate --model RUN x --temperature nan", "--temperature must be"),
    ("generate --model RUN x --frequency-penalty inf", "Received: --frequency"),
    ("generate --model RUN x --max-length 17", "an int in [2, 16]"),
    ("generate --model RUN x --max-length 1", "--max-length must be an int of"),
    ("generate x", "either a --preset or a --model. Received: none"),
    ("generate x --model RUN --preset tiny", "--model. Received: both"),
    ("generate x --model RUN --dtype bfloat16", "Received: --dtype with"),
    ("generate x --preset tniy", "Did you mean tiny?"),
    ("generate x --preset gpt2", "Did you mean gpt2_"),
    ("generate x --preset llama3.2_1", "Did you mean llama3.2_1b?"),
    ("generate x --preset hf://x", "An address must be hf://OWNER/MODEL"),
    ("generate x --preset kaggle://a/b", "kaggle://OWNER/MODEL/keras/VARIANT"),
    ("generate x --preset https://a/b/c", "Received: https://a/b/c. Look"),
    ("pretrain --data EXAMPLES", "line 1, with 'prompt, response'"),
    ("generate x --preset no.gguf", "no.gguf, which is no file"),
    ("generate x --preset tiny --top-p 2", "--top-p must be a probability"),
    ("chat", "either a --preset or a --model"),
    ("chat --model RUN --template book", "must come with a --preset"),
    ("chat --preset gemma3_instruct_1", "Did you mean gemma3_instruct_1b?"),
    ("chat --preset ./no", "--preset must be a preset or a folder"),
    ("chat --preset FOLDER", "FOLDER, which has no config.json. Look at"),
    ("generate --model TUNED x", "--lora TUNED/adapters.lora.h5 --to keras"),
    ("generate --preset TUNED x", "give that as --preset: `kerasllm export"),
    ("generate --model tiny x", "is a preset. Use --preset tiny."),
    ("generate --model x.gguf x", "is a preset. Use --preset x.gguf."),
    ("generate --model PEFT x", "which has adapters in the format of PEFT"),
    ("generate --model BEGUN x", "Finish it with the command that began it."),
    ("generate --preset HALF x", "a run that was interrupted. Repeat the"),
    ("generate --model HALF x", "a run that was interrupted. Repeat the"),
    ("generate --preset RUN --dtype float16 x", "--dtype must be left out"),
    ("generate --dtype float16 --preset RUN x", "--dtype must be left out"),
    ("chat --model TUNED", "Use --preset smollm2 --lora TUNED/adapters.lora"),
    ("chat --preset TUNED", "Use --preset smollm2 --lora TUNED/adapters.lora"),
    ("chat --preset TUNED/adapters.lora.h5", "Use --preset smollm2 --lora"),
    ("chat --preset tiny --lora TUNED", "Use --lora TUNED/adapters.lora.h5."),
    ("chat --preset tiny --lora no", "no, which does not exist"),
    ("chat --model PRESET", "which is a preset. Use --preset PRESET."),
    ("export --model RUN --to gguf --out x", "a mini-GPT, which other prog"),
    ("export --model mini_gpt_docs --to gguf --out x", "Received: mini_gpt_d"),
    ("export --model TUNED --to gguf --out x.gguf", "Use --model smollm2 --lo"),
    ("dpo --data PAIRS --preset TUNED", "Use --preset smollm2 --lora TUNED"),
    ("grpo --data EXAMPLES --reward exact --preset TUNED", "Use --preset smol"),
    ("finetune --data EXAMPLES --preset TUNED", "give that as --preset"),
    ("index DOCS --store new --embedder TUNED", "give that as --embedder"),
    ("chat --preset tiny --dtype bfloat", "Did you mean bfloat16?"),
    ("chat --preset tiny --template gema", "Did you mean gemma?"),
    ("chat --preset tiny --image no.png", "no.png, which does not exist"),
    ("chat --preset tiny --image FILE", "9 bytes (no format that it knows)"),
    ("chat --preset tiny --lora FILE", "--lora must be a file that finetune"),
    ("chat --preset tiny --embedder tiny", "must come with a --store"),
    ("chat --preset tiny --passages 3", "must come with a --store"),
    ("chat --model RUN --store FILE", "Received: --store with --model"),
    ("chat --preset tiny --store FILE", "which is damaged or no store"),
    ("chat --preset tiny --store no.sqlite", "does not exist"),
    ("chat --preset tiny --store FILE --image no.png", "must not come with"),
    ("chat --preset tiny --store FILE --max-distance 3", "--max-distance must"),
    ("index no/such --store new", "FOLDER must be a folder. Received: no/such"),
    ("index FOLDER --store new", "FOLDER must have a document"),
    ("index DOCS --store FILE", "which is damaged or no store"),
    ("index DOCS --store FILE/x", "The folder of --store must be a folder"),
    ("index DOCS --store new --embedder tniy", "Did you mean tiny?"),
    ("index DOCS --store new --embedder no.keras", "--embedder must be"),
    ("index DOCS --store new --name EMPTY", "--name must have some text"),
    ("index DOCS --store DOCS/a.txt", "Look at the path"),
    ("index DOCS --store new --max-tokens 0", "--max-tokens must be a pos"),
    ("index DOCS --store new --overlap -1", "--overlap must be an int of"),
    ("index DOCS", "Missing option '--store'"),
    ("index --store new", "Missing argument 'FOLDER'"),
    ("generate --preset tiny", "Missing argument 'PROMPT'"),
    ("homework check", "Missing argument 'FILE'"),
    ("homework grade DOCS --csv x --memory 0", "--memory must be positive"),
    ("homework grade DOCS --csv x --cell-seconds 0", "--cell-seconds must be"),
    ("finetune --data FILE", "line 1"),
    ("finetune --data PAIRS", "chosen, rejected. Preferences are for `keras"),
    ("finetune --data TEXTS", "must have an instruction that is not empty"),
    ("finetune --data TEXTS", "is for `kerasllm pretrain`"),
    ("finetune --data EXAMPLES --targets EMPTY", "must be names of layers"),
    ("finetune --data EXAMPLES --targets a,,b", "Received: 'a,,b'."),
    ("dpo --data PAIRS --targets 1", "--targets must be names of layers"),
    ("dpo --data EXAMPLES", "with an answer is for `kerasllm finetune`"),
    ("grpo --data EXAMPLES --reward none.m:f", "there is no module none."),
    ("finetune --data EXAMPLES --rank 0", "--rank must be a positive int"),
    ("finetune --data EXAMPLES --learning-rate inf", "--learning-rate must"),
    ("finetune --data EXAMPLES --validation 1", "--validation must be at"),
    ("finetune --data EXAMPLES --preset gpt", "--preset must be one of tiny"),
    ("finetune --data EXAMPLES --out FILE", "FILE"),
    ("dpo --data FILE", "line 1"),
    ("dpo --data PAIRS --beta 0", "--beta must be positive"),
    ("dpo --data PAIRS --loss-type kto", "is not one of 'sigmoid', 'hinge'"),
    ("dpo --data PAIRS --label-smoothing .5", "--label-smoothing must be in"),
    ("dpo --data PAIRS --sft-weight -1", "--sft-weight must be at least 0"),
    ("dpo --data PAIRS --lora FILE", "--lora must be a file that finetune"),
    ("dpo --data PAIRS --epochs 0", "--epochs must be a positive int"),
    ("dpo --data PAIRS --validation 1", "--validation must be at least 0"),
    (
        "dpo --data PAIRS --loss-type ipo --label-smoothing .1",
        "--label-smoothing must be 0 unless --loss-type is sigmoid",
    ),
    ("grpo --data FILE --reward exact", "line 1"),
    ("grpo --data EXAMPLES", "--reward"),
    ("grpo --data EXAMPLES --reward exakt", "Did you mean exact?"),
    ("grpo --data EXAMPLES --reward a:b:c", "or module:function. Received"),
    (
        "grpo --data EXAMPLES --reward exact --temperature 0",
        "--temperature must be positive",
    ),
    (
        "grpo --data EXAMPLES --reward exact --num-generations 1",
        "--num-generations must be an int of at least 2",
    ),
]
# In one process, for a hundred starts of Python would take a minute.
PROGRAM = """
import contextlib, io, json, sys
from kerasllm.cli import main
for arguments in json.load(sys.stdin):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        try:
            main(arguments)
            status = 0
        except SystemExit as finished:
            status = finished.code
    heavy = [name for name in sys.argv[1:] if name in sys.modules]
    print(json.dumps([status, err.getvalue(), heavy]))
"""


def make_folders(path):
    """Make folders that are taken for others: of adapters, runs, presets."""
    for name, file, text in (
        ("TUNED", "adapters.lora.h5", ""),
        ("TUNED", "options.json", '{"preset": "smollm2"}'),
        ("BEGUN", "options.json", '{"preset": "smollm2"}'),
        ("BEGUN", "checkpoint/run.json", "{}"),
        ("PEFT", "adapter_config.json", "{}"),
        ("PRESET", "config.json", "{}"),
        ("HALF", "run.json", "{}"),
        ("HALF", "checkpoint.npz", ""),
    ):
        (path / name / file).parent.mkdir(parents=True, exist_ok=True)
        (path / name / file).write_text(text)


def test_mistakes_are_told_before_a_backend_is_imported(
    tmp_path, instructions_file, preferences_file, a_run
):
    (tmp_path / "FILE").write_text("one line\n")
    (tmp_path / "LINES").write_text("A first line.\nA second line.\n" * 9)
    (tmp_path / "LATIN").write_bytes("Grüße\n".encode("latin-1"))
    (tmp_path / "TEXTS").write_text('{"text": "One."}')
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "PACKED").write_bytes(gzip.compress(b'{"text": "One."}'))
    (tmp_path / "BLANK").write_text("\ufeff \n\u3000\xa0\n")
    (tmp_path / "LINK").symlink_to("nowhere")
    make_folders(tmp_path)
    (tmp_path / "DOCS").mkdir()
    (tmp_path / "DOCS" / "a.txt").write_text("A text.")
    before = sorted(tmp_path.rglob("*"))
    names = {
        "EXAMPLES": instructions_file, "PAIRS": preferences_file,
        "RUN": a_run, "EMPTY": "", "--out=": "--out=", "LONG": 300 * "a",
    }  # fmt: skip
    commands = [
        [str(names.get(word, word)) for word in typed.split()]
        for typed, _ in MISTAKES
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *HEAVY],
        input=json.dumps(commands),
        env=os.environ | {"KERAS_BACKEND": "jax"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = map(json.loads, done.stdout.splitlines())
    for (typed, message), result in zip(MISTAKES, results, strict=True):
        status, err, heavy = result
        assert (status, heavy) == (2, []), (typed, err)
        assert message in one_line(err), typed
        # No command of ours has an option that is written like this.
        assert "`top_k`" not in err and "_length" not in err
    # A mistake leaves nothing behind.
    assert sorted(tmp_path.rglob("*")) == before


def test_the_templates_that_are_offered_are_all_there_are():
    assert set(_options.TEMPLATES) == {"auto", *prompts.TEMPLATES}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("`top_k` must be 1.", "--top-k must be 1."),
        ("Received: top_p=0.5. Use", "Received: --top-p 0.5. Use"),
        ("Received: top_p=2.", "Received: --top-p 2."),
        ("`name` is 'x'", "--preset is 'x'"),
        ('Divide it with `name="a b"`, or', "Divide it with --preset a b, or"),
        (
            "Received: name=['a', 'b'], one",
            "Received: --preset ['a', 'b'], one",
        ),
        (
            "a top_k of 5, `k`, hidden_top_k=5",
            "a top_k of 5, `k`, hidden_top_k=5",
        ),
        ("http://host/?name=5", "http://host/?name=5"),
    ],
)
def test_a_message_speaks_the_words_of_the_command_line(message, expected):
    options = {"top_k": "--top-k", "top_p": "--top-p", "name": "--preset"}
    assert _messages.in_words_of(options, message) == expected
    assert _messages.in_words_of({}, message) == message


def test_a_warning_is_one_line_and_only_if_it_is_for_users(capsys):
    show = _messages.warning_printer({"top_k": "--top-k"})
    ours = _messages.__file__
    show(UserWarning("`top_k` is\n large"), UserWarning, ours, 1)
    show(UserWarning("shuffle=True was passed"), UserWarning, "keras.py", 1)
    assert capsys.readouterr().err == "kerasllm: --top-k is large\n"
