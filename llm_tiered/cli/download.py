"""`llm tiered download`: fetch models before they are needed."""

from __future__ import annotations

import click

from ..config.local_models import local_models
from ..config.settings import load_settings
from ..errors import DownloadError, ModelUnavailable, RequestError
from ..mlx.catalog import EMBEDDED, PREFIX, ModelSpec
from ..mlx.weights import store
from ..router.decision import EMBEDDED_TIER
from ..wording import gigabytes
from .lookup import find_spec


@click.command("download")
@click.argument("names", nargs=-1, metavar="[TIER|MODEL]...")
def command(names: tuple[str, ...]) -> None:
    """Download the models of all local tiers, or only the named tiers and models.

    Files that are on disk are not fetched again, and an interrupted download continues where it
    stopped.
    """
    failures = [] if names else _tiers_without_a_model()
    for spec in [_find(name) for name in names] or _models_of_the_tiers():
        try:
            folder = store.download(spec)
            size = store.model_files(spec, folder).size
        except ModelUnavailable as error:
            failures.append(str(error))
        else:
            click.echo(f"{spec.model_id}: {gigabytes(size)} in {folder}")
    if failures:
        raise DownloadError("\n".join(failures))


def _models_of_the_tiers() -> list[ModelSpec]:
    ids = {tier.model_id for tier in load_settings().tiers} | {EMBEDDED.model_id}
    return [spec for spec in local_models() if spec.model_id in ids]


def _tiers_without_a_model() -> list[str]:
    known = {spec.model_id for spec in local_models()}
    return [
        f"{tier.name}: there is no local model {tier.model}"
        for tier in load_settings().tiers
        if tier.model.startswith(PREFIX) and not tier.server and tier.model not in known
    ]


def _find(name: str) -> ModelSpec:
    tier = load_settings().tier(name)
    model = EMBEDDED.model_id if name == EMBEDDED_TIER else tier.model_id if tier else name
    spec = find_spec(model)
    if spec:
        return spec
    if tier:
        raise RequestError(f"{tier.model}, the model of {name}, is not a local model")
    raise RequestError(f"there is no tier or local model {name!r}", fix="llm tiered models")
