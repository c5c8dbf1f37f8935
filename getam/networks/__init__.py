"""The networks: building, saving, loading and running them.

build        builds classifier, DeepLab and end-to-end network by name; saves and loads them
weights      loads weights from local files, and never runs code in them
description  network.json, which says how a saved network is built
decoders     the decoders that turn patch features of a ViT into a segmentation
inference    class probabilities of images of any size
tiling       labels of large photos, tile by tile
precision    computing in bfloat16 and float16
memory       what happens to freed memory: given back at once, or kept
onnx         exports a network as an ONNX file
"""
