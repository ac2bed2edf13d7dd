"""Run folder → one self-contained HTML page; reads files only, loads no torch."""

from translucid.report.page import write_report
from translucid.report.verdict import headline, verdict

__all__ = ["headline", "verdict", "write_report"]
