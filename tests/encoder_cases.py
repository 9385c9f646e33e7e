"""Encoders of every kind that tests of encoding and of their files use."""

import pandas as pd

from hdnn.data import ImageEncoder, TableEncoder, TargetEncoder

TRAIN = pd.DataFrame({"age": [20.0, None, 40.0, 60.0], "town": ["Bern", "Lund", None, "Bern"], "vip": [True] * 4})
TABLE = TableEncoder.fit(TRAIN)
IMAGE = ImageEncoder(0.1307, 0.3081)
CLASSES = TargetEncoder(("t",), classes=("a", "b"))
NUMBERS = TargetEncoder(("t", "u"), mean=(1.0, 2.0), scale=(1.0, 0.5))
