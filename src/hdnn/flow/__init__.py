"""The flow: N integration steps of y' = J ∂H/∂y as one PyTorch module."""

from hdnn.flow.memory import Memory
from hdnn.flow.module import Backend, Flow

__all__ = ["Backend", "Flow", "Memory"]
