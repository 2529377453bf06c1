"""What a run did, as frozen data, and the files it is written to.

The formats: JSON (``schema.json`` beside this file describes it), JSON Lines, CSV, Markdown, and
one HTML page that works from disk. `write` picks by the file's ending.
"""

from restorecli.report.data import (
    SCHEMA_VERSION,
    Comparison,
    LabelledPicture,
    Report,
    Row,
    Settings,
    StepScores,
    Summary,
    json_schema,
    summarise,
)
from restorecli.report.write import (
    FORMATS,
    check_destination,
    image_line,
    json_lines,
    summary_line,
    write,
)

__all__ = [
    "FORMATS",
    "SCHEMA_VERSION",
    "Comparison",
    "LabelledPicture",
    "Report",
    "Row",
    "Settings",
    "StepScores",
    "Summary",
    "check_destination",
    "image_line",
    "json_lines",
    "json_schema",
    "summarise",
    "summary_line",
    "write",
]
