"""Remake a result of the papers: `hdnn reproduce`."""

import json
import re
import shlex
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from hdnn.cli.messages import say, show
from hdnn.cli.options import DATA, OUTPUT, AsJson, option


def reproduce(
    name: Annotated[str | None, typer.Argument(help="Which result; --list shows all.")] = None,
    list_all: Annotated[bool, option(None, "Show all results that can be remade.", "--list", default="off")] = False,
    seeds: Annotated[
        str | None, option(None, 'Seeds: "10" is 0 to 9, "0-9" the same, "3,5,8" these.', default="as published")
    ] = None,
    cells: Annotated[
        list[str] | None, option(None, 'Pattern of cells, as "swiss-roll/*"; may be repeated.', default="all")
    ] = None,
    jobs: Annotated[int, option(None, "Processes, each on one thread; results do not depend on it.")] = 1,
    shard: Annotated[
        str | None, option(None, 'Part of the work, "2/8" the second of eight; without it, the verdict.', default="all")
    ] = None,
    smoke: Annotated[
        bool, option(None, "Small runs in seconds, to see that all works.", "--smoke", default="off")
    ] = False,
    data_folder: Annotated[
        Path | None, option(DATA, "Where data files are, for table2 the MNIST files.", default="the cache of the user")
    ] = None,
    output: Annotated[
        Path | None, option(OUTPUT, "Folder of the results.", "--output", "-o", default="reproductions/NAME")
    ] = None,
    overwrite: Annotated[
        bool, option(OUTPUT, "Forget what the folder holds of these cells.", "--overwrite", default="off")
    ] = False,
    publish: Annotated[
        Path | None, option(OUTPUT, "Write a dated copy of the verdict to this folder, too.", default="none")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remake a result of the papers, with seeds and spreads; an interrupted reproduction goes on where it stopped."""
    from hdnn.experiments import TITLES, load

    if list_all or name is None:
        show_all(TITLES, as_json)
        return
    chosen = None if seeds is None else read_seeds(seeds)
    part = None if shard is None else read_shard(shard, overwrite=overwrite, publish=publish is not None)
    experiment = load(name)
    from hdnn.display import Display
    from hdnn.experiments import verdict
    from hdnn.experiments.laboratory import reproduce
    from hdnn.experiments.places import require_place

    folder = output or Path("reproductions") / (f"{name}-smoke" if smoke else name)
    dated = f"{date.today():%Y-%m-%d}-{name}"
    require_place(folder, "verdict", experiment, smoke=smoke)
    if publish is not None:
        require_place(publish, dated, experiment, smoke=smoke)
    command = shlex.join(["hdnn", *sys.argv[1:]])
    try:
        with Display() as display:
            done = reproduce(
                experiment,
                folder,
                seeds=chosen,
                cells=cells or (),
                jobs=jobs,
                smoke=smoke,
                data_folder=data_folder,
                overwrite=overwrite,
                shard=part,
                announce=display.cell,
            )
    except KeyboardInterrupt:
        say(f"What is done is kept in {folder}; the same command goes on from there.")
        raise
    if shard is not None:
        count = sum(map(len, done.records.values()))
        if as_json:
            show(json.dumps({"shard": shard, "folder": str(folder), "results": count}))
        say(f"Shard {shard} is done. {folder} holds {count} results; the same without --shard writes the verdict.")
        return
    page, text, *_ = verdict.write(done, folder, "verdict", command)
    if publish is not None:
        verdict.write(done, publish, dated, command)
    if as_json:
        show(json.dumps({**verdict.numbers(done), "report": str(page)}))
        return
    show(text.read_text(encoding="utf-8").replace("\u00a0", " "))  # a browser keeps words together by these spaces
    say(f"Report: {page}")


def show_all(titles: dict[str, str], as_json: bool) -> None:
    """Print names and titles."""
    if as_json:
        show(json.dumps(titles))
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        show(f"{name:{width}}  {title}")


def read_seeds(text: str) -> list[int]:
    """The seeds that "10", "0-9" or "3,5,8" mean.

    Raises:
        ValueError: if it means none.
    """
    if re.fullmatch(r"\d{1,6}", text) and int(text):
        return list(range(int(text)))
    found: list[int] = []
    for part in text.split(","):
        bounds = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip())
        if bounds is None or ("," not in text and "-" not in text) or int(bounds[2] or bounds[1]) < int(bounds[1]):
            raise ValueError(
                f'--seeds takes a number of seeds ("10"), a range ("0-9") or a list ("3,5,8"); got {text!r}.'
            )
        found.extend(range(int(bounds[1]), int(bounds[2] or bounds[1]) + 1))
    return found


def read_shard(text: str, *, overwrite: bool = False, publish: bool = False) -> tuple[int, int]:
    """The part that "2/8" means, counted from 1.

    Raises:
        ValueError: if it means none, or goes with other options that concern all parts.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(
            f'--shard takes one part of several, counted from 1, "1/4" to "4/4" for all of four; got {text!r}. In a '
            f"Slurm array of 1-4 that is $SLURM_ARRAY_TASK_ID/4."
        )
    if overwrite:
        raise ValueError(
            "--overwrite forgets what the folder holds, and with --shard that is what other shards have just done. "
            "Give another --output in its place."
        )
    if publish:
        raise ValueError(
            "--publish writes the verdict, which is of all shards. Leave it out; the same without --shard, once all "
            "are done, may have it."
        )
    return int(found[1]), int(found[2])
