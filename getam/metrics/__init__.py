"""Measures of quality.

segmentation     IoU of label images and of maps at many thresholds
classification   average precision, F1
chance           whether class scores are better than luck
bootstrap        intervals of figures that come from a sample of photos
faithfulness     insertion and deletion curves of class maps
localisation     pointing game and energy of class maps inside masks
controls         the random map and the centre prior that class maps are compared with
"""
