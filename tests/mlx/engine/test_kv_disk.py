"""KV caches on disk serve the next process, if the config allows them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.kv import PrefixCache
from llm_tiered.mlx.engine.kv_disk import MIN_TOKENS, KvStore
from llm_tiered.paths import kv_folder
from tests.mlx.engine.client import PLENTY, Call, make_request
from tests.mlx.models import PATIENCE, local_model
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "mlx/kv-disk"
QUESTION = "Let us talk about scales, about their notes, and about the chords on each of them."
OTHER = "What is the weather like in Berlin today, and is it any warmer in Rome or in London?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model."""
    return build("qwen2", tmp_path_factory.mktemp("kv_disk"), layers=1, hidden=128, context=4096)


@pytest.fixture
def store(tmp_path: Path) -> KvStore:
    """A store that is empty, with plenty of room."""
    return KvStore(tmp_path / "kv", PLENTY)


@pytest.fixture(autouse=True)
def _empty_prefix_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be known except what is on disk, as in a new process."""
    monkeypatch.setattr(PrefixCache, "fetch", lambda _, tokens, __: (None, list(tokens)))


def ask(folder: Path, store: KvStore | None, *turns: str, **fields: Any) -> tuple[str, int]:
    """Return a model's answer, and the number of the prompt's tokens that were cached."""
    shared: dict[str, Any] = {"model": NAME, "sampling": {}}
    fields = {"max_tokens": 8, "kv_store": store, **shared, **fields}
    text, done = Call(make_request(folder, *turns, **fields)).submit().answer()
    # The cache is written after the answer, and before the next request.
    Call(make_request(folder, "Hi", max_tokens=1, **shared)).submit().answer()
    return text, done.cached_tokens


def files(store: KvStore, pattern: str = "*") -> list[Path]:
    """Return the files in a store."""
    return sorted(file for file in store.folder.rglob(pattern) if file.is_file())


def test_conversation_across_processes(folder: Path, store: KvStore) -> None:
    """Each turn processes only what is new, and the answers are the same."""
    turns: tuple[str, ...] = ()
    before = 0
    for question in (QUESTION, "Which one?", "Why that?"):
        turns = (*turns, question)
        text, cached = ask(folder, store, *turns)
        assert text == ask(folder, None, *turns)[0]
        assert (cached > before) == (len(turns) > 1)
        before = cached
        turns = (*turns, text)


def test_fork_across_processes(folder: Path, store: KvStore) -> None:
    """If a conversation branches off, what both branches have in common is cached."""
    text, _ = ask(folder, store, QUESTION)
    ask(folder, store, QUESTION, text, "Which one?")
    fork, cached = ask(folder, store, QUESTION, text, "No, chords!")
    assert cached > MIN_TOKENS
    assert fork == ask(folder, None, QUESTION, text, "No, chords!")[0]


def test_same_prompt_across_processes(folder: Path, store: KvStore) -> None:
    """Of the same prompt, only the last token is processed again."""
    first, _ = ask(folder, store, QUESTION)
    again, cached = ask(folder, store, QUESTION)
    assert again == first
    assert cached > MIN_TOKENS
    assert len(files(store)) == 2


def test_seed_uses_no_cache(folder: Path, store: KvStore) -> None:
    """A request with a seed reads nothing from disk, and writes nothing there."""
    first, _ = ask(folder, store, QUESTION)
    before = files(store)
    assert ask(folder, store, QUESTION, seed=0) == (first, 0)
    ask(folder, store, OTHER, seed=0)
    assert files(store) == before


@pytest.mark.parametrize("kind", ["kv_bits", "draft"])
def test_kinds_of_caches(kind: str, folder: Path, store: KvStore) -> None:
    """A quantised cache, and one with a draft model's, serve only requests of their kind."""
    fields: Any = {kind: {"kv_bits": 4, "draft": (NAME, folder)}[kind]}
    text, _ = ask(folder, store, QUESTION, **fields)
    turns = (QUESTION, text, "Which one?")
    assert ask(folder, store, *turns)[1] == 0
    answer, cached = ask(folder, store, *turns, **fields)
    assert cached > MIN_TOKENS
    assert answer == ask(folder, None, *turns, **fields)[0]


