"""What a model has read serves the next process, where the config allows it to be kept on disk."""

from __future__ import annotations

import json
import os
import queue
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

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.kv import PrefixCache
from llm_tiered.mlx.engine.kv_disk import MIN_TOKENS, KvStore
from llm_tiered.mlx.engine.requests import (
    CancelToken,
    Done,
    Event,
    Failed,
    GenerationRequest,
    Limits,
)
from llm_tiered.mlx.models import MlxModel
from llm_tiered.mlx.tokens.decoding import Text
from llm_tiered.paths import kv_folder
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "mlx/kv-disk"
PATIENCE = 30  # seconds, for what takes far less
PLENTY = 10**9
QUESTION = "Let us talk about scales, about their notes, and about the chords on each of them."
OTHER = "What is the weather like in Berlin today, and is it any warmer in Rome or in London?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model."""
    return build("qwen2", tmp_path_factory.mktemp("kv_disk"), layers=1, hidden=128, context=4096)


@pytest.fixture
def kept(tmp_path: Path) -> KvStore:
    """Give a store with nothing in it yet, and plenty of room."""
    return KvStore(tmp_path / "kv", PLENTY)


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be known but what is on disk, as in a new process."""
    monkeypatch.setattr(PrefixCache, "fetch", lambda _, tokens, __: (None, list(tokens)))


def ask(folder: Path, kept: KvStore | None, *turns: str, **said: Any) -> Any:
    """Ask a model; gives the text, and how much of the prompt was not read again."""
    chat = tuple(
        {"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)
    )
    text, done = wait(GenerationRequest(NAME, folder, PLENTY, chat, 8, kv_store=kept, **said))
    # It is written after the answer, and before the next one.
    wait(GenerationRequest(NAME, folder, PLENTY, ({"role": "user", "content": "Hi"},), 1))
    return text, done.cached_tokens


def wait(request: GenerationRequest) -> tuple[str, Done]:
    """Wait for an answer."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ENGINE.submit(request, events.put, CancelToken())
    text = ""
    while not isinstance(event := events.get(timeout=PATIENCE), Done):
        assert not isinstance(event, Failed), event.error
        text += event.text if isinstance(event, Text) else ""
    return text, event


def files(kept: KvStore, kind: str = "*") -> list[Path]:
    """The files in a store."""
    return sorted(file for file in kept.folder.rglob(kind) if file.is_file())


def test_conversation_across_processes(folder: Path, kept: KvStore) -> None:
    """Each turn reads only what the one before it had not, and the answers stay the same."""
    turns: tuple[str, ...] = ()
    before = 0
    for question in (QUESTION, "Which one?", "Why that?"):
        turns = (*turns, question)
        text, cached = ask(folder, kept, *turns)
        assert text == ask(folder, None, *turns)[0]
        assert (cached > before) == (len(turns) > 1)
        before = cached
        turns = (*turns, text)


def test_fork_across_processes(folder: Path, kept: KvStore) -> None:
    """Of a conversation that takes another way, what both have in common is not read again."""
    text, _ = ask(folder, kept, QUESTION)
    ask(folder, kept, QUESTION, text, "Which one?")
    fork, cached = ask(folder, kept, QUESTION, text, "No, chords!")
    assert cached > MIN_TOKENS
    assert fork == ask(folder, None, QUESTION, text, "No, chords!")[0]


def test_same_prompt_across_processes(folder: Path, kept: KvStore) -> None:
    """Of the same prompt only the last token is read again."""
    first, _ = ask(folder, kept, QUESTION)
    again, cached = ask(folder, kept, QUESTION)
    assert again == first
    assert cached > MIN_TOKENS
    assert len(files(kept)) == 2


def test_seed_reads_everything(folder: Path, kept: KvStore) -> None:
    """A request with a seed takes nothing from disk, and leaves nothing there."""
    first, _ = ask(folder, kept, QUESTION)
    before = files(kept)
    assert ask(folder, kept, QUESTION, seed=0) == (first, 0)
    ask(folder, kept, OTHER, seed=0)
    assert files(kept) == before


