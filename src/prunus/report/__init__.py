"""What is shown of a result document: one HTML page, and the table of its arms as text."""

from prunus.report.html import write_report
from prunus.report.table import arms_markdown, arms_table

__all__ = ["arms_markdown", "arms_table", "write_report"]
