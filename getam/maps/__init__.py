"""Class maps: where in an image a classifier finds evidence for each class.

compute     ``compute_maps``, the public function, and the methods by name
attention   the attention of one block, as a function of its input
recorder    records the attention of each block in a forward pass, and its gradient
unchanged   tells which parts of a model are still as timm and torch define them
probe       class scores and their gradients; the model stays unchanged
baselines   the other published methods, with the same signature
file        ``maps.h5``: the maps of a split on the patch grid
"""