@pytest.mark.parametrize("kind", ["kv_bits", "draft"])
def test_kinds_of_caches(kind: str, folder: Path, kept: KvStore) -> None:
    """A quantised cache, and one with a draft model's, serve only requests of their kind."""
    said = {kind: {"kv_bits": 4, "draft": (NAME, folder)}[kind]}
    text, _ = ask(folder, kept, QUESTION, **said)
    turns = (QUESTION, text, "Which one?")
    assert ask(folder, kept, *turns)[1] == 0
    answer, cached = ask(folder, kept, *turns, **said)
    assert cached > MIN_TOKENS
    assert answer == ask(folder, None, *turns, **said)[0]


def test_files_are_private(folder: Path, kept: KvStore) -> None:
    """Only the user may read what was said, whatever others may do with files by default."""
    umask = os.umask(0)
    try:
        ask(folder, kept, QUESTION)
    finally:
        os.umask(umask)
    assert len(files(kept)) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files(kept)} == {0o600}
    folders = [kept.folder, *(path for path in kept.folder.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_short_prompts_are_not_kept(folder: Path, kept: KvStore) -> None:
    """What is read faster than it is loaded is not written."""
    ask(folder, kept, "Hi")
    assert files(kept) == []


def test_bounded_in_bytes(folder: Path, kept: KvStore) -> None:
    """What was not used for longest goes where there is no more room, to the last byte."""
    ask(folder, kept, QUESTION)
    [size] = [file.stat().st_size for file in files(kept, "*.safetensors")]
    small = KvStore(kept.folder, 5 * size // 2)
    ask(folder, small, OTHER)
    [first] = [file for file in files(kept, "*.safetensors") if file.stat().st_size == size]
    # Used again, the first one is the younger; the second one goes for the third.
    os.utime(first, ns=(0, 0))
    assert ask(folder, small, QUESTION)[1] > MIN_TOKENS
    ask(folder, small, "Thank you very much. " * 5)
    assert sum(file.stat().st_size for file in files(kept, "*.safetensors")) <= small.max_bytes
    assert ask(folder, None, QUESTION)[0] == ask(folder, small, QUESTION)[0]
    assert len(files(kept, "*.ids")) == len(files(kept, "*.safetensors")) in (1, 2)
    ask(folder, KvStore(kept.folder, 1), OTHER)
    assert files(kept) == []


def truncate(file: Path, size: int) -> None:
    """Cut the end of a file off."""
    file.write_bytes(file.read_bytes()[:size])


def alien(file: Path) -> None:
    """Put another safetensors file in the place of one."""
    import mlx.core as mx

    mx.save_safetensors(str(file), {"a": mx.zeros(3)})


def directory(file: Path) -> None:
    """Put a folder in the place of a file."""
    file.unlink()
    file.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("not what belongs here " * 20),
    "half": lambda file: truncate(file, file.stat().st_size // 8 * 4),
    "short of a byte": lambda file: truncate(file, file.stat().st_size - 1),
    "gone": Path.unlink,
    "a folder": directory,
}


@pytest.mark.parametrize("kind", ["*.ids", "*.safetensors"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files(damage: str, kind: str, folder: Path, kept: KvStore) -> None:
    """Files that are not whole are passed over, and what comes next is kept again."""
    text, _ = ask(folder, kept, QUESTION)
    DAMAGE[damage](files(kept, kind)[0])
    turns = (QUESTION, text, "Which one?")
    expected = ask(folder, None, *turns)[0]
    assert ask(folder, kept, *turns)[0] == expected
    again, cached = ask(folder, kept, *turns)
    assert again == expected
    assert cached > MIN_TOKENS or damage == "a folder"


def test_files_of_another_kind(folder: Path, kept: KvStore) -> None:
    """A safetensors file that is no cache is passed over too."""
    text, _ = ask(folder, kept, QUESTION)
    alien(files(kept, "*.safetensors")[0])
    assert ask(folder, kept, QUESTION) == (text, 0)


def test_ids_that_are_not_those_of_the_cache(folder: Path, kept: KvStore) -> None:
    """A cache that holds more tokens than its list says is not used, as its end is unknown."""
    text, _ = ask(folder, kept, QUESTION)
    [ids] = files(kept, "*.ids")
    found = array("i", ids.read_bytes())
    ids.write_bytes(found[:-12].tobytes())
    assert ask(folder, kept, QUESTION)[0] == text


def test_another_model_of_the_same_name(folder: Path, kept: KvStore, tmp_path: Path) -> None:
    """What one model has read does not serve another one that goes by its name."""
    ask(folder, kept, QUESTION)
    other = build("qwen2", tmp_path / "other", layers=1, seed=1)
    assert ask(other, kept, QUESTION) == ask(other, None, QUESTION)


def test_weights_that_are_new(folder: Path, kept: KvStore, tmp_path: Path) -> None:
    """What was read with the weights that were there before does not serve the new ones."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    ask(copy, kept, QUESTION)
    build("qwen2", copy, layers=1, seed=1)
    ENGINE.close()
    assert ask(copy, kept, QUESTION) == ask(copy, None, QUESTION)


def test_folder_that_can_not_be_written(folder: Path, tmp_path: Path) -> None:
    """Where nothing can be written, the answer comes all the same."""
    (tmp_path / "kv").write_text("in the way")
    text, cached = ask(folder, KvStore(tmp_path / "kv", PLENTY), QUESTION)
    assert (text, cached) == ask(folder, None, QUESTION)


def test_folder_that_can_not_be_read(
    folder: Path, kept: KvStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the folder is another user's, as after sudo, the answer comes all the same."""
    expected = ask(folder, None, QUESTION)[0]
    glob = Path.glob

    def refuse(path: Path, pattern: str) -> Any:
        if pattern == "*.ids":
            raise PermissionError
        return glob(path, pattern)

    monkeypatch.setattr(Path, "glob", refuse)
    assert ask(folder, kept, QUESTION)[0] == expected


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_disk_that_is_full(
    error: type[Exception], folder: Path, kept: KvStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no space, the answer comes all the same, and nothing half done is left."""
    ask(folder, kept, QUESTION)
    before = files(kept)

    def fill(file: str, *_: Any) -> None:
        Path(file).write_bytes(b"half")
        raise error("No space left")

    with monkeypatch.context() as patch:
        patch.setattr("mlx_lm.models.cache.save_prompt_cache", fill)
        assert ask(folder, kept, OTHER)[0] == ask(folder, None, OTHER)[0]
    assert files(kept) == before


def test_off_by_default(folder: Path) -> None:
    """Unless the config says otherwise, nothing that was read is written."""
    model = MlxModel(ModelSpec(model_id=NAME, path=folder), Limits, lambda _: None)
    assert model.prompt(QUESTION, max_tokens=8).text()
    assert not kv_folder().exists()
    assert not [path for path in Path(llm.user_dir()).rglob("*") if path.is_file()]


def test_command_line(folder: Path, config_file: Path, logs: Path, tmp_path: Path) -> None:
    """`llm -c` reads only what is new, also in two processes at once, and answers as ever."""
    models = [{"id": NAME, "path": str(folder)}]
    config_file.write_text(json.dumps({"models": models, "kv_disk": "100MB"}))
    limit = ("-o", "max_tokens", "8")
    asked = CliRunner().invoke(cli, ["-m", NAME, *limit, QUESTION], catch_exceptions=False)
    first = asked.stdout.removesuffix("\n")
    # With a log of its own, neither goes on where the other one ended.
    copies = [shutil.copy(logs, tmp_path / f"{number}.db") for number in range(2)]
    both = [
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
    for process in both:
        printed, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, printed) == (0, f"{expected}\n")
        assert '"cached_tokens": ' in errors
    assert len(list(kv_folder().rglob("*.safetensors"))) in (1, 2)
