"""Who is told how far a download is."""

from __future__ import annotations

from tqdm import tqdm

from llm_tiered.mlx.weights.reporting import bar_class


def test_function_is_told_about_a_resumed_download() -> None:
    """A function gets the bytes so far, with those of an earlier try, and all bytes of the file."""
    reports: list[tuple[int, int]] = []
    with bar_class(tqdm, lambda done, size: reports.append((done, size)))(
        total=100, initial=40
    ) as bar:
        bar.update(25)
        bar.update(35)
    assert reports == [(65, 100), (100, 100)]
