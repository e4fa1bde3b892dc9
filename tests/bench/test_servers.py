"""The servers that are compared."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from llm_tiered.bench import servers
from llm_tiered.errors import TieredError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_server_that_does_not_start_is_reported(config_file: Path) -> None:
    """A server that ends before it listens is an error with its own last line."""
    config_file.write_text("tiers: 3")
    with (
        pytest.raises(TieredError, match=r"llm tiered serve did not start: .*tiers"),
        servers.tiered_serve("mlx/wee"),
    ):
        pass


def test_a_server_runs_as_long_as_it_is_measured(config_file: Path) -> None:
    """The server listens inside the block, and is gone after it."""
    config_file.write_text("keep_warm: 0")
    with servers.tiered_serve("mlx/wee") as server:
        assert server.model == "mlx/wee"
        socket.create_connection(server.address).close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(server.address)
