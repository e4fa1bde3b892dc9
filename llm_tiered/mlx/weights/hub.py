"""The files of a Hugging Face repository: finding them in the cache, their size, the download.

huggingface_hub owns the cache and its layout, but it no longer resumes a download: it drops a
partial file, and on Ctrl-C it waits for its threads to end. So the large files, which the hub
identifies by their SHA-256, are fetched here, one after the other, each continuing an earlier
partial download, and stored where the library expects them. The library does the rest.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...atomic import write_file
from ...errors import DownloadError, ModelUnavailable
from ...wording import gigabytes
from .huggingface import cache_folder, endpoint, hub_name, library, offline, repo_folder
from .inspect import MLX_BUILD, WEIGHTS_PATTERN, has_model_files, inspect_folder
from .reporting import bar_class

if TYPE_CHECKING:
    from .reporting import Show

# What mlx_lm downloads, except "*.py": code from a repository is never run.
ALLOW_PATTERNS = (
    "*.json",
    WEIGHTS_PATTERN,
    "tokenizer.model",
    "*.tiktoken",
    "tiktoken.model",
    "*.txt",
    "*.jsonl",
    "*.jinja",
)
DISK_MARGIN = 1.05  # free space needed, as a multiple of the missing bytes
DOWNLOAD_TIMEOUT = 10.0  # seconds
LISTING_LIFETIME = 60.0  # seconds; enough from the check of a model to its download
RESUME = "try again: the download continues where it stopped"


@dataclass(frozen=True)
class _RemoteFile:
    """A file of the repository; `blob` is where the cache keeps its content."""

    name: str
    size: int
    sha256: str | None
    blob: Path

    @property
    def partial(self) -> Path:
        return self.blob.with_name(f"{self.blob.name}.incomplete")

    def is_complete(self) -> bool:
        return _size(self.blob) == self.size

    def matches(self, path: Path) -> bool:
        """Whether a file's hash is the blob's name: SHA-256 for large files, else git's SHA-1."""
        digest = hashlib.sha256() if self.sha256 else hashlib.sha1(usedforsecurity=False)
        if not self.sha256:
            digest.update(b"blob %d\0" % self.size)
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest() == self.blob.name

    def missing_bytes(self) -> int:
        return 0 if self.is_complete() else self.size - min(_size(self.partial) or 0, self.size)


@dataclass(frozen=True)
class _Listing:
    """What the hub says about a repository: its commit and the files that a model needs.

    `names` has all of these files, `files` only those whose size and hash are known.
    """

    commit: str
    names: tuple[str, ...]
    files: tuple[_RemoteFile, ...]

    def missing_bytes(self) -> int:
        return sum(file.missing_bytes() for file in self.files)


# The latest listings, and when they were made, by endpoint and folder in the cache.
_listings: dict[tuple[str | None, Path], tuple[float, _Listing]] = {}


def find(repo: str) -> Path | None:
    """Return the model's folder in the cache if all its files are there, else None.

    Uses no network. Whether the files are sound is for `inspect_folder` to say.
    """
    # Importing the library takes half a second, so only do it if there may be something to find.
    if not os.path.isdir(repo_folder(repo)):
        return None
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repo,
            cache_dir=cache_folder(),
            allow_patterns=list(ALLOW_PATTERNS),
            local_files_only=True,
        )
    except (OSError, ValueError):
        # The library's errors for missing files and for a damaged cache.
        return None
    return Path(folder) if has_model_files(Path(folder)) else None


def model_bytes(repo: str, *, timeout: float = 5.0) -> int:
    """Return the size of the model in bytes, whether it is in the cache or not.

    `timeout` is in seconds. Raises DownloadError if the hub can't be asked or has no such model.
    """
    return sum(file.size for file in _list_files(repo, timeout).files)


def download(repo: str, *, show_progress: Show = None) -> Path:
    """Get the model's files into the cache, and return their folder.

    Files that are there stay, damaged ones are fetched again, and an interrupted download
    continues where it stopped. `show_progress` is who is told about it.
    Raises DownloadError, and ModelUnavailable if the files are not an MLX model.
    """
    try:
        listing = _list_files(repo, DOWNLOAD_TIMEOUT)
    except DownloadError:
        folder = find(repo)
        if folder is None:
            raise
    else:
        # The next download asks the hub again, however this one ends.
        _listings.pop(_place(repo), None)
        folder = _fetch(repo, listing, show_progress)
        try:
            inspect_folder(folder)
        except ModelUnavailable:
            _drop_damaged(listing)
            folder = _fetch(repo, listing, show_progress)
    inspect_folder(folder, fix=f"delete {repo_folder(repo)} and download it again")
    return folder


def _list_files(repo: str, timeout: float) -> _Listing:
    """Return the hub's listing of a model, asking only if there is none from the last minute."""
    if offline():
        raise DownloadError(
            f"{repo} can't be fetched: HF_HUB_OFFLINE forbids the network",
            fix="unset HF_HUB_OFFLINE",
        )
    made, listing = _listings.get(_place(repo), (0.0, None))
    if listing is None or time.monotonic() - made > LISTING_LIFETIME:
        listing = _ask(repo, timeout)
        _listings[_place(repo)] = time.monotonic(), listing
    return listing


