"""A cache folder for each test, and small sets that TensorFlow Datasets itself prepares."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of cached arrays, empty; no prepared set is found unless a test says where."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    return tmp_path / "cache" / "jaxgen" / "data"


Prepare = Callable[..., Path]


@pytest.fixture
def prepare(tmp_path) -> Prepare:
    """Write a set into the folder of prepared sets, as its own builder would; returns its folder."""
    import tensorflow_datasets as tfds

    def prepare_set(
        name: str,
        features: dict[str, Any],
        splits: dict[str, Iterable],
        *,
        version: str = "1.0.0",
        config: str = "",
    ) -> Path:
        class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, dl_manager):
                return {split: enumerate(records) for split, records in splits.items()}

            def _generate_examples(self):
                raise NotImplementedError

        Made.name = name
        logger = logging.getLogger("absl")
        logger.setLevel(logging.ERROR)
        builder = Made(data_dir=tmp_path / "sets", file_format="array_record")
        builder.download_and_prepare()
        return Path(builder.data_path)

    return prepare_set
