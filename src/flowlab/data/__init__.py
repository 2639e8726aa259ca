"""Data sets: functions that give `Data`, each in a file of its own."""

from flowlab.data.data import Data, Points, dequantized
from flowlab.data.images import digits, images
from flowlab.data.table import table
from flowlab.data.toy import toy

__all__ = ["Data", "Points", "dequantized", "digits", "images", "table", "toy"]
