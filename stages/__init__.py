"""The method, one file per stage, in the order they run.

data            the embedded example's images, made by a seed (your own folder needs no stage)
classifier      a ViT learns the image-level labels
maps            GETAM shows where each labelled class is
foreground      where asked: object or ground by the classifier's own patch features
pseudolabels    maps, refined and completed, become one label per pixel
features        where asked: what an encoder that stays as it is makes of each image
deeplab         a segmentation network learns from the pseudo labels
endtoend        in place of classifier, maps, pseudolabels and deeplab, or of the classifier alone:
                one network that labels what it learns from
evaluation      one table over everything that can be measured

``chain`` says what each stage needs and reads; ``common`` is what they share, and ``saliency`` what
both ways to labels do. ``commands`` look at a run, or use what it made.
"""
