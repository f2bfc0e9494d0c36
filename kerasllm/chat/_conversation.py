"""A conversation that remembers as many turns as fit."""

import math

from kerasllm.checks import UserError, accept_former_names, check_int
from kerasllm.generation import Past, TokenizedPrompt, check_prompt
from kerasllm.images import list_images, load_image, place_images
from kerasllm.prompts import MODEL, SYSTEM, USER, check_messages
from kerasllm.samplers import greedy_search


class Chat:
    """A conversation with a model.

    Args:
        model: a `ChatModel`.
        system: str. What the model is told before the first turn.
        max_length: int. Tokens that it sees at most, its answer included.
            Defaults to the preprocessor's `sequence_length`.
        sampler: any sampler. Defaults to `greedy_search`.

    Attributes:
        messages: list of dicts `{"role": ..., "content": str}`, all that was
            said. What no longer fits into `max_length` stays here and is not
            shown to the model. You may change it, for example to go on with
            a conversation that you have kept.
    """

    @accept_former_names(gemma="model")
    def __init__(self, model, system=None, max_length=None, sampler=None):
        self.model = model
        self.messages = []
        if system is not None:
            check_prompt(system)
            self.messages.append({"role": SYSTEM, "content": system})
        if max_length is None:
            max_length = model.causal_lm.preprocessor.sequence_length
        self.max_length = check_int("max_length", max_length, 1)
        self.sampler = greedy_search if sampler is None else sampler
        self._images = []  # pairs of a message and its images
        self._past = Past()  # so that a turn reads only what is new

    @property
    def gemma(self):
        """The model, by its name in the first version."""
        return self.model

    def send(self, text, images=None, seed=None):
        """Say something and return the answer.

        Args:
            text: str, with one `<start_of_image>` for each image.
            images: list of images, or one. They are read once, here.
            seed: int.

        Returns:
            str.

        Raises:
            UserError: the text alone does not fit into `max_length`, its
                special tokens and images do not fit, or an image cannot be
                read.
            MissingFileError, EnvironmentFailure: an image is not there.
        """
        return "".join(self.stream(text, images, seed)).strip()

    def stream(self, text, images=None, seed=None):
        """Say something and yield the answer in pieces, as it is written.

        Args:
            text: str, with one `<start_of_image>` for each image.
            images: list of images, or one. They are read once, here.
            seed: int.

        Returns:
            An iterator of str. What was said is remembered when it ends, and
            as far as it came when it is closed before.

        Raises:
            UserError, MissingFileError, EnvironmentFailure: see `send`.
        """
        check_prompt(text)
        message = {"role": USER, "content": text}
        # Every later turn shows them again; by then a file may be gone.
        images = [load_image(image) for image in list_images(images)]
        prompt = self._prompt(message, images)
        return self._stream(message, images, prompt, seed)

    def _stream(self, message, images, prompt, seed):
        pieces = []
        try:
            for piece in self.model.generator.stream(
                prompt,
                self.max_length,
                seed=seed,
                sampler=self.sampler,
                stop_strings=self.model._stop_strings(),
                past=self._past,
            ):
                pieces.append(piece)
                yield piece
        except (GeneratorExit, KeyboardInterrupt):
            self._remember(message, images, pieces)
            raise
        self._remember(message, images, pieces)

    def _remember(self, message, images, pieces):
        answer = "".join(pieces).strip()
        self.messages += [message, {"role": MODEL, "content": answer}]
        self._images.append((message, images))

    def _prompt(self, message, images):
        """Return the tokens of as many turns as leave room for an answer."""
        check_messages([*self.messages, message])  # anybody may change them
        is_system = bool(self.messages) and self.messages[0]["role"] == SYSTEM
        head, turns = self.messages[:is_system], self.messages[is_system:]
        # A quarter of the room belongs to the answer.
        longest = self.max_length - math.ceil(self.max_length / 4)
        while True:
            said = [m for m in turns if m["role"] == USER and m["content"]]
            its_images = [*map(self._images_of, said), images]
            segments = self._segments([*head, *turns, message], its_images)
            shown = tuple(image for some in its_images for image in some)
            prompt = TokenizedPrompt(self.model._encode(segments), shown)
            if len(prompt.token_ids) <= longest:
                return prompt
            if not turns:
                raise UserError(
                    "A message must leave a quarter of `max_length` for the "
                    f"answer. Received: {len(prompt.token_ids)} tokens for "
                    f"max_length={self.max_length}. Say less, or raise it."
                )
            turns = turns[2:]

    def _images_of(self, message):
        """Return the images that were sent with a message, a list."""
        return next((some for its, some in self._images if its is message), [])

    def _segments(self, messages, images):
        """Return the segments of a conversation with its images placed.

        Args:
            messages: list of dicts.
            images: list of lists of images, one for each of the user's.
        """
        preprocessor = self.model.causal_lm.preprocessor
        segments = self.model.template.chat_segments(messages)
        # Each text of the user's takes the images that came with it. A special
        # token in what the model or the system said is text.
        images = iter(images)
        roles = iter([m["role"] for m in messages if m["content"]])
        placed = []
        for text, is_delimiter in segments:
            if not is_delimiter and next(roles) == USER:
                count = len(next(images))
                placed += place_images([(text, False)], count, preprocessor)
            else:
                placed.append((text, is_delimiter))
        return placed
