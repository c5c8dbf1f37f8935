"""Class maps: where a classifier sees each class.

compute     ``compute_maps``, the public function, and the methods by name
attention   the attention of one block, as a function of its input
recorder    what each block's attention was in a forward pass, and the gradient at it
unchanged   which parts of a model are still as timm and torch define them
probe       class scores and their gradients, with the model left as it was
baselines   the other published methods, with the same signature
file        ``maps.h5``: the maps of a split on the patch grid
"""
