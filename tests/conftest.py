"""What every test gets: a user directory of its own, no network, no settings of the machine."""

from __future__ import annotations

import gc
import importlib
import ipaddress
import os
import socket
import sqlite3
import sys
import warnings
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm
import llm_gemini
import pytest
from llm import migrations
from llm.plugins import load_plugins, pm

from llm_tiered.config import local_models, settings
from llm_tiered.config.settings import ENVIRONMENT
from llm_tiered.log import private
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.process import start
from llm_tiered.router import request
from llm_tiered.router.cooldowns import Cooldowns
from tests.conftest_smollm2 import smollm2_folder, smollm2_wheel
from tests.make_log import empty_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["smollm2_folder", "smollm2_wheel"]

pytest_plugins = ("tests.toys",)

SETTINGS = (
    *ENVIRONMENT,
    *("LLM_GEMINI_KEY", "LLM_MODEL", "HF_HUB_OFFLINE", "HF_ENDPOINT", "SSL_CERT_FILE"),
)


LONGEST = (
    *("test_end_to_end.py", "test_process.py", "test_solo_kv.py", "test_browser.py"),
    *("test_kv_disk.py", "test_readme.py", "test_rooms.py"),
)
_HOMES = count()

# Libraries and tests stay to the end, so collecting garbage while they are imported is in vain.
gc.disable()

WITHOUT_OPENAI = str(Path(__file__).parent / "without_openai")
sys.path.insert(0, WITHOUT_OPENAI)

with warnings.catch_warnings():
    # Datasette's import leaves a connection to SQLite open, which would fail some later test.
    warnings.simplefilter("ignore", ResourceWarning)
    importlib.import_module("datasette.filters")
    gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left alone with one."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but seldom, and without what was imported."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    gc.enable()


@pytest.fixture(autouse=True)
def _environment(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Give a test homes of its own for llm and the hub, and none of the machine's settings.

    The homes are not there yet, because most tests need no files, and folders cost time.
    """
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.getbasetemp() / f"home-{next(_HOMES)}"
    monkeypatch.setenv("LLM_USER_PATH", str(home / "llm"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("PYTHONPATH", WITHOUT_OPENAI, prepend=os.pathsep)
    # No certificates: reading those of the machine takes each HTTP client 40 ms, for nothing.
    monkeypatch.setenv("SSL_CERT_DIR", str(home))
    monkeypatch.setattr(request, "COOLDOWNS", Cooldowns())
    monkeypatch.setattr(local_models, "_taken", frozenset())
    monkeypatch.setattr(private, "PRIVATE", private.PrivateConversations())
    monkeypatch.setattr(start, "_is_permitted", False)
    load_plugins()
    yield
    left = [*filter(_listens, home.glob("llm/tiered/engine/*.sock"))]
    assert left == [], "set keep_warm: 0 in the config, or end the engine in a fixture"


def _listens(path: Path) -> bool:
    """Whether a process listens on a socket: one that was killed leaves the file."""
    with closing(socket.socket(socket.AF_UNIX)) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture
def user_path(_environment: None) -> Path:
    """The user directory of llm, which is there and empty."""
    path = Path(os.environ["LLM_USER_PATH"])
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that was connected to; one beyond loopback fails."""
    made: list[Any] = []
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def guarded(self: socket.socket, address: Any) -> None:
        made.append(address)
        if self.family != socket.AF_UNIX and not ipaddress.ip_address(address[0]).is_loopback:
            raise ConnectionRefusedError(f"a connection beyond loopback: {address}")
        connect(self, address)

    def guarded_lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in ("localhost", "127.0.0.1", "::1", None):
            made.append(host)
            raise socket.gaierror(socket.EAI_NONAME, f"a look-up beyond loopback: {host}")
        return lookup(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_lookup)
    return made


@pytest.fixture
def config_file(user_path: Path) -> Path:
    """Where the config file belongs; its folder is there, the file is not."""
    path = user_path / "tiered" / "config.yaml"
    path.parent.mkdir()
    return path


@pytest.fixture(scope="session", autouse=True)
def _config_at_rest() -> Iterator[None]:
    """Let nothing wait until a config file stays the same: the tests have written all of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "REST", 0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _gemini_models() -> Iterator[None]:
    """Let llm-gemini make its models once. It takes 40 ms, and llm wants them for each prompt."""
    models: list[tuple[Any, ...]] = []
    llm_gemini.register_models(lambda *both, aliases: models.append((*both, aliases)))

    def register_models(register: Callable[..., None]) -> None:
        for registered in models:
            register(*registered)

    load_plugins()
    hooks = pm.hook.register_models.get_hookimpls()
    [hook] = [hook for hook in hooks if hook.plugin is llm_gemini]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hook, "function", register_models)
        yield


@pytest.fixture(scope="session", autouse=True)
def _migrated_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let llm copy the tables of a new log: its migrations take 20 ms for each."""
    template = tmp_path_factory.mktemp("migrated") / "logs.db"
    empty_log(template)
    ensure_migrations_table: Callable[[Any], None] = migrations.ensure_migrations_table

    def copy_tables(database: Any) -> None:
        if database.conn.execute("select 1 from sqlite_master").fetchone():
            ensure_migrations_table(database)
            return
        with closing(sqlite3.connect(template)) as migrated:
            migrated.backup(database.conn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "ensure_migrations_table", copy_tables)
        yield


@pytest.fixture(scope="session", autouse=True)
def _engine() -> Iterator[None]:
    """End the worker thread with the session."""
    yield
    ENGINE.close()


@pytest.fixture
def logs(user_path: Path) -> Path:
    """Where llm's log is."""
    return Path(llm.user_dir()) / "logs.db"


@pytest.fixture
def log(logs: Path) -> Path:
    """An empty log of llm, where the command line keeps it."""
    empty_log(logs)
    return logs
