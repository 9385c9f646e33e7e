"""Sequences as data sets: every step once, in its place, with a mark at the last; and nothing of the test part."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdnn.data import SequenceEncoder, Steps, TableEncoder, encoder_from_dict, sequences, time_series
from hdnn.data.dialect import Dialect
from hdnn.data.sequence_sets import read_sequences, steps_of_table


def table(lengths, seed=0):
    generator = np.random.default_rng(seed)
    rows = [(f"s{k}", t, generator.normal(), "ab"[k % 2], 3.0 * k) for k, T in enumerate(lengths) for t in range(T)]
    return pd.DataFrame(rows, columns=["id", "t", "x", "way", "size"])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_steps_are_in_order_whatever_the_order_of_the_rows(lengths, seed):
    frame = table(lengths)
    mixed = frame.sample(frac=1, random_state=seed % 2**31).reset_index(drop=True)
    steps, caution = steps_of_table(mixed, "id", "t", Dialect())
    assert not caution
    encoder = SequenceEncoder(TableEncoder.fit(frame[["x"]]), max(lengths))
    found = dict(zip(steps.names, encoder.encode(steps), strict=True))
    scaled = encoder.step.encode(frame)[:, 0]
    for name, rows in frame.groupby("id"):
        T = len(rows)
        np.testing.assert_array_equal(found[name][:T, 0], scaled[rows.index])
        assert not found[name][T:].any()
        np.testing.assert_array_equal(found[name][:, 1], np.eye(max(lengths))[T - 1])


def test_parts_are_whole_sequences_and_scales_are_those_of_training():
    frame = table([4, 7, 2, 9, 5, 3, 8, 6, 4, 4])
    data = sequences(frame, "size", sequence="id", time="t", task="regression", without=["way"])
    assert (len(data.x_train), len(data.x_test), data.x_train.shape[2]) == (8, 2, 2)
    assert data.x_train.shape[1] == data.x_test.shape[1] == 9
    numbers, marks = data.x_train[..., 0], data.x_train[..., 1]
    inside = np.arange(9) <= marks.argmax(1)[:, None]
    assert numbers[inside].mean() == pytest.approx(0, abs=1e-5)
    assert numbers[inside].std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(marks.sum(1), 1)
    assert data.noun == "sequences"
    sizes = np.sort(np.concatenate([data.target.decode(y) for y in (data.y_train, data.y_test)])[:, 0])
    np.testing.assert_allclose(sizes, 3.0 * np.arange(10), atol=1e-4)


def test_an_encoder_is_written_and_read():
    step = TableEncoder.fit(table([3])[["x"]])
    for encoder in (SequenceEncoder(step, 5), SequenceEncoder(step, 5, "id", "t")):
        assert encoder_from_dict(encoder.to_dict()) == encoder
    document = SequenceEncoder(step, 5, "id", "t").to_dict()
    for changed, words in (
        ({"longest": 0}, "at least one step"),
        ({"longest": 1.5}, "at least one step"),
        ({"time": ""}, "one that orders"),
        ({"sequence": 3}, "one that orders"),
        ({"more": 1}, "exactly the keys"),
        ({"step": None}, "table encoder"),
    ):
        with pytest.raises(ValueError, match=words):
            encoder_from_dict({**document, **changed})


def test_sequences_that_exceed_the_memory_together_are_refused(monkeypatch):
    monkeypatch.setattr("hdnn.data.sequence_encoder._MOST", 100)
    frame = table([60, 1])
    steps = Steps(frame, np.arange(61), np.array([60, 1]), ["a", "b"])
    with pytest.raises(ValueError, match="Cut long sequences"):
        SequenceEncoder(TableEncoder.fit(frame[["x"]]), 60).encode(steps)


def test_frames_are_left_as_they_are():
    frame = table([4, 7, 2, 9, 5, 3, 8, 6, 4, 4])
    before = frame.copy()
    sequences(frame, "way", sequence="id", time="t", without=["size"])
    pd.testing.assert_frame_equal(frame, before)


def ts(folder, rows, says="@targetLabel true"):
    file = folder / "x.ts"
    file.write_text("\n".join([says, "@data", *rows]) + "\n")
    return file


def test_a_target_that_never_changes_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"The target is 2\.5 in every training sequence of .*x\.ts: .* nothing to learn"
    ):
        time_series(ts(tmp_path, [f"{i},1,2:2.5" for i in range(10)]))
    assert time_series(ts(tmp_path, [f"{i},1,2:{i}" for i in range(10)])).task == "regression"


def test_an_empty_channel_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"channel 2 has no value in any training sequence, .* without that channel"):
        time_series(ts(tmp_path, [f"{i},1:?,?:{i}" for i in range(10)]))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["a"], "need at least 2 sequences; got 1. Add sequences"),
        (
            ["row"] * 4 + ["rows", "b"],
            r"'b' \(and 1 other class\) has a single sequence, .* leave its sequence out, or",
        ),
        (["a row"] * 3, "Every sequence has the class 'a row': .* Add sequences of another"),
    ],
)
def test_what_is_too_little_is_told_in_sequences(tmp_path, classes, message):
    says = f"@classLabel true {' '.join(sorted({*classes}))}" if " " not in classes[0] else "@classLabel true"
    with pytest.raises(ValueError, match=message):
        time_series(ts(tmp_path, [f"{i},1,2:{each}" for i, each in enumerate(classes)], says))


def told(target, **columns):
    """Eight sequences of three steps, of which the second step says what is predicted."""
    s = len(target)
    frame = pd.DataFrame({"run": np.repeat(np.arange(s), 3), "t": np.tile(np.arange(3), s), "x": np.arange(3 * s) % 5})
    return frame.assign(k=[cell for each in target for cell in each], **columns)


@pytest.mark.parametrize("mark", ["?", "-", "-999", None])
def test_a_mark_in_the_target_of_a_step_says_nothing(mark):
    frame = told([(mark, "ab"[i % 2], mark) for i in range(8)])
    given = Dialect(missing=("-", "-999")) if mark in ("-", "-999") else Dialect()
    found = sequences(frame, "k", sequence="run", time="t", dialect=given)
    assert found.target.classes == ("a", "b")
    assert len(found.x_train) + len(found.x_test) == 8


def test_one_number_in_two_ways_is_one_target(tmp_path):
    frame = told([(f"{i % 2}", f"{i % 2}.0", "-") for i in range(8)])
    found = sequences(frame, "k", sequence="run", time="t")
    assert found.target.classes == ("0", "1")
    frame.to_csv(tmp_path / "new.csv", index=False)
    _, heads = read_sequences(tmp_path / "new.csv", found.encoder, Dialect(), found.target)
    assert found.target.encode(heads).tolist() == [0, 1] * 4
    with pytest.raises(ValueError, match="changes within sequence '0': '0' in data row 1 and '1' in data row 2"):
        sequences(told([("0", "1", "-")] * 8), "k", sequence="run", time="t")


@pytest.mark.parametrize("kind", [int, str])
def test_times_of_many_digits_are_told_apart(kind):
    frame = told([("a", "a", "a"), ("b", "b", "b")] * 4)
    frame["t"] = [kind(10**18 + t) for t in frame["t"]]
    steps, uneven = steps_of_table(frame.iloc[::-1].reset_index(drop=True), "run", "t", Dialect())
    assert steps.frame["t"].iloc[steps.order[:3]].tolist() == [kind(10**18 + t) for t in range(3)]
    assert not uneven
