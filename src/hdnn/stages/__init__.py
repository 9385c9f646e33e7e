"""Stages: networks of several resolutions are sequences of flows, and of small maps between them."""

from hdnn.stages.maps import Pool as Pool
from hdnn.stages.maps import Widen as Widen
from hdnn.stages.stage import Stage as Stage
from hdnn.stages.stages import Stages as Stages
