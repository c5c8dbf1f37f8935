"""Data sets: one file per kind, all read through the same index.

What a data set is
    index         images with ids, image-level labels, optional masks and saliency maps
    folder        the kind folder: images/, a label table, and what else there may be
    voc           PASCAL VOC 2012
    coco          MS COCO, with coco_classes and coco_outlines
    shapes        the embedded example

Its tables and lists
    label_table   labels.csv and labels.json; label_lines and class_columns read their lines
    class_names   how class names are compared, ordered and refused
    photo_lists   lists of photos, a name a line
    splits        the lists train and val, or a stable division
    review        what a review changes; review_table reads review.csv
    corrections   masks that were corrected by hand; sample_check: can a random sample measure
    label_values  what the values of a label image mean

Files with pixels
    files         finds the image files of a data set
    images        reads photos; heic and intensity read special ones
    masks         reads masks and saliency maps
    palette       writes label images

Checks before a run
    check         counts, pairs, sizes, values; what it says is in set_notes, deep_photos, unread
    broken_off    photos whose file breaks off in the middle
    mask_labels   masks that contradict the image-level labels
    teaching      labels that cannot teach what they should

On the way to a network
    sampling      some of many photos, at equal distances
    ahead         threads that read before, and write behind, the work on photos
    alike         gathers photos that can be computed together
    kept          small photos stay in memory during a training
    transforms    images to network inputs, as for maps and tests
    augmentation  the same, changed at random for training
    resizing      resizes photos and probabilities without torch
"""
