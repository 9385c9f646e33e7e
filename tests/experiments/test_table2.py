"""What the second table shows its networks."""

import torch

from hdnn.experiments.table2 import CELLS, moved


def test_moved_images_are_the_image_and_its_four_neighbours():
    x = torch.rand(2, 1, 5, 6) + 1.0
    parts = moved(x).reshape(5, 2, 1, 5, 6)
    dark = x.min()
    assert torch.equal(parts[0], x)
    for part, shift in zip(parts[1:], ((1, 0), (-1, 0), (0, 1), (0, -1)), strict=True):
        expected = torch.roll(x, shift, dims=(2, 3))
        row = {1: 0, -1: -1}.get(shift[0])
        column = {1: 0, -1: -1}.get(shift[1])
        if row is not None:
            expected[:, :, row] = dark
        if column is not None:
            expected[..., column] = dark
        assert torch.equal(part, expected)


def test_the_horizon_does_not_depend_on_the_depth_where_fields_grow_with_the_weights():
    assert {config.step * config.layers for cell, config in CELLS.items() if cell.endswith(("/h2", "/h1-j2"))} == {0.5}
