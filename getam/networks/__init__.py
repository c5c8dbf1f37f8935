"""The networks, how they are built, kept and applied.

build       classifier, DeepLab and end-to-end network by name; saving and loading
decoders    what turns the patch features of a ViT into a segmentation
inference   photos of any size to class probabilities; ``tiling`` cuts large ones
precision   bfloat16 and float16
onnx        the network as an ONNX file
"""
