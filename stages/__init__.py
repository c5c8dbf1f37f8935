"""The method, one file per stage, in the order they run.

data            the embedded example's images, made by a seed (your own folder needs no stage)
classifier      a ViT learns the image-level labels
maps            GETAM shows where each labelled class is
pseudolabels    maps, refined and completed, become one label per pixel
deeplab         a segmentation network learns from the pseudo labels
endtoend        instead of these four: one network makes its labels and learns from them
evaluation      one table over everything that can be measured

``chain`` says what each stage needs and reads; ``common`` is what they share.
"""
