"""The cache: what is stored is found again; damage, other processes and a read-only folder do no harm."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxgen.data import cache as cache_module
from jaxgen.data.cache import cache_folder, cached

X = np.arange(6000, dtype=np.uint8).reshape(60, 10, 10)
LABEL = np.arange(60, dtype=np.int32)


class Producer:
    """Counts how often the source is read."""

    def __init__(self):
        self.calls = 0

    def __call__(self, allocate):
        self.calls += 1
        arrays = {"x": allocate(X.shape, np.uint8), "label": allocate(LABEL.shape, np.int32)}
        arrays["x"][:], arrays["label"][:] = X, LABEL
        return arrays


def assert_right(arrays):
    assert set(arrays) == {"x", "label"}
    np.testing.assert_array_equal(arrays["x"], X)
    np.testing.assert_array_equal(arrays["label"], LABEL)


def test_read_once_then_mapped(cache):
    producer = Producer()
    for _ in range(3):
        arrays = cached("toy", producer)
        assert_right(arrays)
        assert isinstance(arrays["x"], np.memmap)
        assert not arrays["x"].flags.writeable
    assert producer.calls == 1
    assert not list(cache.glob("*.part"))
    cached("other", producer)
    assert producer.calls == 2


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 2), position=st.integers(0, 2**16), cut=st.booleans(), bit=st.integers(0, 7))
def test_any_damage_is_noticed_and_mended(cache, which, position, cut, bit):
    """Draws do not depend on what the examples before left in the folder."""
    assert_right(cached("toy", Producer()))
    files = sorted(cache.iterdir())
    path = files[which % len(files)]
    content = bytearray(path.read_bytes())
    position %= len(content)
    if cut:
        content = content[:position]
    else:
        content[position] ^= 1 << bit
    path.unlink()
    path.write_bytes(content)
    producer = Producer()
    assert_right(cached("toy", producer))
    assert_right(cached("toy", producer))
    assert producer.calls <= 1


@pytest.mark.parametrize("manifest", ["", "[]", "3", "{", '{"x": 3}', '{"x": "absent.npy"}', '{"x": null}'])
def test_a_manifest_of_another_shape_is_no_entry(cache, manifest):
    cache.mkdir(parents=True)
    (cache / "toy.json").write_text(manifest)
    assert_right(cached("toy", Producer()))


def test_a_manifest_with_another_name_for_an_array_is_no_entry(cache):
    cached("toy", Producer())
    manifest = cache / "toy.json"
    manifest.write_text(manifest.read_text().replace('"x"', '"|"'))
    assert_right(cached("toy", Producer()))


def test_flipped_content_is_produced_anew(cache):
    producer = Producer()
    cached("toy", producer)
    [path] = cache.glob("toy-x-*.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    assert_right(cached("toy", producer))
    assert producer.calls == 2


def test_an_interrupted_read_leaves_nothing(cache):
    def interrupted(allocate):
        allocate((10,), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("toy", interrupted)
    assert list(cache.iterdir()) == []


def test_without_a_folder_that_can_be_written_there_is_one_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be cached .* set XDG_CACHE_HOME") as warned:
        assert_right(cached("toy", Producer()))
    assert len(warned) == 1


def test_without_a_home_there_is_one_warning(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache_module.Path, "home", no_home)
    with pytest.warns(UserWarning, match="there is no home folder") as warned:
        assert_right(cached("toy", Producer()))
    assert len(warned) == 1


@pytest.mark.parametrize("step", ["posix_fallocate", "replace"])
def test_a_full_disk_leaves_the_arrays_in_memory(cache, monkeypatch, step):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, step, full, raising=False)
    with pytest.warns(UserWarning, match="No space left on device") as warned:
        arrays = cached("toy", Producer())
    assert_right(arrays)
    assert len(warned) == 1
    assert list(cache.iterdir()) == []


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "jaxgen"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / "home" / ".cache" / "jaxgen"


def test_threads_that_read_at_once_all_get_the_entry(cache):
    barrier = threading.Barrier(4)
    results = []

    def read():
        barrier.wait(10)
        results.append(cached("toy", Producer()))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for arrays in results:
        assert_right(arrays)
    assert_right(cached("toy", Producer()))


def test_processes_that_write_at_once_all_get_the_entry(cache):
    code = (
        "import numpy as np; from jaxgen.data.cache import cached\n"
        "def produce(allocate):\n"
        "    x = allocate((1000,), np.uint8); x[:] = 7; return {'x': x}\n"
        "for i in range(30):\n"
        "    assert (cached(f'toy-{i}', produce)['x'] == 7).all()\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env=os.environ.copy()) for _ in range(3)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, b"")
    assert len(list(cache.glob("*.json"))) == 30
    for manifest in cache.glob("*.json"):
        assert (cache / json.loads(manifest.read_text())["x"]).exists()
    assert not list(cache.glob("*.part"))
