"""The method: one file per stage. The settings decide which stages run.

data_shapes       generates the photos of the embedded example
data_coco         makes labels and masks from the annotations of MS COCO
classifier        trains a ViT on image-level labels
maps              computes where each labelled class is in each train photo (GETAM)
foreground        separates objects from background by the patch features of the classifier
pseudolabels      turns the maps of a photo into one label per pixel
encoder_features  stores the output of an encoder that is not trained
deeplab           trains a segmentation network on the pseudo labels
endtoend          trains one network for classes and segmentation, on labels that it makes itself
predictions       makes the final masks of all labelled photos with the trained network, and
                  predictions of the val photos, which use no labels
doubt             orders the photos by how doubtful their final masks and labels are
evaluation        measures all of this against masks, as one table
compare           measures map methods against each other, for the command of that name
agreement         measures how well labels can be predicted, for the command choose

``chain`` says which stages a stage needs, and which settings and data it reads. ``checks`` refuses
before the first stage what a stage would refuse later. ``shared`` holds the functions that several
stages use.
"""
