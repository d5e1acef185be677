"""What is shown of results and inspections: HTML pages, and tables as text."""

from prunus.report.html import (
    write_bench,
    write_federation,
    write_inspection,
    write_report,
    write_search,
    write_study,
)
from prunus.report.inspection import Inspection, inspection
from prunus.report.table import arms_markdown, arms_table, delivered_table, levels_table

__all__ = [
    "Inspection",
    "arms_markdown",
    "arms_table",
    "delivered_table",
    "inspection",
    "levels_table",
    "write_bench",
    "write_federation",
    "write_inspection",
    "write_report",
    "write_search",
    "write_study",
]
