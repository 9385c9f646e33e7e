"""The report on the estimators says what was measured; the measuring itself is one of the slow tests."""

import pytest

import estimators


def results(scores, seconds):
    return {"scores": scores, "seconds": seconds}


def test_a_race_names_the_shortest_training_that_reaches_the_score():
    result = {
        "models": {estimators.RAW: results([0.8, 0.8, 0.8, 0.8, 0.8, 0.1], [2.0] * 6)},
        "shorter": {
            5: results([0.7] * 5, [0.25] * 5),
            10: results([0.8] * 5, [0.5] * 5),
            20: results([0.9] * 5, [1.0] * 5),
        },
    }
    assert estimators.time_to(result, estimators.RAW) == "10 epochs, 0.50 s against 2.00 s: 4.0 times as fast"
    result["shorter"] = {5: results([0.7] * 5, [0.25] * 5)}
    assert estimators.time_to(result, estimators.RAW) == "not reached in 40 epochs"


@pytest.mark.slow
def test_the_report_on_one_data_set():
    result = estimators.measure("iris", repeats=1)
    assert all(len(found["scores"]) == 5 for found in result["models"].values())
    known = {"date": "", "command": "", "processor": "", "cores": 1, "pinned": True, "system": "", "python": ""}
    lines = estimators.report({**known, "versions": {}, "native backend": "", "commit": ""}, {"iris": result}, 1)
    assert any(line.startswith("| iris, 150 x 4 | 0.9") for line in lines)
