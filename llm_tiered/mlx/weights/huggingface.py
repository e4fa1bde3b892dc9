"""The huggingface_hub library, used with the current environment and with errors of our own."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Iterator


def offline() -> bool:
    """Whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def endpoint() -> str | None:
    """Return the hub's address from the environment; None means huggingface.co."""
    return os.environ.get("HF_ENDPOINT") or None


def hub_name() -> str:
    """Return the hub's host for messages, without a password that the address may contain."""
    address = (endpoint() or "https://huggingface.co").rpartition("://")[2]
    return address.partition("/")[0].rpartition("@")[2]


def cache_folder() -> Path:
    """Return the cache's folder: from the current environment, else the library's default."""
    from huggingface_hub import constants

    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not folder and os.environ.get("HF_HOME"):
        folder = os.path.join(os.environ["HF_HOME"], "hub")
    return Path(os.path.expandvars(folder or constants.HF_HUB_CACHE)).expanduser()


def repo_folder(repo: str) -> Path:
    """Return the folder of a repository in the cache, whether it exists or not."""
    return cache_folder() / "--".join(["models", *repo.split("/")])


@contextmanager
def library(repo: str, *, fix: str) -> Iterator[None]:
    """Run huggingface_hub with the current environment, silently, and translate its errors.

    `fix` says what to do if the network or the hub fails.
    """
    from huggingface_hub import constants, errors
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    # The library read these from the environment when it was imported, perhaps long ago.
    constants.HF_HUB_OFFLINE = offline()
    constants.HF_HUB_DISABLE_TELEMETRY = True
    verbosity = get_verbosity()
    set_verbosity(max(verbosity, logging.ERROR))
    try:
        yield
    except errors.HFValidationError as error:
        raise DownloadError(
            f"{repo!r} is not the name of a Hugging Face repository", fix="write it as owner/name"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refusal(repo, error.response.status_code, fix) from error
    except OSError as error:
        raise _failure(repo, error, fix) from error
    except (
        errors.HTTPError  # type: ignore[attr-defined]  # httpx's or httpx2's: the library's choice
    ) as error:
        raise DownloadError(f"{hub_name()} can't be reached to fetch {repo}", fix=fix) from error
    except (ValueError, KeyError) as error:
        raise DownloadError(
            f"{hub_name()} does not answer like a Hugging Face hub", fix="check HF_ENDPOINT"
        ) from error
    finally:
        set_verbosity(verbosity)


def _refusal(repo: str, status: int, fix: str) -> DownloadError:
    """Return the error for a status of the hub. Its text is left out: it may quote the token."""
    if status == 404:
        return DownloadError(f"{hub_name()} has no repository {repo}", fix="check the name")
    if status in (401, 403):
        return DownloadError(
            f"{hub_name()} denies access to {repo}: it is private, gated or does not exist",
            fix="check the name, accept the terms on its page, and run: hf auth login",
        )
    return DownloadError(f"{hub_name()} answered with HTTP status {status} for {repo}", fix=fix)


def _failure(repo: str, error: OSError, fix: str) -> DownloadError:
    """Return the error for an OSError: the disk's if it has an error number, else the hub's."""
    if error.errno is None:
        return DownloadError(
            f"the connection to {hub_name()} broke while downloading {repo}", fix=fix
        )
    return DownloadError(
        f"{repo} can't be written to {cache_folder()}: {os.strerror(error.errno)}",
        fix="free some space there, or set HF_HUB_CACHE to another folder",
    )