def test_files_are_private(folder: Path, store: KvStore) -> None:
    """Only the user may read the files, whatever the umask allows."""
    umask = os.umask(0)
    try:
        ask(folder, store, QUESTION)
    finally:
        os.umask(umask)
    assert len(files(store)) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files(store)} == {0o600}
    folders = [store.folder, *(path for path in store.folder.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_short_prompts_are_not_stored(folder: Path, store: KvStore) -> None:
    """A cache that would take longer to load than to compute is not written."""
    ask(folder, store, "Hi")
    assert files(store) == []


def test_bounded_in_bytes(folder: Path, store: KvStore) -> None:
    """The least recently used entries are removed to stay within the limit."""
    ask(folder, store, QUESTION)
    [size] = [file.stat().st_size for file in files(store, "*.safetensors")]
    small = KvStore(store.folder, 5 * size // 2)
    ask(folder, small, OTHER)
    [first] = [file for file in files(store, "*.safetensors") if file.stat().st_size == size]
    # The first entry is used again, so the second one makes room for the third.
    os.utime(first, ns=(0, 0))
    assert ask(folder, small, QUESTION)[1] > MIN_TOKENS
    ask(folder, small, "Thank you very much. " * 5)
    assert sum(file.stat().st_size for file in files(store, "*.safetensors")) <= small.max_bytes
    assert ask(folder, None, QUESTION)[0] == ask(folder, small, QUESTION)[0]
    assert len(files(store, "*.ids")) == len(files(store, "*.safetensors")) in (1, 2)
    ask(folder, KvStore(store.folder, 1), OTHER)
    assert files(store) == []


def truncate(file: Path, size: int) -> None:
    """Cut a file to this size."""
    file.write_bytes(file.read_bytes()[:size])


def replace_by_other_tensors(file: Path) -> None:
    """Replace a file by a safetensors file that is not a KV cache."""
    import mlx.core as mx

    mx.save_safetensors(str(file), {"a": mx.zeros(3)})


def replace_by_folder(file: Path) -> None:
    """Replace a file by a folder."""
    file.unlink()
    file.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("not a KV cache at all " * 20),
    "half": lambda file: truncate(file, file.stat().st_size // 8 * 4),
    "short of a byte": lambda file: truncate(file, file.stat().st_size - 1),
    "gone": Path.unlink,
    "a folder": replace_by_folder,
}


@pytest.mark.parametrize("kind", ["*.ids", "*.safetensors"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files(damage: str, kind: str, folder: Path, store: KvStore) -> None:
    """Damaged files are ignored, and the next cache is stored again."""
    text, _ = ask(folder, store, QUESTION)
    DAMAGE[damage](files(store, kind)[0])
    turns = (QUESTION, text, "Which one?")
    expected = ask(folder, None, *turns)[0]
    assert ask(folder, store, *turns)[0] == expected
    again, cached = ask(folder, store, *turns)
    assert again == expected
    assert cached > MIN_TOKENS or damage == "a folder"


def test_other_tensors(folder: Path, store: KvStore) -> None:
    """A safetensors file that is not a KV cache is ignored too."""
    text, _ = ask(folder, store, QUESTION)
    replace_by_other_tensors(files(store, "*.safetensors")[0])
    assert ask(folder, store, QUESTION) == (text, 0)


def test_ids_that_do_not_match_the_cache(folder: Path, store: KvStore) -> None:
    """A cache with more tokens than its list of ids is not used: its end is unknown."""
    text, _ = ask(folder, store, QUESTION)
    [ids] = files(store, "*.ids")
    tokens = array("i", ids.read_bytes())
    ids.write_bytes(tokens[:-12].tobytes())
    assert ask(folder, store, QUESTION)[0] == text


def test_another_model_of_the_same_name(folder: Path, store: KvStore, tmp_path: Path) -> None:
    """A model's caches don't serve another model of the same name."""
    ask(folder, store, QUESTION)
    other = build("qwen2", tmp_path / "other", layers=1, seed=1)
    assert ask(other, store, QUESTION) == ask(other, None, QUESTION)


def test_new_weights(folder: Path, store: KvStore, tmp_path: Path) -> None:
    """Caches of the old weights don't serve the new ones."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    ask(copy, store, QUESTION)
    build("qwen2", copy, layers=1, seed=1)
    ENGINE.close()
    assert ask(copy, store, QUESTION) == ask(copy, None, QUESTION)


def test_folder_that_can_not_be_written(folder: Path, tmp_path: Path) -> None:
    """If the store can't be written, the answer is the same."""
    (tmp_path / "kv").write_text("in the way")
    text, cached = ask(folder, KvStore(tmp_path / "kv", PLENTY), QUESTION)
    assert (text, cached) == ask(folder, None, QUESTION)


def test_folder_that_can_not_be_read(
    folder: Path, store: KvStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the store belongs to another user, as after sudo, the answer is the same."""
    expected = ask(folder, None, QUESTION)[0]
    glob = Path.glob

    def refuse(path: Path, pattern: str) -> Any:
        if pattern == "*.ids":
            raise PermissionError
        return glob(path, pattern)

    monkeypatch.setattr(Path, "glob", refuse)
    assert ask(folder, store, QUESTION)[0] == expected


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_full_disk(
    error: type[Exception], folder: Path, store: KvStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full, the answer is the same, and no unfinished file is left."""
    ask(folder, store, QUESTION)
    before = files(store)

    def fill(file: str, *_: Any) -> None:
        Path(file).write_bytes(b"half")
        raise error("No space left")

    with monkeypatch.context() as patch:
        patch.setattr("mlx_lm.models.cache.save_prompt_cache", fill)
        assert ask(folder, store, OTHER)[0] == ask(folder, None, OTHER)[0]
    assert files(store) == before


def test_off_by_default(folder: Path) -> None:
    """Unless the config allows it, no KV cache is written."""
    assert local_model(folder, NAME).prompt(QUESTION, max_tokens=8).text()
    assert not kv_folder().exists()
    assert not [path for path in Path(llm.user_dir()).rglob("*") if path.is_file()]


def test_command_line(folder: Path, config_file: Path, logs: Path, tmp_path: Path) -> None:
    """`llm -c` processes only what is new, also in two simultaneous processes."""
    models = [{"id": NAME, "path": str(folder)}]
    config_file.write_text(json.dumps({"models": models, "kv_disk": "100MB", "keep_warm": 0}))
    limit = ("-o", "max_tokens", "8")
    result = CliRunner().invoke(cli, ["-m", NAME, *limit, QUESTION], catch_exceptions=False)
    first = result.stdout.removesuffix("\n")
    # With logs of their own, neither process continues where the other one ended.
    copies = [shutil.copy(logs, tmp_path / f"{number}.db") for number in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "llm", "-c", "-d", log, "-u", *limit, "Which one?"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for log in copies
    ]
    expected = ask(folder, None, QUESTION, first, "Which one?")[0]
    for process in processes:
        output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, output) == (0, f"{expected}\n")
        [usage] = errors.splitlines()
        assert '"cached_tokens": ' in usage
    assert len(list(kv_folder().rglob("*.safetensors"))) in (1, 2)
