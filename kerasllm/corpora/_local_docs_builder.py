"""`corpora.local_docs` as a TensorFlow dataset, `tfds.load("local_docs")`."""

import tensorflow_datasets as tfds

from kerasllm.corpora._local_docs import local_docs, local_docs_versions
from kerasllm.corpora._shards import fingerprint
from kerasllm.files import restore_line


class LocalDocs(tfds.core.GeneratorBasedBuilder):
    """The documentation that an installation of this package contains.

    The name of its only configuration is the fingerprint of the versions that
    the text depends on, so data that were prepared before an upgrade are not
    confused with data prepared after it.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(
            name=fingerprint(local_docs_versions()),
            description="The versions that are installed here.",
        )
    ]

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Help topics of Python and docstrings of the standard library "
                "and of the packages that kerasllm depends on."
            ),
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(doc="A document, with newlines.")}
            ),
            # TFDS keeps these versions beside the files.
            metadata=tfds.core.MetadataDict(local_docs_versions()),
            disable_shuffling=True,  # the corpus is already mixed
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(local_docs())}

    def _generate_examples(self, shards):
        number = 0
        for path in shards:
            with open(path, encoding="utf-8", newline="\n") as file:
                for line in file:
                    text = restore_line(line.removesuffix("\n"))
                    yield number, {"text": text}
                    number += 1
