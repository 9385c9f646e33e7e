"""Fused runs of a whole flow, and the plain oracle that they are tested against."""
