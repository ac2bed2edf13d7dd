"""All benchmarks one after the other: python -m benchmarks (`make bench`)."""

from __future__ import annotations

import subprocess
import sys

RUNS = {
    "The compiled wavelet packet against grouped convolutions": ["benchmarks.kernel", "--time"],
    "Training on codes against training on pixels": ["benchmarks.training"],
}


def main() -> int:
    """Run each in a process of its own; the exit status is the number that failed."""
    failed = 0
    for title, words in RUNS.items():
        print(f"\n{title}\n{'-' * len(title)}", flush=True)
        failed += subprocess.run([sys.executable, "-m", *words], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
