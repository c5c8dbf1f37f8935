"""Masks on the way to annotation tools and back.

batch                           photos with their labels, as the writers get them
archive                         archives that tools write
copies                          copies of the photos for a tool, and the names of photos in a tool
coco_json, polygons             COCO: one JSON file, outlines as run lengths or polygons
voc_masks, voc_reading          PASCAL VOC: mask files in colours, and labelmap.txt; CVAT's format
label_studio, brush             Label Studio: tasks with brush masks
drawn                           what the readers give: masks in the label values of the data set
importing, target               from these to a folder of ID.png

The tools' own libraries are not needed: the formats are small. The tests compare with datumaro
(CVAT's library) and label-studio-sdk.
"""
