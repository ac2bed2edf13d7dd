"""What is promised on real radiographs; skipped where there are none."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from translucid.cli import main
from translucid.config import read_json

RECIPE = """
[data]
layout = "nih14"
labels = ["Pneumonia", "No Finding"]
limit = 60
[framing]
size = {size}
[train]
epochs = 1
batch = 16
[variants.median-hline]
compress = {{ kind = "heartspot", prior = "median+hline" }}
model = {{ kind = "heartspot_mlp", widths = [16, 8] }}
[variants.deepfixcx]
compress = {{ kind = "deepfixcx", levels = 2, patches = 6 }}
model = {{ kind = "deepfixcx_mlp" }}
[explain]
cases = 1
steps = 4
[evaluate]
resamples = 100
"""


def study(real_data: Path, tmp_path: Path, size: int) -> Path:
    (tmp_path / "small.toml").write_text(RECIPE.format(size=size))
    words = ["study", tmp_path / "small.toml", tmp_path / "run", "--set", f"data.root={real_data / 'cxr-nih14'}"]
    result = CliRunner().invoke(main, [*map(str, words), "--set", "workers=1"])
    assert result.exit_code == 0, result.output
    return tmp_path / "run"


def test_a_study_on_real_radiographs(real_data: Path, tmp_path: Path) -> None:
    run = study(real_data, tmp_path, 320)
    steps = read_json(run / "run.json")["steps"]["compress"]
    weights = {name.partition("-")[0]: w for name, w in steps["stores"].items()}
    assert weights["heartspot"]["values_per_image"] == 3200
    # the published claim is 11×, for one image; here it is the whole set, bit for bit recoverable
    assert steps["jpeg95_bytes_per_image"] / weights["heartspot"]["bytes_per_image"] >= 11
    warnings = [w["text"] for w in read_json(run / "run.json")["warnings"]]
    assert any("intervals are wide" in w for w in warnings)
    assert (run / "report.html").stat().st_size > 20_000
