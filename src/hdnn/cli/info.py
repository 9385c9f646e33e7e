"""What runs here: `hdnn info`."""

import json

from hdnn.cli.messages import draw, show
from hdnn.cli.options import AsJson
from hdnn.names import printable


def info(as_json: AsJson = False) -> None:
    """Versions, devices and backends of this installation."""
    from hdnn.info import info

    facts = info()
    if as_json:
        show(json.dumps(facts))
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        lines = [f"{key} {item}" for key, item in value.items()] if isinstance(value, dict) else value
        table.add_row(name, printable("\n".join(lines) if isinstance(lines, list) else str(lines)))
    draw(table)
