"""What trained attackers learn from a release: the ladder, its controls, and what can be bounded without them."""

from __future__ import annotations

from translucid.audit.adaptive import Denoised, Shrink, Values
from translucid.audit.bounds import code_bits, fano_rank1, gaussian_information, vacuous
from translucid.audit.gathering import audit, gather
from translucid.audit.membership import Lira, LossThreshold, ModelRelease, Shadows, membership_measures
from translucid.audit.model_rows import membership_rows
from translucid.audit.pairs import TwoSamples, pair_measures
from translucid.audit.picture import ms_ssim, psnr, ssim
from translucid.audit.plan import Audit, Task, run_task, set_up, tasks
from translucid.audit.records import Budget, Codec, Cohort, Public, Release, halves
from translucid.audit.search import map_at_r, search_measures
from translucid.audit.staging import stage
from translucid.audit.table import ATTACKS, LADDERS, PARTS
from translucid.audit.text import legibility, read_letters, tesseract
from translucid.audit.unlink import global_linkability

__all__ = [
    "ATTACKS",
    "LADDERS",
    "PARTS",
    "Audit",
    "Budget",
    "Codec",
    "Cohort",
    "Denoised",
    "Lira",
    "LossThreshold",
    "ModelRelease",
    "Public",
    "Release",
    "Shadows",
    "Shrink",
    "Task",
    "TwoSamples",
    "Values",
    "audit",
    "code_bits",
    "fano_rank1",
    "gather",
    "gaussian_information",
    "global_linkability",
    "halves",
    "legibility",
    "map_at_r",
    "membership_measures",
    "membership_rows",
    "ms_ssim",
    "pair_measures",
    "psnr",
    "read_letters",
    "run_task",
    "search_measures",
    "set_up",
    "ssim",
    "stage",
    "tasks",
    "tesseract",
    "vacuous",
]
