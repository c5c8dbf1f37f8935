"""What the values of a label image mean, for every file and function of the project.

0 is background, 1..C are the classes in their order, 255 is no label: such a pixel is neither
learnt from nor counted.
"""

from __future__ import annotations

BACKGROUND = 0
IGNORE = 255
MOST_CLASSES = 254  # what is left between the two
