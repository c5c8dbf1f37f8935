"""Class maps: where in an image a classifier finds evidence for each class.

compute     ``compute_maps``, the public function, and the methods by name
adapter     what the maps need to know of a model; make one for a model of your own
families    finds the adapter of a model of timm, torchvision, transformers or open_clip
huggingface the adapter of a model of transformers
attention   the attention of one block, as a function of its input
multihead   the attention inside ``nn.MultiheadAttention``
recorder    records the attention of each block in a forward pass, and its gradient
unchanged   tells which parts of a model are still as timm and torch define them
probe       class scores and their gradients; the model stays unchanged
baselines   the other published methods, with the same signature
legrad      LeGrad, which explains every block by itself
file        ``maps.h5``: the maps of a split on the patch grid
"""
