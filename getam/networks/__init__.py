"""The networks, how they are built, kept and applied.

build       classifier, DeepLab and end-to-end network by name; saving and loading
weights     weights from local files, which are never run
description network.json, which says how a saved network is built
decoders    what turns the patch features of a ViT into a segmentation
inference   photos of any size to class probabilities; ``tiling`` cuts large ones
precision   bfloat16 and float16
onnx        the network as an ONNX file
"""
