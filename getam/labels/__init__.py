"""From class maps to one label per pixel.

steps             all steps in their order, for both modes and any device
photo_batch       labels photos of one size together, on one device
pamr              refines maps so that they follow the edges of the image
pamr_kernels      PAMR on a GPU
normalise         brings the maps of an image to one scale
completion        label completion of one image, on a CPU
completion_batch  label completion of a batch, on a GPU
crf               dense CRF
saliency          saliency maps from a folder, an ONNX model or the foreground stage
patch_foreground  separates objects from background by the patch features of a ViT
patch_classes     names the class of each object patch
"""
