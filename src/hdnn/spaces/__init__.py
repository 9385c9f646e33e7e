"""Spaces: what a state is, and how weights act on it: vectors, images, signals, the nodes of a graph."""

from hdnn.spaces.choice import space_of as space_of
from hdnn.spaces.graph import Graph
from hdnn.spaces.grids import Images, Signals
from hdnn.spaces.space import Space as Space
from hdnn.spaces.vectors import VECTORS as VECTORS
from hdnn.spaces.vectors import Vectors

__all__ = ["Graph", "Images", "Signals", "Space", "Vectors"]
