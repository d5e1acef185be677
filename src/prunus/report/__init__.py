"""What is shown of results and inspections: HTML pages, and tables as text."""

from prunus.report.html import write_federation, write_inspection, write_report, write_study
from prunus.report.inspection import Inspection, inspection
from prunus.report.table import arms_markdown, arms_table, levels_table

__all__ = [
    "Inspection",
    "arms_markdown",
    "arms_table",
    "inspection",
    "levels_table",
    "write_federation",
    "write_inspection",
    "write_report",
    "write_study",
]
