"""A report of a fitted search, as one HTML page."""

from sklearn_iis.inspection.report._write import write_report

__all__ = ["write_report"]