def _ask(repo: str, timeout: float) -> _Listing:
    """Ask the hub which files a model needs."""
    with library(repo, fix="check the network, and HF_ENDPOINT if it is set, or try again later"):
        from huggingface_hub import HfApi

        info = HfApi(endpoint=endpoint()).model_info(repo, timeout=timeout, files_metadata=True)
        commit = info.sha or ""
        # It comes from outside and becomes a path.
        if not re.fullmatch("[0-9a-f]{40}", commit):
            raise ValueError("not a commit")
    siblings = [
        sibling
        for sibling in info.siblings or ()
        if any(fnmatchcase(sibling.rfilename, pattern) for pattern in ALLOW_PATTERNS)
    ]
    names = tuple(sibling.rfilename for sibling in siblings)
    if not any(fnmatchcase(name, WEIGHTS_PATTERN) for name in names):
        raise DownloadError(f"{repo} has no weights for MLX ({WEIGHTS_PATTERN})", fix=MLX_BUILD)
    files = (_remote_file(repo, sibling) for sibling in siblings)
    return _Listing(commit, names, tuple(file for file in files if file))


def _remote_file(repo: str, sibling: Any) -> _RemoteFile | None:
    """Return a file as the hub describes it, or None if its size or hash is missing."""
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    key = sha256 or sibling.blob_id or ""
    # The key comes from outside and becomes a path.
    if sibling.size is None or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", key):
        return None
    return _RemoteFile(
        name=sibling.rfilename,
        size=sibling.size,
        sha256=sha256,
        blob=repo_folder(repo) / "blobs" / key,
    )


def _fetch(repo: str, listing: _Listing, show_progress: Show) -> Path:
    """Download what is missing or has the wrong size, and return the model's folder."""
    _check_room(repo, listing.missing_bytes())
    with library(repo, fix=RESUME):
        from huggingface_hub import hf_hub_download

        for file in listing.files:
            if file.is_complete():
                continue
            if file.sha256:
                _fetch_large(repo, listing.commit, file, _bar(show_progress))
            else:
                file.blob.unlink(missing_ok=True)
        # Given the commit, the library does not ask the hub for another listing.
        for name in listing.names:
            hf_hub_download(
                repo,
                name,
                revision=listing.commit,
                cache_dir=cache_folder(),
                endpoint=endpoint(),
                tqdm_class=_bar(show=False),
            )
        return _publish(repo, listing.commit)


def _publish(repo: str, commit: str) -> Path:
    """Make a downloaded commit the one that `find` returns."""
    reference = repo_folder(repo) / "refs" / "main"
    if not reference.is_file() or reference.read_bytes() != commit.encode():
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_file(reference, commit.encode())
    return repo_folder(repo) / "snapshots" / commit


def _fetch_large(repo: str, commit: str, file: _RemoteFile, bar: type[Any]) -> None:
    """Download one file into the library's cache, continuing a partial download of it."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # it has no __all__
        WeakFileLock,
        build_hf_headers,
    )

    # The library's own lock, so that other programs that fetch this file wait, too.
    lock = cache_folder() / ".locks" / repo_folder(repo).name / f"{file.sha256}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    file.blob.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if file.is_complete():
            return
        if (_size(file.partial) or 0) > file.size:
            file.partial.unlink()
        with file.partial.open("ab") as stream:
            http_get(
                hf_hub_url(repo, file.name, revision=commit, endpoint=endpoint()),
                stream,
                resume_size=stream.tell(),
                headers=build_hf_headers(),
                expected_size=file.size,
                displayed_filename=file.name,
                tqdm_class=bar,
            )
        if not file.matches(file.partial):
            file.partial.unlink()
            raise DownloadError(
                f"{file.name} of {repo} arrived damaged from {hub_name()}", fix="try again"
            )
        file.partial.replace(file.blob)


def _drop_damaged(listing: _Listing) -> None:
    """Remove files that have the right size but the wrong content."""
    for file in listing.files:
        if file.is_complete() and not file.matches(file.blob):
            file.blob.unlink()


def _check_room(repo: str, needed: int) -> None:
    """Raise DownloadError if the disk has no room for `needed` more bytes."""
    disk = cache_folder()
    while not disk.exists():
        disk = disk.parent
    free = shutil.disk_usage(disk).free
    if needed and needed * DISK_MARGIN > free:
        raise DownloadError(
            f"{repo} needs {gigabytes(round(needed * DISK_MARGIN))} on disk, "
            f"but {cache_folder()} has only {gigabytes(free)} free",
            fix="free some space, or set HF_HUB_CACHE to a folder on a larger disk",
        )


def _bar(show: Show) -> type[Any]:
    """Return a class of progress bars that the library can use."""
    from huggingface_hub.utils.tqdm import tqdm

    return bar_class(tqdm, show)


def _place(repo: str) -> tuple[str | None, Path]:
    """Return where a model comes from and where it is stored."""
    return endpoint(), repo_folder(repo)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
