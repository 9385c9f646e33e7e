"""One flow over many processes, each of which owns some nodes of a network."""

from hdnn.distributed.halos import Traffic as Traffic
from hdnn.distributed.module import DistributedFlow as DistributedFlow
