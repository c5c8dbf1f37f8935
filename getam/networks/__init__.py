"""The networks: building, saving, loading and running them.

build            builds classifier, DeepLab and end-to-end network by name; saves and loads them
models           makes models of timm and segmentation-models-pytorch
weights          loads weights from local files, and never runs code in them
downloads        pretrained weights that timm downloads
hub_weights      weights of Hugging Face transformers, under timm's names
description      network.json, which says how a saved network is built
decoders         the decoders that turn patch features of a ViT into a segmentation
patch_dropout    a ViT that is trained on a part of the patches of each photo
inference        class probabilities of images of any size
encoder_outputs  outputs of the encoder, beside the probabilities of the pixels
tiling           labels of large photos, tile by tile
precision        computing in bfloat16 and float16; processor: which CPUs are faster in bfloat16
threads          how many threads torch computes with
memory           what happens to freed memory: given back at once, or kept
onnx             exports a network as an ONNX file
"""
