"""From class maps to one label per pixel.

steps             the order of all steps, for both modes and any device
pamr, normalise   maps along the edges of the image; maps of one scale
completion        activation-aware label completion; ``completion_batch`` is its form for a GPU
crf               dense CRF
saliency          the sources of saliency, and the ONNX model
patch_foreground  object or background, by the patch features of a ViT
"""
