"""The benchmark of lost cells sees a loss where there is one."""

import lost_cells
from hdnn.experiments import load, store
from hdnn.experiments.laboratory import reproduce


def test_a_result_that_goes_or_changes_is_seen(tmp_path):
    checked = lost_cells.Checked(tmp_path)
    reproduce(load("counterexample"), tmp_path, seeds=range(3), cells=["ode"], smoke=True)
    checked.look()
    assert (len(checked.seen), checked.lost) == (3, set())
    gone, other = (store.path(tmp_path, "ode", seed) for seed in (0, 1))
    gone.unlink()
    other.write_text(other.read_text(encoding="utf-8").replace("1", "2"), encoding="utf-8")
    checked.look()
    assert checked.lost == {gone, other}


def test_where_a_process_was_killed_is_seen_by_what_it_left(tmp_path):
    places = [lost_cells.place(tmp_path, range(2))]
    for count in (1, 2):
        for cell in load(lost_cells.NAME).smoke:
            place = store.path(tmp_path, cell, count - 1)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        places.append(lost_cells.place(tmp_path, range(2)))
    assert tuple(places) == lost_cells.PLACES
