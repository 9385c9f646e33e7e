"""Sequences as data sets: files of .ts, and tables of one row a step.

Legend: s sequences, T steps of the longest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hdnn.data import reading, tables
from hdnn.data.cells import label_of, texts
from hdnn.data.columns import Numeric
from hdnn.data.dataset import Dataset, split
from hdnn.data.dialect import Dialect
from hdnn.data.encoders import TableEncoder
from hdnn.data.inputs import inputs, without_columns
from hdnn.data.kinds import kinds
from hdnn.data.overview import Described, described
from hdnn.data.sequence_encoder import SequenceEncoder, Steps
from hdnn.data.series import Series, read_ts, times_of
from hdnn.data.targets import TargetEncoder, Task
from hdnn.doors import shelled
from hdnn.names import count, few, unknown

if TYPE_CHECKING:
    import pandas as pd

_TRAIN, _TEST = "_train", "_test"  # what the names of an official pair end with, before .ts
_EVEN = 1e-6  # of the usual time between two steps: what rounding makes of even times


def time_series(path: str | os.PathLike[str], *, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Make a file of .ts into a data set; NAME_TRAIN.ts with NAME_TEST.ts beside it keeps to that split.

    Args:
        path: The file, with labels or numbers to predict, see `read_ts`.
        test_fraction: Share of the test part, where there is no other file.
        seed: Of the split, where there is no other file.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If one is damaged or says nothing to predict, or the two do not fit each other.
    """
    place = Path(path)
    other = _partner(place)
    found = read_ts(place)
    steps, answers = steps_of(found), answers_of(found, place)
    if other is None:
        labels = answers["class"].to_numpy() if "class" in answers else None
        train, test = _split(len(answers), test_fraction, seed, labels)
        tested, others, parts = steps, answers, (train, test)
        how = f"split by seed {seed}{'' if labels is None else ', stratified'}"
    else:
        official = read_ts(other)
        tested, others = steps_of(official), answers_of(official, other)
        if list(tested.frame) != list(steps.frame) or list(others) != list(answers):
            raise ValueError(f"{other} does not fit {place}: they have other channels, or other things to predict.")
        parts = np.arange(len(answers)), np.arange(len(others))
        how = f"{other.name} is the test part"
    name = answers.columns[0]
    fitted = steps.frame.iloc[steps.rows(parts[0])]
    channels = [str(each) for each in steps.frame]
    for k, each in enumerate(channels, start=1):
        if fitted[each].isna().all():
            raise ValueError(
                f"{place}: channel {k} has no value in any training sequence, so there is nothing to scale by or to "
                f"fill gaps with. Write the file without that channel."
            )
    encoder = SequenceEncoder(
        TableEncoder(tuple(Numeric.fit(each, fitted[each]) for each in channels)), int(steps.lengths[parts[0]].max())
    )
    if name == "target" and answers[name].iloc[parts[0]].nunique() < 2:
        value = label_of(answers[name].iloc[parts[0][0]])
        raise ValueError(
            f"The target is {value} in every training sequence of {place}: there is nothing to learn. Choose another "
            f"file."
        )
    target = TargetEncoder.fit_classes(answers[name].iloc[parts[0]]) if name == "class" else None
    target = target or TargetEncoder.fit_numbers(answers.iloc[parts[0]])
    made_up = encoder.step.report(steps.frame)
    notes = [how, *filter(None, [made_up.description])]
    columns = [Described(name, target.task, "target", None, _examples(answers[name]))]
    columns += [
        Described(each, "numbers", "input", made_up.missing.get(each, 0), _examples(steps.frame[each]))
        for each in channels
    ]
    cautions = () if other else _alone(place)
    return _dataset(place.stem, encoder, target, ((steps, answers), (tested, others)), parts, notes, cautions, columns)


