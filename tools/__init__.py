"""Programs for people who work on the project: measurements, goldens, the fault campaign, the training recipes."""

from pathlib import Path

__all__ = ["ROOT"]

ROOT = Path(__file__).parents[1]  # of the repository
