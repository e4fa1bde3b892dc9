"""`llm tiered download`: fetch models before they are needed."""

from __future__ import annotations

import click

from ..config.local_models import local_models
from ..config.settings import load_settings
from ..errors import DownloadError, ModelUnavailable, RequestError
from ..mlx.catalog import EMBEDDED, ModelSpec
from ..mlx.weights import store
from ..router.decision import EMBEDDED_TIER
from ..wording import gigabytes
from .lookup import local_model


@click.command("download")
@click.argument("names", nargs=-1, metavar="[TIER|MODEL]...")
def command(names: tuple[str, ...]) -> None:
    """Download models: those of the tiers or models named, or of all local tiers.

    What is there already is not fetched again; what was interrupted goes on where it stopped.
    """
    failures = [] if names else _unknown()
    for spec in [_find(name) for name in names] or _tier_specs():
        try:
            folder = store.download(spec)
            found = store.model_files(spec, folder)
        except ModelUnavailable as error:
            failures.append(str(error))
        else:
            click.echo(f"{spec.model_id}: {gigabytes(found.size)} in {folder}")
    if failures:
        raise DownloadError("\n".join(failures))


def _tier_specs() -> list[ModelSpec]:
    wanted = {tier.model for tier in load_settings().tiers} | {EMBEDDED.model_id}
    return [spec for spec in local_models() if spec.model_id in wanted]


def _unknown() -> list[str]:
    known = {spec.model_id for spec in local_models()}
    return [
        f"{tier.name}: no local model is called {tier.model}"
        for tier in load_settings().tiers
        if tier.local and tier.model not in known
    ]


def _find(name: str) -> ModelSpec:
    tier = load_settings().tier(name)
    wanted = EMBEDDED.model_id if name == EMBEDDED_TIER else tier.model if tier else name
    spec = local_model(wanted)
    if spec:
        return spec
    if tier:
        raise RequestError(f"{tier.model}, the model of {name}, is not local")
    raise RequestError(f"no tier and no local model is called {name!r}", fix="llm tiered models")
