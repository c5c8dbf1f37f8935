"""From class maps to one label per pixel, and how far to trust it.

The labels
    steps             all steps in their order, for both modes and any device
    photo_batch       labels photos of one size together, on one device
    pamr              refines maps so that they follow the edges of the image; pamr_kernels on a GPU
    normalise         brings the maps of an image to one scale
    completion        label completion of one image, on a CPU; completion_batch on a GPU
    crf               dense CRF; permutohedral is its filter
    own_classes       what a network says about a photo whose classes are known
    refined_maps      what refinement makes of class maps, measured against masks

Where objects are
    saliency          saliency maps from a folder, an ONNX model or the foreground stage
    salient_photos    the salient pixels of photos as images
    patch_foreground  separates objects from background by the patch features of a ViT
    patch_classes     names the class of each object patch
    patch_instances   learns from image-level labels which patches tell a class
    patch_objects     learns what is object in the photos of each class
    patch_finder      puts these together

Doubt, without masks
    readout           linear readouts of patch features that have not seen the photo
    label_agreement   one figure that ranks label sets
    photo_doubt       how doubtful the final mask and the labels of a photo are
    label_odds        how likely an image-level label is wrong
"""
