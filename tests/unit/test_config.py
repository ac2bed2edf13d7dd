"""Settings in, settings out; files whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from translucid.config import build, fingerprint, from_kind, override, read_json, whole_file, with_kind, write_json
from translucid.errors import ConfigError, InputError


@dataclass(frozen=True)
class Inner:
    size: int = 3
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    table: dict[str, Inner] = field(default_factory=dict)
    ratio: float | None = None


def test_nested_values_are_built() -> None:
    built = build(Outer, {"inner": {"names": ["a"]}, "table": {"x": {"size": 1}}, "ratio": 2})
    assert built == Outer(Inner(names=("a",)), {"x": Inner(1)}, 2.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"iner": {}}, "did you mean 'inner'"),
        ({"inner": {"sise": 1}}, "inner.sise is unknown"),
        ({"inner": {"size": "big"}}, "inner.size needs int, got str 'big'"),
        ({"inner": {"size": True}}, "inner.size needs int, got bool"),
        ({"table": {"x": 3}}, "table.x needs"),
    ],
)
def test_wrong_values_are_named(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(Outer, values)


def test_kind_round_trip() -> None:
    table = {"inner": Inner}
    assert from_kind(table, with_kind(table, Inner(5, ("a",))), "thing") == Inner(5, ("a",))
    with pytest.raises(ConfigError, match="unknown thing kind 'iner': did you mean 'inner'"):
        from_kind(table, {"kind": "iner"}, "thing")


def test_override_makes_tables_and_keeps_the_recipe() -> None:
    recipe = {"a": {"b": 1}}
    assert override(recipe, ["a.c=[1, 2]", "d.e=word", "a.b=true"]) == {
        "a": {"b": True, "c": [1, 2]},
        "d": {"e": "word"},
    }
    assert recipe == {"a": {"b": 1}}
    with pytest.raises(ConfigError, match="key=value"):
        override(recipe, ["a.b"])


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_json(target, {"v": float("nan")})
    with pytest.raises(RuntimeError), whole_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"v": None}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_missing_json_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has the step before it been run"):
        read_json(tmp_path / "run.json")


def test_fingerprint_sees_values_not_order() -> None:
    assert fingerprint(Outer(ratio=1.0)) == fingerprint(Outer(ratio=1.0)) != fingerprint(Outer(ratio=2.0))
