"""A recipe is looked through before hours are spent on its first steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from translucid.compress import COMPRESSORS
from translucid.config import build, from_kind
from translucid.errors import ConfigError, did_you_mean, lookup
from translucid.evaluate import TrustSettings
from translucid.explain import EXPLAINERS
from translucid.models import MODELS
from translucid.study import AuditSettings, Study, Variant
from translucid.train import TrainSettings


def check_study(study: Study) -> None:
    """Make everything that a recipe describes once, and nothing of it: what is misspelt is refused at the start.

    Raises:
        ConfigError: a word or a value that a later step would refuse, with its place in the recipe.

    Example:
        >>> from translucid.study import ExplainSettings
        >>> check_study(Study(explain=ExplainSettings(methods=("hirescm",))))
        Traceback (most recent call last):
        ...
        translucid.errors.ConfigError: unknown explain.methods 'hirescm': did you mean 'hirescam'? (known: captum, ...

    Fails when: only the data can tell, such as a mask that no image has.
    """
    for name, variant in study.rows.items():
        _check_variant(f"variants.{name}", variant, study.seed)
    _check_methods("explain.methods", study.explain.methods)
    _check_places(study)
    build(TrustSettings, study.trust.options, "trust.options")
    _check_names("trust.variants", study.trust.variants, study.rows)
    if study.audit != AuditSettings():
        from translucid.pipeline.audit_plan import checked

        checked(study)


def _check_variant(where: str, variant: Variant, seed: int) -> None:
    from_kind(COMPRESSORS, variant.compress, f"{where}.compress")
    from_kind(MODELS, variant.model, f"{where}.model")
    settings = build(TrainSettings, {"seed": seed, **variant.train}, f"{where}.train")
    settings.make_loss()
    settings.make_augment()
    _check_methods(f"{where}.methods", variant.methods)


def _check_methods(where: str, methods: tuple[str, ...]) -> None:
    for name in methods:
        lookup(EXPLAINERS, name, where)


def _check_places(study: Study) -> None:
    """Where the recipe names its labels, places of others would be dropped in silence."""
    if study.data.labels:
        _check_names("places.truth", study.places.truth, dict.fromkeys(study.data.labels), "label of the study")
        _check_names("places.regions", study.places.regions, dict.fromkeys(study.data.labels), "label of the study")


def _check_names(where: str, names: Any, known: Mapping[str, Any], what: str = "variant") -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: no {what} {name!r}: {did_you_mean(name, known)}")
