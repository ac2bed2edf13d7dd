"""What a recipe may say: the settings of a study, and how variants inherit from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from translucid.config import build, fingerprint, override, read_toml, to_plain
from translucid.errors import ConfigError

Table = Mapping[str, Any]


@dataclass(frozen=True)
class DataSettings:
    """Which images, which labels, who belongs to which split.

    Attributes:
        layout: a public dataset's own layout, "manifest", "folders", or "phantom" (drawn into the run folder).
        root: the folder (or manifest) to read.
        labels: label columns to use; empty means all.
        uncertain: what an uncertain label becomes.
        views: keep only these views; empty means all.
        options: handed to the layout, or to the phantom cohort.
        split: shares of patients where the manifest does not assign them.
        limit: use only the first so many patients (after sorting), for a quick look.
        key: file with the key of the pseudonyms; without one a key is drawn for the run and thrown away.
    """

    layout: str = "manifest"
    root: Path = Path()
    labels: tuple[str, ...] = ()
    uncertain: Literal["ignore", "ones", "zeros"] = "ignore"
    views: tuple[str, ...] = ()
    options: Table = field(default_factory=dict)
    split: Mapping[str, float] = field(default_factory=lambda: {"train": 0.7, "val": 0.1, "test": 0.2})
    limit: int | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"data.limit = {self.limit}: needs at least one patient")


@dataclass(frozen=True)
class Variant:
    """One row of the study's table: a compressor and a model trained on what it keeps.

    `compress` and `model` are {"kind": …, fields}; `train` overrides single fields of the study's training settings.
    `input` says what the model eats: its own choice ("auto"), the packed codes, the compact image or the lifted image.
    `methods` stand in place of the study's methods of explanation; `annotated` is how many training cases keep their
    drawn findings or gaze where a loss learns from them, the same ones for all variants (None: all that have any).
    """

    compress: Table = field(default_factory=lambda: {"kind": "plain"})
    model: Table = field(default_factory=lambda: {"kind": "small_cnn"})
    train: Table = field(default_factory=dict)
    input: Literal["auto", "codes", "image", "lift"] = "auto"
    methods: tuple[str, ...] = ()
    annotated: int | None = None

    def __post_init__(self) -> None:
        if self.annotated is not None and self.annotated < 0:
            raise ConfigError(f"annotated = {self.annotated}: needs a number of cases, 0 or more")


@dataclass(frozen=True)
class PlacesSettings:
    """What is known of places in the images, kept beside the codes as shares of coarse cells.

    Attributes:
        truth: label → name of the mask or boxes that show its findings, such as {"nodule" = "nodule"}.
        regions: label → organ in which its evidence may lie: a name in `organs`, or "lungs" for both lungs.
        organs: where organ masks come from: the manifest's "masks", or "threshold" for lungs and heart of a chest CT.
        gaze: keep a heatmap of where radiologists looked, where the manifest names fixations.
        sigma: of the heatmap's Gaussian, in pixels of the file or in degrees of visual angle.
        sigma_unit: "pixels" or "degrees".
        mm_per_pixel: for degrees, millimetres of the screen on which one pixel of the file was shown.
        viewing_distance_mm: for degrees, from the readers' eyes to the screen.
        weight: what a fixation counts: one ("count") or its seconds ("duration").
        grid: cells along each axis; empty takes a quarter of the framed size, and at most 64, along each.
        touched: share of a map's cell above which the organ is said to reach it; 0 as published for the mask loss.
    """

    truth: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, str] = field(default_factory=dict)
    organs: Literal["masks", "threshold"] = "masks"
    gaze: bool = False
    sigma: float = 150.0
    sigma_unit: Literal["pixels", "degrees"] = "pixels"
    mm_per_pixel: float | None = None
    viewing_distance_mm: float | None = None
    weight: Literal["count", "duration"] = "count"
    grid: tuple[int, ...] = ()
    touched: float = 0.0

    def __post_init__(self) -> None:
        if self.grid and min(self.grid) < 1:
            raise ConfigError(f"places.grid = {self.grid}: needs at least one cell along each axis")
        if not 0 <= self.touched < 1:
            raise ConfigError(f"places.touched = {self.touched}: needs a share of a cell from 0 to below 1")
        if not self.sigma > 0:
            raise ConfigError(f"places.sigma = {self.sigma}: needs pixels above 0, such as 150")
        if self.sigma_unit not in ("pixels", "degrees"):
            raise ConfigError(f"places.sigma_unit = {self.sigma_unit!r}: wanted 'pixels' or 'degrees'")
        self._check_screen()

    def _check_screen(self) -> None:
        screen = {"mm_per_pixel": self.mm_per_pixel, "viewing_distance_mm": self.viewing_distance_mm}
        for name, value in screen.items():
            if self.sigma_unit == "pixels" and value is not None:
                raise ConfigError(f"places.{name} = {value} is for sigma_unit = 'degrees': set that, or leave it out")
            if self.sigma_unit == "degrees" and not (value is not None and 0 < value < math.inf):
                raise ConfigError(f"places.{name} = {value}: degrees need millimetres above 0")
        if self.sigma_unit == "degrees" and self.sigma >= 90:
            raise ConfigError(f"places.sigma = {self.sigma}: needs degrees below 90, such as 1")

    @property
    def wanted(self) -> bool:
        """Whether anything is kept."""
        return bool(self.truth or self.regions or self.gaze)

    @property
    def organ_names(self) -> tuple[str, ...]:
        """Every organ mask that the regions need."""
        named = [("right_lung", "left_lung") if r == "lungs" else (r,) for r in self.regions.values()]
        return tuple(dict.fromkeys(name for group in named for name in group))

    @property
    def names(self) -> tuple[str, ...]:
        """The maps kept of every image, in their order."""
        truth, organs = [f"truth:{name}" for name in self.truth], [f"organ:{name}" for name in self.organ_names]
        return (*truth, *organs, *(["gaze"] if self.gaze else []))


@dataclass(frozen=True)
class ExplainSettings:
    """Which cases and methods the explanations show: `cases` per label, of the split `split`.

    `methods` are for CNNs. For models on codes gradient × code is integrated over `steps` points (0: the gradient at
    the codes only, and contributions need not add up) from `baseline`: the mean of the training codes, or zero.
    """

    cases: int = 4
    steps: int = 64
    baseline: Literal["mean", "zero"] = "mean"
    split: Literal["train", "val", "test"] = "test"
    methods: tuple[str, ...] = ("gradcam", "hirescam")


@dataclass(frozen=True)
class EvaluateSettings:
    """How the numbers are made: confidence level and bootstrap resamples of patients."""

    level: float = 0.95
    resamples: int = 2000

    def __post_init__(self) -> None:
        if not 0.5 < self.level < 1:
            raise ConfigError(f"evaluate.level = {self.level}: needs a value between 0.5 and 1, such as 0.95")
        if self.resamples < 100:
            raise ConfigError(f"evaluate.resamples = {self.resamples}: needs at least 100")


@dataclass(frozen=True)
class AuditSettings:
    """What attackers try on the codes after the evaluation; a study audits only where `parts` names something.

    Attributes:
        parts: "verification", "linkage_same", "linkage_other", "reconstruction", "attributes", "text" (letters burnt
            in), "unlinkability" (of records under two keys), "bounds", "membership" (of the trained models) and
            "explanations" (what released maps give away).
        share: of the patients on whom attackers are scored; they learn from the others.
        attributes: columns of the index that attackers guess; those that are absent or say one thing only are left out.
        budget: what attackers may spend: fields of `translucid.audit.Budget`.
        shadows: networks like the released one that the membership attacker trains for each variant, on halves of the
            candidates; each costs about what the variant's own training does. 0 leaves out the likelihood ratio.
        shadowed: the variants for which he does so; empty means all.
    """

    parts: tuple[str, ...] = ()
    share: float = 0.5
    attributes: tuple[str, ...] = ("sex", "age", "device")
    budget: Table = field(default_factory=dict)
    shadows: int = 0
    shadowed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.1 <= self.share <= 0.9:
            raise ConfigError(f"audit.share = {self.share}: needs a share of the patients between 0.1 and 0.9")
        if self.shadows and (self.shadows < 4 or self.shadows % 2):
            raise ConfigError(f"audit.shadows = {self.shadows}: take an even number of at least 4, or 0 for none")

    @property
    def wanted(self) -> bool:
        """Whether a study audits."""
        return bool(self.parts)


@dataclass(frozen=True)
class ProtocolSettings:
    """How maps are judged by `evaluate --protocol trust`.

    Attributes:
        cases: test images at most, drawn by the seed.
        variants: judged ones; empty takes the baseline and those that show maps of their own.
        architectures: at most so many other networks of the study are compared with.
        options: fields of `translucid.evaluate.TrustSettings`.
    """

    cases: int = 200
    variants: tuple[str, ...] = ()
    architectures: int = 1
    options: Table = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cases < 2 or self.architectures < 0:
            raise ConfigError(f"trust.cases = {self.cases}, architectures = {self.architectures}: too few")


@dataclass(frozen=True)
class ReportSettings:
    """What the report shows: the plain image beside the kept one only where `images` = "plain" says so."""

    title: str = ""
    images: Literal["kept", "plain"] = "kept"
    note: str = ""


@dataclass(frozen=True)
class Study:
    """A whole recipe. `variants` is empty for a single one made of `compress` and `model`."""

    name: str = "study"
    seed: int = 0
    workers: int = 0
    baseline: str = ""
    data: DataSettings = field(default_factory=DataSettings)
    framing: Table = field(default_factory=dict)
    places: PlacesSettings = field(default_factory=PlacesSettings)
    compress: Table = field(default_factory=lambda: {"kind": "plain"})
    model: Table = field(default_factory=lambda: {"kind": "small_cnn"})
    train: Table = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    explain: ExplainSettings = field(default_factory=ExplainSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    trust: ProtocolSettings = field(default_factory=ProtocolSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    report: ReportSettings = field(default_factory=ReportSettings)

    def __post_init__(self) -> None:
        for name in self.variants:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ConfigError(f"variant {name!r}: a name is made of letters, digits, - and _")
        if self.baseline and self.baseline not in self.rows:
            raise ConfigError(f"baseline = {self.baseline!r} is no variant: {', '.join(self.rows)}")

    @property
    def rows(self) -> dict[str, Variant]:
        """The variants by name, with the study's training settings filled in."""
        single = {"main": Variant(self.compress, self.model)}
        rows = dict(self.variants) or single
        return {name: replace(v, train={**self.train, **v.train}) for name, v in rows.items()}

    @property
    def stores(self) -> dict[str, Table]:
        """Every different compressor once, by a readable name."""
        found: dict[str, Table] = {}
        wanted = [v.compress for v in self.rows.values()]
        if self.report.images == "plain" or self.audit.wanted:
            wanted.append({"kind": "plain"})
        for table in wanted:
            found.setdefault(store_name(table), table)
        return found


def store_name(compress: Table) -> str:
    """A short, stable name for a compressor's store.

    >>> store_name({"kind": "plain"})
    'plain'
    >>> store_name({"kind": "heartspot", "prior": "median+hline"}).startswith("heartspot-")
    True
    """
    options = {k: v for k, v in compress.items() if k != "kind"}
    kind = str(compress.get("kind", "plain"))
    return f"{kind}-{fingerprint(options)[:8]}" if options else kind


def read_study(path: Path, settings: tuple[str, ...] = ()) -> Study:
    """Read a recipe and apply `--set key=value`."""
    return build(Study, override(read_toml(path), settings))


def public_record(study: Study) -> dict[str, Any]:
    """The recipe as it may be written down: without the paths of the data and of the key."""
    plain = to_plain(study)
    plain["data"]["root"] = ""
    plain["data"]["key"] = None
    return plain
