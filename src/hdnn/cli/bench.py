"""How fast flows run here: `hdnn bench`."""

import json
from typing import Annotated

from hdnn.cli.messages import draw, show
from hdnn.cli.options import AsJson, option


def bench(
    threads: Annotated[int | None, option(None, "Processor threads.", default="PyTorch's own number")] = None,
    seconds: Annotated[float, option(None, "Seconds to measure for; making ready takes a few more.")] = 10.0,
    device: Annotated[str, option(None, "cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """How fast flows run here: forward and backward, fused beside eager, checked against float64."""
    from rich.console import Console

    from hdnn.bench import bench

    with Console(stderr=True).status("Making ready") as status:
        result = bench(
            seconds=seconds,
            threads=threads,
            device=device,
            announce=lambda regime: status.update(f"Measuring {regime}"),
        )
    if as_json:
        show(json.dumps(result))
        return
    from rich.table import Table

    table = Table("flow", "n·N·batch", box=None, pad_edge=False)
    fused = "native" if "native" in result else "triton"
    columns = {"eager_ms": ".3f", f"{fused}_ms": ".3f", "ratio": ".1f", "eager_error": ".0e", f"{fused}_error": ".0e"}
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    for row in result["regimes"]:
        numbers = ["–" if row[name] is None else f"{row[name]:{form}}" for name, form in columns.items()]
        table.add_row(row["model"], f"{row['features']}·{row['layers']}·{row['batch']}", *numbers)
    draw(table)
    show(
        f"Forward + backward of a batch through N layers of n features, {result['dtype']},\n"
        f"threads: {result['threads']}. The fastest of interleaved calls; the largest relative error\n"
        f"of loss and gradients, against float64.\n{fused.capitalize()}: {result[fused]}."
    )