def _split(
    s: int, test_fraction: float, seed: int, labels: NDArray[Any] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`split` of whole sequences, and what it refuses in words for them."""
    try:
        return split(s, test_fraction=test_fraction, seed=seed, labels=labels)
    except ValueError as error:
        said, shell = (_of_whole(text) for text in (str(error), getattr(error, "shell", None) or str(error)))
        raise shelled(ValueError(said), shell) from error


def _of_whole(text: str) -> str:
    """A sentence on rows, of sequences; names in quotes stay as they are."""
    text = text.replace(" out of the table, or", " out, or")
    return re.sub(r"'[^']*'|\brow(?=s?\b)", lambda found: "sequence" if found[0] == "row" else found[0], text)


def sequences(
    path: str | os.PathLike[str] | pd.DataFrame,
    target: str,
    *,
    sequence: str,
    time: str,
    test_fraction: float = 0.2,
    seed: int = 0,
    task: Task | None = None,
    columns: Sequence[str] | None = None,
    without: Sequence[str] = (),
    dialect: Dialect | None = None,
) -> Dataset:
    """Make a table of one row a step into a data set; whole sequences are held out for testing.

    Args:
        path: A table for `read_table`, or the table itself.
        target: The column to predict, which says one thing of each sequence: wherever it is filled, the same.
        sequence: The column that names the sequences.
        time: The column that orders the steps of each, of numbers or dates.
        test_fraction: Share of the sequences in the test part; classes keep their mix.
        seed: Seed of the split.
        task: "classification" or "regression", to decide what the target is.
        columns: The input columns of a step; all but the three above that can help, if not given.
        without: Columns to leave out.
        dialect: What is said of how the file is written.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is absent, unusable or holds bad values, two steps of a sequence have one time, the
            target changes within a sequence, or there is nothing to learn.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame([(i, t, i % 2 + 0.1 * t, "ab"[i % 2]) for i in range(10) for t in range(3 + i)],
        ...                      columns=["run", "hour", "level", "kind"])
        >>> sequences(frame, "kind", sequence="run", time="hour").description
        "table: 10 sequences, 8 for training and 2 for testing; classification (2 classes); 3 to 12 steps; target \
'kind': text, so classes; split by seed 0, stratified; columns: level"
    """
    given = dialect or Dialect()
    title, read = tables.opened(path, given)
    steps, uneven = steps_of_table(read.frame, sequence, time, given)
    special = tables.target_columns(read.frame, target)
    if target in (sequence, time) or sequence in (columns or ()):
        name = target if target in (sequence, time) else sequence
        raise ValueError(f"Column {name!r} names or orders the steps, and is asked for as something else as well.")
    dropped = without_columns(read.frame, without, [target, sequence, time, *(columns or ())])
    dropped += [sequence, *([] if time in (columns or ()) else [time])]
    frame = read.frame.drop(columns=dropped)
    found = kinds(frame, given, read.separator)
    heads = _heads(frame, target, steps, tables.said_of(target, frame, found[target]))
    aim = tables.aim_of(heads, special, task, found)
    answered, labels, left_out = tables.answered(heads, aim)
    places = np.flatnonzero(answered)
    train, test = _split(len(places), test_fraction, seed, labels)
    train, test = places[train], places[test]
    used = inputs(frame, found, np.sort(steps.rows(train)), columns=columns, targets=special)
    encoder = SequenceEncoder(used.encoder, int(steps.lengths[train].max()), sequence, time)
    if aim.task == "regression":
        tables.require_spread(heads, aim, train)
    fitted = aim.fitted(heads.iloc[train])
    made_up = encoder.step.report(frame[list(encoder.names)])
    notes = [
        aim.reason, f"split by seed {seed}{'' if labels is None else ', stratified'}",
        *(each.replace("row", "sequence") for each in left_out), *read.notes,
        *([f"left out: {used.dropped}"] if used.dropped else []), f"columns: {few(encoder.names)}",
        *filter(None, [made_up.description]),
    ]  # fmt: skip
    seen = described(frame, found, encoder.names, special, made_up.missing)
    both = ((steps, heads),) * 2
    return _dataset(title, encoder, fitted, both, (train, test), notes, (uneven,) if uneven else (), list(seen))


def read_sequences(
    path: Path, encoder: SequenceEncoder, given: Dialect, target: TargetEncoder | None = None
) -> tuple[Steps, pd.DataFrame]:
    """The sequences of a file as an encoder reads them, and one row for each, with its answer if a target is given.

    Args:
        path: A file of .ts, or a table with the columns of the encoder, as it was fitted to.
        encoder: Of the steps.
        given: How a table is written.
        target: Of the answers.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is of the other kind, damaged, or has no such columns.
    """
    import pandas as pd

    if bool(encoder.sequence) == (path.suffix.lower() == ".ts"):
        wanted = f"a table of one row a step with {encoder.sequence!r} and {encoder.time!r}" if encoder.sequence else ""
        raise ValueError(f"{path} is not what the run learned from. Give {wanted or 'a .ts file'}.")
    if not encoder.sequence:
        found = read_ts(path)
        if (channels := found.values[0].shape[1]) != len(encoder.names):
            raise ValueError(f"{path} has {count(channels, 'channel')}, and the run learned from {len(encoder.names)}.")
        if target is None:
            return steps_of(found), pd.DataFrame(index=range(len(found.values)))
        answers = answers_of(found, path)
        if list(answers) != list(target.columns):
            raise ValueError(f"{path} says a {answers.columns[0]} of each series, and the run a {target.columns[0]}.")
        return steps_of(found), answers
    columns = (*encoder.names, encoder.sequence, encoder.time, *(() if target is None else target.columns))
    frame = pd.concat(list(reading.parts(path, columns, given)), ignore_index=True)
    steps, _ = steps_of_table(frame, encoder.sequence, encoder.time, given)
    if target is None:
        return steps, pd.DataFrame(index=range(len(steps.lengths)))
    tables.target_columns(frame, target.columns)
    return steps, _heads(frame, target.columns[0], steps, target.labels(frame))


def steps_of(found: Series) -> Steps:
    """Series as a table of their steps, with a column for each channel."""
    import pandas as pd

    values, lengths = np.concatenate(found.values), np.array([len(each) for each in found.values])
    frame = pd.DataFrame(values, columns=[f"channel{k + 1}" for k in range(values.shape[1])])
    return Steps(frame, np.arange(len(frame)), lengths, [])


def answers_of(found: Series, place: Path) -> pd.DataFrame:
    """What is said of each series, in a column "class" or "target"."""
    import pandas as pd

    if found.targets is None:
        raise ValueError(
            f"{place} says nothing of its series to be learned: it has no @classLabel true and no @targetLabel true. "
            f"Such a file can be predicted with a run."
        )
    return pd.DataFrame({"class" if found.targets.dtype.kind == "U" else "target": found.targets})


def steps_of_table(frame: pd.DataFrame, sequence: str, time: str, given: Dialect) -> tuple[Steps, str]:
    """The sequences of a table, in the order of their first rows, and a caution where their times are uneven.

    Raises:
        ValueError: If a column is absent or has gaps, the times are no numbers and no dates, or two steps have one.
    """
    if sequence == time:
        raise ValueError(f"`sequence` and `time` are two columns; got {time!r} for both.")
    for name, what in ((sequence, "sequence"), (time, "time")):
        if name not in frame.columns:
            free = [each for each in frame.columns if each not in (sequence, time)]
            raise ValueError(unknown(f"{what} column", name, free))
    codes, names = texts(sequence, frame[sequence])
    t = times_of(frame[[time]], given)
    for name, gaps in ((sequence, codes < 0), (time, np.isnan(t))):
        if gaps.any():
            raise ValueError(
                f"Column {name!r} is empty in {count(int(gaps.sum()), 'row')} (first: data row "
                f"{int(np.flatnonzero(gaps)[0]) + 1}), so nobody knows where those steps belong. Fill it in."
            )
    order = np.lexsort((t, codes))
    same = np.diff(codes[order]) == 0
    passed = np.diff(t[order])
    if (twice := same & (passed == 0)).any():
        place = int(np.flatnonzero(twice)[0])
        rows = sorted(int(row) + 1 for row in order[place : place + 2])
        raise ValueError(
            f"Sequence {names[codes[order[place]]]!r} has two steps of one {time!r}, rows {rows[0]} and {rows[1]}: "
            f"nobody knows which comes first. Correct a time, or delete a row."
        )
    steps = Steps(frame, order, np.bincount(codes, minlength=len(names)), names)
    return steps, _uneven(codes[order][1:][same], passed[same], time, len(names))


def _uneven(codes: NDArray[np.int64], passed: NDArray[np.float64], time: str, s: int) -> str:
    """A caution where the times between steps are not all the same."""
    if not len(passed):
        return ""
    usual = float(np.median(passed))
    odd = len(np.unique(codes[np.abs(passed - usual) > _EVEN * max(usual, float(np.abs(passed).max()))]))
    if not odd:
        return ""
    return (
        f"The steps of {odd} of {count(s, 'sequence')} are not evenly spaced in {time!r}, and a network sees their "
        f"order alone. If the time between them matters, add a column with it, or name {time!r} among the `columns`."
    )


def _heads(
    frame: pd.DataFrame, target: str, steps: Steps, said_of: tuple[NDArray[np.int64], list[str]]
) -> pd.DataFrame:
    """One row for each sequence: its first, with what the target says of it anywhere.

    Args:
        frame: The table.
        target: The column.
        steps: The sequences.
        said_of: What the target says in each row, as codes, -1 where nothing, and labels.

    Raises:
        ValueError: If it says two things.
    """
    codes, labels = said_of
    starts = steps.ends - steps.lengths
    owner = np.empty(len(frame), dtype=np.int64)
    owner[steps.order] = np.repeat(np.arange(len(starts)), steps.lengths)
    filled = np.flatnonzero(codes >= 0)
    first = steps.order[starts].copy()
    # The first filled row of each sequence: the last one written stays, so they are written backwards.
    first[owner[filled[::-1]]] = filled[::-1]
    if len(odd := filled[codes[filled] != codes[first[owner[filled]]]]):
        row, name = int(odd[0]), steps.names[owner[int(odd[0])]]
        rows = sorted((int(first[owner[row]]), row))
        said = " and ".join(f"{labels[codes[each]]!r} in data row {each + 1}" for each in rows)
        what = f"Target {target!r} changes within sequence {name!r}: {said}. One thing is predicted of a whole sequence"
        raise shelled(
            ValueError(
                f"{what}. For one at every step train `sequence_regressor(rnn, every=True)`, or leave `sequence` out."
            ),
            f"{what}. Name a target that stays the same, or leave out --sequence and --time to predict every row "
            f"by itself.",
        )
    heads: pd.DataFrame = frame.iloc[first].reset_index(drop=True)
    return heads


def _partner(place: Path) -> Path | None:
    """The test part that belongs to a training part; None where there is none."""
    stem = place.stem.lower()
    if stem.endswith(_TEST) and (pair := _beside(place, _TEST, _TRAIN)) is not None:
        raise ValueError(f"{place} is a test part. Give the training part, {pair}; the test part is found beside it.")
    return _beside(place, _TRAIN, _TEST) if stem.endswith(_TRAIN) else None


def _beside(place: Path, own: str, other: str) -> Path | None:
    wanted = f"{place.stem[: -len(own)]}{other}{place.suffix}".lower()
    return next((each for each in sorted(place.parent.glob("*")) if each.name.lower() == wanted), None)


def _alone(place: Path) -> tuple[str, ...]:
    """A caution where a training part has lost its test part."""
    if not place.stem.lower().endswith(_TRAIN):
        return ()
    return (f"There is no test part beside {place.name}, so a fifth of its own sequences is held out instead.",)


def _dataset(
    name: str,
    encoder: SequenceEncoder,
    target: TargetEncoder,
    both: tuple[tuple[Steps, pd.DataFrame], tuple[Steps, pd.DataFrame]],
    parts: tuple[NDArray[np.int64], NDArray[np.int64]],
    notes: Sequence[str],
    cautions: tuple[str, ...],
    columns: list[Described],
) -> Dataset:
    """Both parts encoded, all sequences as long as the longest."""
    lengths = np.concatenate([steps.lengths[part] for (steps, _), part in zip(both, parts, strict=True)])
    low, high = int(lengths.min()), int(lengths.max())
    (x, y), (x_test, y_test) = (
        (encoder.encode(steps.part(part), high), target.encode(answers.iloc[part].reset_index(drop=True)))
        for (steps, answers), part in zip(both, parts, strict=True)
    )
    said = (count(high, "step") if low == high else f"{low} to {high} steps", *notes)
    return Dataset(name, target.task, x, y, x_test, y_test, encoder, target, said, cautions, tuple(columns))


def _examples(column: pd.Series[Any]) -> tuple[str, ...]:
    found = dict.fromkeys(label_of(each) for each in column.dropna().iloc[:100])
    return tuple(list(found)[:3])
