"""Delimiters are read from chat templates as they are published."""

import dataclasses

import jinja2
import pytest

from kerasllm.prompts import (
    CHATML,
    GEMMA,
    PromptTemplate,
    template_for,
    template_from_jinja,
)

pytestmark = pytest.mark.any_backend

# huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != "
    "'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named "
    "SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# huggingface.co/google/gemma-2-2b-it, but with a system message.
GEMMA_LIKE = (
    "{{ bos_token }}{% set ns = namespace(first='') %}{% for message in "
    "messages %}{% if message['role'] == 'system' %}{% set ns.first = "
    "message['content'] + '\n\n' %}{% else %}{% set role = 'model' if "
    "message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + ns.first + message['content'] + "
    "'<end_of_turn>\n' }}{% set ns.first = '' %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# meta-llama/Meta-Llama-3-8B-Instruct
LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# HuggingFaceH4/zephyr-7b-beta, without the system message.
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('No system message.') }}{% endif %}{{ '<|' + "
    "m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def test_smollm2_has_chatml_with_a_system_message():
    template = template_from_jinja(SMOLLM2, "<|im_end|>")
    system = "You are a helpful AI assistant named SmolLM, trained by "
    assert template == dataclasses.replace(
        CHATML, name="auto", system=system + "Hugging Face"
    )


def test_gemma_has_the_system_message_in_the_first_turn():
    template = template_from_jinja(GEMMA_LIKE)
    assert template == dataclasses.replace(GEMMA, name="auto")


def test_llama_3_has_headers():
    template = template_from_jinja(LLAMA_3)
    assert template.prompt("Why?") == (
        "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert template.end_of_turn == "<|eot_id|>"
    assert template.system_start == (
        "<|start_header_id|>system<|end_header_id|>\n\n"
    )


def test_a_template_may_refuse_system_messages():
    template = template_from_jinja(NO_SYSTEM, "</s>")
    assert template.prompt("Why?") == "<|user|>\nWhy?</s>\n<|assistant|>\n"
    assert (template.model_end, template.end_of_turn) == ("</s>\n", "</s>")


@pytest.mark.parametrize(
    "source",
    [
        "{% for",
        "",
        "always the same",
        "{{ raise_exception('never') }}",
        "{% for m in messages %}{{ m['content'] }}{% endfor %}",
        "{% for m in messages %}[{{ m['content'] | upper }}]{% endfor %}",
        "{% for m in messages %}{{ loop.index }}{{ m['content'] }}{% endfor %}",
        "{{ messages[0].content.__class__.__mro__ }}",
        "{% for m in messages %}{{ m['content'] | nothing }}{% endfor %}",
        "{{ messages[7]['content'] }}",
        "{{ undefined.attribute }}",
    ],
)
def test_a_template_that_writes_anything_else_is_none(source):
    assert template_from_jinja(source) is None


def test_templates_cannot_leave_their_sandbox(tmp_path):
    source = (
        "{{ ''.__class__.__mro__[1].__subclasses__() }}"
        "{{ cycler.__init__.__globals__.os.system('touch %s') }}"
    ) % (tmp_path / "made")
    assert template_from_jinja(source) is None
    assert not (tmp_path / "made").exists()
    with pytest.raises(jinja2.TemplateError):
        from jinja2.sandbox import SandboxedEnvironment

        SandboxedEnvironment().from_string(source).render()


def test_a_tokenizer_may_bring_its_template():
    class Tokenizer:
        prompt_template = dataclasses.asdict(
            dataclasses.replace(CHATML, name="auto", system="Be kind.")
        )

    template = template_for(Tokenizer())
    assert isinstance(template, PromptTemplate)
    assert template.system == "Be kind."
